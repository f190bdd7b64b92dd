"""Fixtures of the browser tests."""

from tests.e2e.stack import page, stack

__all__ = ["page", "stack"]
