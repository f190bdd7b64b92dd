"""`penstock monitor`: compare what runs have scored."""
