"""Who may ask a server for what: bearer tokens with roles, hashed in a file."""
