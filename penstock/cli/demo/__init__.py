"""`penstock demo`: try Penstock on a made-up shop or a domain pack."""
