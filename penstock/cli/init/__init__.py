"""`penstock init`: a new project that runs at once, on made-up data."""
