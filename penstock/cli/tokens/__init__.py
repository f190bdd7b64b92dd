"""`penstock tokens`: the tokens of the server's users."""
