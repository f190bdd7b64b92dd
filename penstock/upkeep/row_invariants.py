"""Invariants between the ledger and the tables of scores and reasons that readers see."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from penstock.ledger.destinations import VIEWS, shown_variant, split_name
from penstock.ledger.tables import runs
from penstock.run.history_table import HistoryRunId, history_name
from penstock.run.reasons_table import REASON, UNEXPLAINED, is_explained, is_over_budget, reasons_name
from penstock.upkeep.erasure import count_forgotten
from penstock.upkeep.violations import RESTATE, SHOWN, Violation


def readers_see_the_published_rows(connection: sa.Connection) -> Iterator[Violation]:
    """Compare the rows of each published run in the history table, and those of the view, with the ledger's counts."""
    live = sa.select(runs.c.destination).where(runs.c.state == "published").distinct()
    for place in connection.execute(live).scalars().all():
        schema, table = split_name(place)
        name = _spelled(connection, place) or table
        inspector = sa.inspect(connection)
        if not inspector.has_table(f"{name}{VIEWS[-1]}", schema=schema):
            yield from _lost_table(connection, place)
            continue
        history = history_name(name, schema)
        yield from _compare_rows(connection, place, history, sa.table(name, schema=schema))
        # EXCEPT, because a comparison of each row with `runs` by a cast finds no index.
        mine = sa.select(history.c.run_id).except_(sa.select(sa.cast(runs.c.run_id, HistoryRunId)))
        orphans = connection.execute(mine.limit(SHOWN)).scalars().all()
        if orphans:
            rows = tuple(map(str, orphans))
            yield Violation("every row belongs to a run", history.name, rows, "Restore the ledger's backup.")


def reasons_belong_to_scores(connection: sa.Connection) -> Iterator[Violation]:
    """Compare each table of reasons with the history table beside it, and with the counts of the published runs."""
    named = (runs.c.destination, runs.c.destination_table)
    for place, table in connection.execute(sa.select(*named).where(runs.c.destination.is_not(None)).distinct()).all():
        schema, _ = split_name(place)
        reasons, history = reasons_name(table, schema), history_name(table, schema)
        inspector = sa.inspect(connection)
        if not all(inspector.has_table(each.name, schema=schema) for each in (reasons, history)):
            continue
        columns = [c["name"] for c in inspector.get_columns(reasons.name, schema=schema)]
        key = [name for name in columns if name not in ("run_id", *REASON)]
        yield from _find_unscored(connection, reasons, history, key)
        yield from _find_double(connection, reasons, key)
        yield from _compare_explained(connection, place, reasons)


def _find_unscored(
    connection: sa.Connection, reasons: sa.TableClause, history: sa.TableClause, key: Sequence[str]
) -> Iterator[Violation]:
    """Find reasons of keys that their run has not scored. A load writes both in one transaction."""
    columns = ("run_id", *key)
    of_reasons, scored = (
        sa.select(*(sa.column(sa.quoted_name(name, quote=True)) for name in columns)).select_from(table)
        for table in (reasons, history)
    )
    lost = sa.except_(of_reasons, scored).limit(SHOWN)
    rows = tuple(": ".join((str(run_id), ", ".join(map(str, key)))) for run_id, *key in connection.execute(lost))
    if rows:
        yield Violation("each reason is of a scored row", reasons.name, rows, "Restate the intervals of these runs.")


def _find_double(connection: sa.Connection, reasons: sa.TableClause, key: Sequence[str]) -> Iterator[Violation]:
    """Find keys with reasons and a line that says why there are none: one transaction replaces it by them."""
    columns: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(name, quote=True)) for name in ("run_id", *key)]
    lines = sa.select(*columns).select_from(reasons).group_by(*columns)
    double = lines.having(sa.func.min(reasons.c.rank) == UNEXPLAINED, sa.func.count() > 1).limit(SHOWN)
    rows = tuple(": ".join((str(run_id), ", ".join(map(str, key)))) for run_id, *key in connection.execute(double))
    if rows:
        yield Violation(
            "a key has reasons, or says why not", reasons.name, rows, "Restate the intervals of these runs."
        )


