"""Reasons of scores, and everything that is known of one score."""
