"""The candidates. Each module does a workload's work in its own way."""
