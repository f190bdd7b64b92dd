"""Prefect tasks: a name, retries, a timeout, and one call to a room below."""
