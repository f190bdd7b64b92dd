"""`penstock check`: find what would fail in a run."""
