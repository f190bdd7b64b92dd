"""`penstock models`: list, register and promote the versions in the model store, and show who promoted them."""
