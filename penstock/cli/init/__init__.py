"""`penstock init`: make a new project that runs at once, on made-up data."""
