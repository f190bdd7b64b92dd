"""Masking of private columns, and row keys as people type them."""
