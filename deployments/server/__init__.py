"""A Prefect server that Penstock starts, and what is mended in it."""
