"""Hide private columns, and read the key of one row as people type it."""
