"""Who is measured: each module does a workload's work in its own way."""
