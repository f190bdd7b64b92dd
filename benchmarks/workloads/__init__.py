"""The workloads. A new one is a module with `WORKLOAD`, `fill` and `work`, listed in `benchmarks.workload`."""
