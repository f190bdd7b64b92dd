"""`penstock monitor`: watch what runs have scored."""
