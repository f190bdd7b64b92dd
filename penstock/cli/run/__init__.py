"""`penstock run`: score what is due, in this process."""
