"""What is known to break, looked for: each check is a small function that returns findings."""
