"""Measure Penstock beside what one would do without it: `make bench`."""
