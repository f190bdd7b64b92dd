"""Measure workloads: `python -m benchmarks [--workload W1] [--rows N] [--rounds N] [--write]`."""

import argparse

from benchmarks.candidate import Measured, run_candidate, run_module
from benchmarks.place import open_place
from benchmarks.results import show_table, write_results
from benchmarks.workloads import WORKLOADS, Workload


def measure(workload: Workload, rows: int, rounds: int) -> tuple[str, str]:
    """Let the candidates take turns; return a title and a table."""
    measured: dict[str, list[Measured]] = {name: [] for name in workload.candidates}
    with open_place(rows) as place:
        file = place.write()
        run_module(workload.prepare, place, file)
        for number in range(1, rounds + 1):
            for name, module in workload.candidates.items():
                workload.empty_destination(place, name)
                measured[name].append(run_candidate(module, place, file))
                one = measured[name][-1]
                figures = f"{one.seconds:7.2f} s {one.cpu_seconds:7.2f} s CPU {one.peak_mb:7.0f} MB"
                print(f"round {number}: {name:10} {figures}", flush=True)
            difference = workload.check(place)
    told = f"All candidates wrote {rows:,} rows; their scores differ by at most {difference:.1g}."
    return f"{workload.title}, {rows:,} rows", f"{show_table(measured)}\n\n{told}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Penstock side by side.")
    parser.add_argument("--workload", choices=[*WORKLOADS, "all"], default="all")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    asked = parser.parse_args()
    sections = {}
    for name in WORKLOADS if asked.workload == "all" else [asked.workload]:
        title, body = measure(WORKLOADS[name], asked.rows, asked.rounds)
        sections[f"{name}: {title}"] = body
        print(f"\n{name}: {title}\n\n{body}\n", flush=True)
    if asked.write:
        arguments = f"--workload {asked.workload} --rows {asked.rows} --rounds {asked.rounds} --write"
        print(f"wrote {write_results(sections, arguments)}")


if __name__ == "__main__":
    main()
