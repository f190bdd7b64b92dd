"""`penstock monitor`: what the scores and their inputs do after they are published."""
