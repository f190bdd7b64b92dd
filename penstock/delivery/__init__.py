"""Carry the live rows to other systems, and take them back there when they are live no more."""
