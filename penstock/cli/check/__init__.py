"""`penstock check`: what would fail, before it runs."""