def _compare_explained(connection: sa.Connection, place: str, reasons: sa.TableClause) -> Iterator[Violation]:
    """Compare the chosen keys of each published run with its counts. Those of forgotten keys may be missing."""
    numbers = {"rows_explained": is_explained(reasons), "rows_over_budget": is_over_budget(reasons)}
    sums = (sa.func.sum(sa.case((condition, 1), else_=0)).label(name) for name, condition in numbers.items())
    found = sa.select(reasons.c.run_id, *sums).group_by(reasons.c.run_id).subquery("found")
    joined = runs.outerjoin(found, found.c.run_id == sa.cast(runs.c.run_id, HistoryRunId))
    there = [sa.func.coalesce(found.c[name], 0) for name in numbers]
    expected = [sa.func.coalesce(runs.c[name], 0) for name in numbers]
    differ = sa.or_(*(one != other for one, other in zip(there, expected, strict=True)))
    here = (runs.c.destination == place, runs.c.state == "published", differ)
    differing = sa.select(runs.c.run_id, *expected, *there).select_from(joined).where(*here).order_by(runs.c.run_id)
    wrong = [(run_id, *map(int, counts)) for run_id, *counts in connection.execute(differing)]
    exceeding = any(made > explained or left > over for _, explained, over, made, left in wrong)
    missing = sum(explained - made + over - left for _, explained, over, made, left in wrong)
    if exceeding or missing > count_forgotten(connection, reasons.name):
        rows = tuple(
            f"{run_id}: {explained} explained and {over} over the budget, {made} with reasons and {left} without"
            for run_id, explained, over, made, left in wrong[:SHOWN]
        )
        yield Violation("a published run has its reasons", place, rows, "Restate the intervals of these runs.")


def _compare_rows(
    connection: sa.Connection, place: str, history: sa.TableClause, view: sa.TableClause
) -> Iterator[Violation]:
    """Compare the rows of published runs with the ledger's counts and with the view."""
    found = sa.select(history.c.run_id, sa.func.count().label("rows")).group_by(history.c.run_id).subquery("found")
    joined = runs.outerjoin(found, found.c.run_id == sa.cast(runs.c.run_id, HistoryRunId))
    there, scored = sa.func.coalesce(found.c.rows, 0), runs.c.rows_scored
    here = (runs.c.destination == place, runs.c.state == "published")
    live = sa.case((runs.c.variant == shown_variant(place), there), else_=0)
    sums = sa.select(sa.func.sum(scored - there), sa.func.sum(sa.case((there > scored, 1), else_=0)), sa.func.sum(live))
    missing, exceeding, held = (int(n or 0) for n in connection.execute(sums.select_from(joined).where(*here)).one())
    if exceeding or missing > count_forgotten(connection, history.name):
        query = sa.select(runs.c.run_id, scored, there).select_from(joined).where(*here, there != scored)
        first = connection.execute(query.order_by(runs.c.run_id).limit(SHOWN))
        rows = tuple(f"{run_id}: {seen} rows, {number} scored" for run_id, number, seen in first)
        yield Violation("a published run has its rows", place, rows, RESTATE)
    if sa.inspect(connection).has_table(view.name, schema=view.schema):
        shown = int(connection.execute(sa.select(sa.func.count()).select_from(view)).scalar_one())
        if shown != held:
            rows = (f"{shown} rows in the view, {held} of published runs",)
            yield Violation("the view shows the published rows", place, rows, "Drop the view; a run makes it anew.")


def _lost_table(connection: sa.Connection, place: str) -> Iterator[Violation]:
    scored = sa.select(sa.func.sum(runs.c.rows_scored)).where(runs.c.destination == place, runs.c.state == "published")
    rows = int(connection.execute(scored).scalar_one() or 0)
    if rows:
        what = (f"{rows} published rows, and no table",)
        yield Violation("a published run has its rows", place, what, "Restore the table, or withdraw its runs.")


def _spelled(connection: sa.Connection, place: str) -> str | None:
    """Return the table as the spec spells it, since the destination's name may be in lower case."""
    named = sa.select(runs.c.destination_table).where(runs.c.destination == place).limit(1)
    return connection.execute(named).scalar()
