"""`penstock deliver`: deliver to other systems, and list what they got."""
