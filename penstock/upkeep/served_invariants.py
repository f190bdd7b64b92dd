"""What holds for recorded rows: each belongs to a run, is counted once, and each answer that is kept has its rows."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from penstock.ledger.destinations import SERVED, qualified_name
from penstock.ledger.served_rows import ENDING, RECORDED, RECORDING, list_served_tables
from penstock.ledger.tables import runs, served_answers, served_runs
from penstock.upkeep.erasure import count_forgotten

Broken = tuple[str, str, tuple[str, ...]]
"""An invariant, the table or destination, and the first rows that break it."""


def find_broken_recordings(connection: sa.Connection, shown: int) -> Iterator[Broken]:
    """Find what breaks the invariants of recorded rows."""
    yield from _find_odd_runs(connection, shown)
    for table in list_served_tables(connection):
        yield from _compare_counts(connection, table, shown)
        yield from _find_lost_rows(connection, table, shown)


def _find_odd_runs(connection: sa.Connection, shown: int) -> Iterator[Broken]:
    is_served, is_recording = runs.c.variant == SERVED, runs.c.state.in_((RECORDING, RECORDED))
    odd = sa.select(runs.c.run_id).where(is_served != is_recording).limit(shown)
    yield from _named(
        "only requests are recorded in a run of theirs", runs.name, connection.execute(odd).scalars().all()
    )
    described = sa.exists().where(served_runs.c.run_id == runs.c.run_id)
    bare = sa.select(runs.c.run_id).where(is_served, ~described).limit(shown)
    yield from _named("a served run says what its rows are", runs.name, connection.execute(bare).scalars().all())
    known = sa.exists().where(runs.c.run_id == served_answers.c.run_id, is_served)
    lost = sa.select(served_answers.c.request_id).where(~known).limit(shown)
    yield from _named("a kept answer is of a run", served_answers.name, connection.execute(lost).scalars().all())


def _compare_counts(connection: sa.Connection, table: sa.Table, shown: int) -> Iterator[Broken]:
    """Compare the rows of each run with its counts. Rows that were pruned or forgotten may be missing."""
    statuses = {"rows_scored": "scored", "rows_quarantined": "refused", "rows_excluded": "excluded"}
    sums = (sa.func.sum(sa.case((table.c.status == status, 1), else_=0)).label(n) for n, status in statuses.items())
    found = sa.select(table.c.run_id, *sums).group_by(table.c.run_id).subquery("found")
    joined = runs.outerjoin(found, found.c.run_id == runs.c.run_id)
    there = {name: sa.func.coalesce(found.c[name], 0) for name in statuses}
    differ = sa.or_(*(count != runs.c[name] for name, count in there.items()))
    place = qualified_name(connection, table.schema, table.name.removesuffix(ENDING))
    mine = (runs.c.destination == place, runs.c.variant == SERVED)
    columns = [column for name in statuses for column in (runs.c[name], there[name])]
    query = sa.select(runs.c.run_id, runs.c.rows_pruned_at, *columns).select_from(joined).where(*mine, differ)
    wrong = [(run_id, pruned, list(map(int, counts))) for run_id, pruned, *counts in connection.execute(query)]
    missing = sum(sum(counts[::2]) - sum(counts[1::2]) for _, pruned, counts in wrong if pruned is None)
    exceeding = any(has > said for *_, counts in wrong for said, has in zip(counts[::2], counts[1::2], strict=True))
    if exceeding or missing > count_forgotten(connection, table.name):
        rows = [f"{run_id}: {sum(counts[1::2])} rows, {sum(counts[::2])} counted" for run_id, _, counts in wrong]
        yield from _named("a served run has its rows", table.name, rows[:shown])


def _find_lost_rows(connection: sa.Connection, table: sa.Table, shown: int) -> Iterator[Broken]:
    mine = sa.exists().where(runs.c.run_id == table.c.run_id, runs.c.variant == SERVED)
    orphans = sa.select(table.c.run_id).where(~mine).distinct().limit(shown)
    yield from _named("a recorded row belongs to a run", table.name, connection.execute(orphans).scalars().all())


def _named(invariant: str, where: str, rows: Sequence[str]) -> Iterator[Broken]:
    if rows:
        yield invariant, where, tuple(rows)
