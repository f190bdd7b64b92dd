"""`penstock ledger`: what the ledger says, and whether it and the rows are as they were written."""
