"""Measure one interval on a Dask cluster of one and of two workers: `python -m benchmarks.scaling`.

`docs/scaling.md` derives from these times what more workers would do. With `--runners threads:1 threads:2 processes:2
dask:2 ray:local` it compares these on one machine instead, in turns.
"""

import argparse
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.candidates.penstock_flow import import_late, run, write_spec
from benchmarks.place import Place
from benchmarks.runner import run_module
from benchmarks.servers import environment_of, open_servers
from benchmarks.workload import work_of

MORE = 3
"""Factor of partitions in a second run of the same rows. The difference gives the cost of a partition itself."""


@dataclass(frozen=True)
class Seen:
    """The seconds of one run. The steps are measured on the workers and summed over all partitions."""

    wall: float
    extract: float
    load: float
    work: float
    """Everything between extract and load, without any database."""

    @property
    def partitions(self) -> float:
        return self.extract + self.work + self.load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runners", nargs="+", help="compare these; dask:2 means a cluster of two workers")
    asked = parser.parse_args()
    if asked.runners:
        compare_runners(asked.runners, asked.rows, asked.partitions, asked.rounds)
        return
    cases = {"one": (1, asked.partitions), "two": (2, asked.partitions), "many": (1, asked.partitions * MORE)}
    names = tuple(f"{case}_{number}" for number in range(asked.rounds) for case in cases)
    seen: dict[str, list[Seen]] = {case: [] for case in cases}
    with open_servers() as servers, servers.place("W1", "postgresql", asked.rows, names) as place:
        place.write()
        run_module("benchmarks.prepare", place, names[0])
        for name in names:
            case = name.partition("_")[0]
            seen[case].append(_measure(place, name, *cases[case]))
            print(f"{name}: {seen[case][-1]}", flush=True)
    one, two, many = (_median(seen[case]) for case in cases)
    beside = [of.wall - of.partitions for of in (one, many)]
    each = (beside[1] - beside[0]) / (asked.partitions * (MORE - 1))
    print(f"\n{asked.rows:,} rows in {asked.partitions} partitions, medians of {asked.rounds} rounds")
    print(f"1 worker {one.wall:.1f} s, 2 workers {two.wall:.1f} s: efficiency {one.wall / two.wall / 2:.0%}")
    print(f"partitions {one.partitions:.1f} s: extract {one.extract:.1f}, work {one.work:.1f}, load {one.load:.1f}")
    print(
        f"with two workers {two.partitions:.1f} s: extract {two.extract:.1f}, work {two.work:.1f}, load {two.load:.1f}"
    )
    print(f"the rest {beside[0]:.1f} s, of which {each:.2f} s per partition")


def compare_runners(runners: Sequence[str], rows: int, partitions: int, rounds: int) -> None:
    """Score the same rows by each runner in turns, and print the medians as ratios of the first one."""
    names = {f"r{at}_{number}": runner for number in range(rounds) for at, runner in enumerate(runners)}
    seen: dict[str, list[float]] = {runner: [] for runner in runners}
    with open_servers() as servers, servers.place("W1", "postgresql", rows, tuple(names)) as place:
        place.write()
        run_module("benchmarks.prepare", place, next(iter(names)))
        for name, runner in names.items():
            kind, _, number = runner.partition(":")
            seen[runner].append(_measure(place, name, int(number) if kind == "dask" else 0, partitions, runner).wall)
            print(f"{runner}: {seen[runner][-1]:.1f} s", flush=True)
    first = statistics.median(seen[runners[0]])
    print(f"\n{rows:,} rows in {partitions} partitions, medians of {rounds} rounds as ratios of {runners[0]}")
    for runner, walls in seen.items():
        print(f"{runner}: {statistics.median(walls) / first:.2f}")


def _measure(place: Place, name: str, workers: int, partitions: int, runner: str = "") -> Seen:
    """Score all rows into a separate warehouse."""
    from distributed import LocalCluster
    from prefect.context import refresh_global_settings_context

    from penstock.database.connections import close_engines
    from penstock.ledger.reader import list_runs, partitions_of
    from penstock.tasks.process_resources import connect, settings

    os.environ.update(environment_of(place, name))  # the workers need it too
    refresh_global_settings_context()
    with ExitStack() as stack:
        os.environ["PENSTOCK_RUNNER"] = runner
        if workers:
            cluster = stack.enter_context(
                LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0")
            )
            os.environ["PENSTOCK_RUNNER"] = f"dask:{cluster.scheduler_address}"
            _load_libraries(cluster)
        settings.cache_clear()
        import_late()
        write_spec(place, work_of(place).spec | {"partition_rows": -(-place.rows // partitions)})
        run(place)
        warehouse = connect("warehouse")
        [record] = list_runs(warehouse)
        assert record.finished_at is not None, record.error
        assert record.state == "published", record.error
        steps: Counter[str] = Counter()
        for part in partitions_of(warehouse, record.run_id):
            steps.update(part.seconds)
        close_engines()
    wall = (record.finished_at - record.started_at).total_seconds()
    return Seen(wall, steps["extract"], steps["load"], steps["validate"] + steps["score"])


def _load_libraries(cluster: Any) -> None:
    """Import the libraries on every worker, as on a cluster that has run for a while."""
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        client.run(import_late)


def _median(seen: list[Seen]) -> Seen:
    fields = ("wall", "extract", "load", "work")
    return Seen(*(statistics.median(getattr(one, name) for one in seen) for name in fields))


if __name__ == "__main__":
    main()
