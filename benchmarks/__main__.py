"""Measure workloads side by side: `python -m benchmarks --help`."""

import argparse
import sys
from importlib.util import find_spec

from benchmarks.candidate import Measured, run_candidate, run_module
from benchmarks.check import check_scores
from benchmarks.place import Servers, open_servers
from benchmarks.ratios import TOLERANCE, Stored, find_regressions, read_stored, store
from benchmarks.results import ratios_of, show_table, write_results
from benchmarks.workload import NAMES, Workload, load


def main() -> None:
    asked = _parse()
    names = NAMES if "all" in asked.workload else asked.workload
    stored = read_stored()
    sections, worse = {}, list[str]()
    with open_servers() as servers:
        for name in names:
            workload = load(name).WORKLOAD
            known = stored.get(name)
            rows = asked.rows or (known.rows if asked.check and known else round(workload.rows * asked.scale))
            title, body, ratios = measure(servers, workload, rows, asked.rounds)
            sections[f"{name}: {title}"] = body
            print(f"\n{name}: {title}\n\n{body}\n", flush=True)
            if asked.check:
                worse += _compare(name, rows, ratios, known)
            if asked.write:  # after each workload, so that a later failure loses nothing
                store(name, rows, ratios)
                write_results(sections, f"python -m benchmarks {' '.join(sys.argv[1:])}")
    if worse:
        sys.exit("\n".join(worse))


def measure(servers: Servers, workload: Workload, rows: int, rounds: int) -> tuple[str, str, dict[str, float]]:
    """Run the candidates in turn. Return a title, a table and the ratios."""
    notes = [workload.left_out] if workload.left_out else []
    candidates = dict(workload.candidates)
    for name, module in workload.candidates.items():
        lacking = _lacks(module)
        if lacking:
            del candidates[name]
            notes.append(lacking)
            print(f"{name} is left out: {lacking}", flush=True)
    measured: dict[str, list[Measured]] = {name: [] for name in candidates}
    with servers.place(workload.name, workload.kind, rows, tuple(candidates)) as place:
        place.write()
        print(f"{workload.name}: filling the source with {rows:,} rows", flush=True)
        run_module("benchmarks.prepare", place, next(iter(candidates)))
        for number in range(1, rounds + 1):
            for name, module in candidates.items():
                measured[name].append(run_candidate(name, module, place))
                one = measured[name][-1]
                figures = f"{one.seconds:7.2f} s {one.cpu_seconds:7.2f} s CPU {one.peak_mb:7.0f} MB"
                print(f"round {number}: {name:10} {figures}", flush=True)
        written, difference = check_scores(place, workload, tuple(candidates))
    notes.insert(0, f"They wrote the same {written:,} rows; their scores differ by at most {difference:.1g}.")
    notes.append(f"Rounds: {rounds}.")
    table = show_table(workload, measured, rows)
    return f"{workload.title}, {rows:,} rows", "\n\n".join([table, " ".join(notes)]), ratios_of(workload, measured)


def _lacks(module: str) -> str:
    """Say which library a candidate lacks and how to install it. Empty if it can run."""
    if module != "benchmarks.candidates.ray_data" or find_spec("ray"):
        return ""
    from benchmarks.candidates.ray_data import HOW

    return HOW


def _compare(name: str, rows: int, ratios: dict[str, float], known: Stored | None) -> list[str]:
    if known is None:
        return [f"{name}: no ratios are stored; store them with --write"]
    if rows != known.rows:
        return [f"{name}: the stored ratios were measured with {known.rows:,} rows, not with {rows:,}"]
    worse = find_regressions(name, ratios, known)
    if not worse:
        print(f"{name}: no ratio is worse than the stored one by more than {TOLERANCE:.0%}", flush=True)
    return worse


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Penstock side by side.")
    parser.add_argument("--workload", nargs="+", choices=[*NAMES, "all"], default=["W1"])
    parser.add_argument("--rows", type=int, help="rows to score, instead of the workload's whole size")
    parser.add_argument("--scale", type=float, default=1.0, help="share of each workload's whole size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md and benchmarks/ratios.json")
    parser.add_argument("--check", action="store_true", help="fail if a ratio is worse than the stored one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
