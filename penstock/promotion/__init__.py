"""Promotions: what a challenger must show, who approves, and the move of the alias."""
