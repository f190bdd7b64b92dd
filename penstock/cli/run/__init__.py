"""`penstock run`: score the due intervals in this process."""
