"""W8's floor: read the same runs from the ledger's index, and return their number and the last end."""

import sqlalchemy as sa

from benchmarks.candidates.penstock_plan import open_ledger
from benchmarks.place import Place
from benchmarks.workload import work_of
from benchmarks.workloads import w8


def ready(place: Place) -> None:
    count_runs(place)


def run(place: Place) -> None:
    for _ in range(w8.PLANS):
        count_runs(place)


def count_runs(place: Place) -> None:
    from penstock.ledger.tables import runs

    published = sa.select(sa.func.count(runs.c.interval_start), sa.func.max(runs.c.interval_end)).where(
        runs.c.destination == "main.scores", runs.c.variant == "live", runs.c.state == "published"
    )
    with open_ledger(place).reading() as connection:
        seen = tuple(connection.execute(published).one())
    if seen != (place.rows, work_of(place).end):
        raise RuntimeError(f"the ledger has {seen[0]:,} published runs up to {seen[1]}")
