"""Checks for known problems. Each check is a small function that returns findings."""
