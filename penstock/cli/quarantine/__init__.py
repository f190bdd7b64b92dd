"""`penstock quarantine`: the rows that were refused."""
