"""Seals of scored rows: keyed digests that a holder of the warehouse alone cannot make."""
