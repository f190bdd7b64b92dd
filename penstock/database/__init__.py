"""Reach databases: engines, driver errors, bulk reads and appends, and the types that rows have."""
