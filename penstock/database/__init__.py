"""Databases: engines, driver errors, bulk reads and appends, and column types."""
