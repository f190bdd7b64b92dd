"""The Prefect server that Penstock starts, and fixes for it."""
