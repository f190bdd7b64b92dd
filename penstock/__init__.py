"""The kernel of Penstock: decisions and data access. Knows neither Prefect nor XGBoost."""
