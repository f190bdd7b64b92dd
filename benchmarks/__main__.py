"""Measure workloads side by side: `python -m benchmarks --help`."""

import argparse
import sys
from collections.abc import Iterable

from benchmarks.check import check_scores
from benchmarks.peers import describe_lacking, has_environment, version_of
from benchmarks.place import Place
from benchmarks.ratios import TOLERANCE, Stored, find_regressions, is_busy, read_stored, store
from benchmarks.results import ratios_of, show_table, write_results
from benchmarks.runner import Measured, run_candidate, run_module
from benchmarks.servers import Servers, open_servers
from benchmarks.workload import NAMES, Workload, load

Rounds = dict[str, list[Measured]]


def main() -> None:
    asked = _parse()
    names = NAMES if "all" in asked.workload else asked.workload
    sections, worse, busy = {}, list[str](), is_busy()
    if asked.check and busy:
        print(
            "The machine is busy: ratios of processor time and memory are judged, those of seconds are not.", flush=True
        )
    with open_servers() as servers:
        for name in names:
            workload = load(name).WORKLOAD
            if asked.check or asked.store:
                worse += guard(servers, workload, asked.rounds, renew=asked.store, busy=busy)
                continue
            rows = asked.rows or round(workload.rows * asked.scale)
            title, body = measure(servers, workload, rows, asked.rounds)
            sections[f"{name}: {title}"] = body
            print(f"\n{name}: {title}\n\n{body}\n", flush=True)
            if asked.write:  # after each workload, so that a later failure loses nothing
                write_results(sections, f"python -m benchmarks {' '.join(sys.argv[1:])}")
    if worse:
        sys.exit("\n".join(worse))


def measure(servers: Servers, workload: Workload, rows: int, rounds: int) -> tuple[str, str]:
    """Run the candidates in turn. Return a title and a table."""
    lacking = {name: describe_lacking(name) for name in workload.candidates}
    candidates = [name for name, reason in lacking.items() if not reason]
    notes = [*filter(None, (workload.left_out, *lacking.values()))]
    notes += [f"*{name}* is {version_of(name)}." for name in candidates if has_environment(name)]
    measured: Rounds = {name: [] for name in candidates}
    with servers.place(workload.name, workload.kind, rows, tuple(candidates)) as place:
        _fill(place, workload)
        _run_rounds(place, workload, measured, range(1, rounds + 1))
        if workload.agree:
            written, difference = check_scores(place, workload, tuple(candidates))
            same = f"They wrote the same {written:,} rows; their scores differ by at most {difference:.1g}."
            notes.insert(0, same)
    notes.append(f"Rounds: {rounds}.")
    table = show_table(workload, measured, rows)
    return f"{workload.title}, {rows:,} rows", "\n\n".join([table, " ".join(notes)])


def guard(servers: Servers, workload: Workload, rounds: int, *, renew: bool, busy: bool) -> list[str]:
    """Compare the ratios at the workload's small size with the stored ones, without peers, or store them.

    A ratio that is worse is measured again, and the quietest of all rounds count. Return what is still worse.
    """
    name, rows = workload.name, workload.check_rows
    known = read_stored().get(name)
    if not renew and (known is None or known.rows != rows):
        return [f"{name}: no ratios of {rows:,} rows are stored; --store stores them"]
    measured: Rounds = {each: [] for each in workload.candidates if not has_environment(each)}
    with servers.place(name, workload.kind, rows, tuple(measured)) as place:
        _fill(place, workload)
        _run_rounds(place, workload, measured, range(1, rounds + 1))
        if workload.agree:
            check_scores(place, workload, tuple(measured))
        if renew or known is None:
            store(name, rows, ratios_of(workload, measured, rows))
            print(f"{name}: stored {ratios_of(workload, measured, rows)}", flush=True)
            return []
        worse = _compare(workload, measured, known, busy)
        if worse:
            print("\n".join([*worse, f"{name}: measuring again"]), flush=True)
            _run_rounds(place, workload, measured, range(rounds + 1, 2 * rounds + 1))
            worse = _compare(workload, measured, known, busy)
    if not worse:
        print(f"{name}: no ratio is worse than the stored one by more than {TOLERANCE:.0%}", flush=True)
    return worse


def _fill(place: Place, workload: Workload) -> None:
    place.write()
    print(f"{workload.name}: filling the source with {place.rows:,} rows", flush=True)
    run_module("benchmarks.prepare", place, next(iter(place.warehouses)))


def _run_rounds(place: Place, workload: Workload, measured: Rounds, numbers: Iterable[int]) -> None:
    for number in numbers:
        for name, rounds in measured.items():
            one = run_candidate(name, workload.candidates[name], place)
            rounds.append(one)
            figures = f"{one.seconds:7.2f} s {one.cpu_seconds:7.2f} s CPU {one.peak_mb:7.0f} MB"
            print(f"round {number}: {name:13} {figures}", flush=True)


def _compare(workload: Workload, measured: Rounds, known: Stored, busy: bool) -> list[str]:
    return find_regressions(workload.name, ratios_of(workload, measured, known.rows), known, busy)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Penstock side by side.")
    parser.add_argument("--workload", nargs="+", choices=[*NAMES, "all"], default=["W1"])
    parser.add_argument("--rows", type=int, help="rows to score, instead of the workload's whole size")
    parser.add_argument("--scale", type=float, default=1.0, help="share of each workload's whole size")
    parser.add_argument("--rounds", type=int, default=3)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    action.add_argument("--check", action="store_true", help="fail if a ratio at a small size is worse than stored")
    action.add_argument("--store", action="store_true", help="store the ratios at a small size for --check")
    return parser.parse_args()


if __name__ == "__main__":
    main()
