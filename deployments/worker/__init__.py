"""A Prefect worker that ends with the process that started it."""
