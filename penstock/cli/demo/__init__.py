"""`penstock demo`: the whole thing on a small shop, or on a domain pack."""
