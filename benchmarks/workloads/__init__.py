"""The workloads; a new one is a module with `WORKLOAD`, `fill` and `work`, and its name in `benchmarks.workload`."""
