"""W1: a batch from Postgres to Postgres, 20 numbers a row, 100 trees of depth 6, 8 expectations."""
