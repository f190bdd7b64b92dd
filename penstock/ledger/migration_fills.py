"""The values that migrations write into rows which are older than their columns."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime

import sqlalchemy as sa

from penstock.database.dialects import SqlDialect, dialect_of
from penstock.ledger.destinations import find_dispute, qualified_name
from penstock.ledger.tables import destinations, labels, later_indexes, performance, runs, validations

_PAGE = 10_000
"""Keys that are read at once."""


def _fill_successors_and_observations(connection: sa.Connection) -> None:
    _fill_replaced_by_run_id(connection)
    _fill_observed(connection)


def _fill_replaced_by_run_id(connection: sa.Connection) -> None:
    """Link runs by the time that version 6 shared between them.

    A run was retired with the time of the transaction that claimed or published its successor.
    """
    _link_retired_runs(connection, "abandoned", runs.c.started_at)
    _link_retired_runs(connection, "superseded", runs.c.published_at)


def _link_retired_runs(connection: sa.Connection, state: str, time: sa.ColumnElement[datetime]) -> None:
    """Link the runs in one state to the runs of their interval with that time."""
    interval = (runs.c.pipeline, runs.c.interval_key, runs.c.variant)
    found = sa.select(*interval, time.label("time"), sa.func.min(runs.c.run_id).label("run_id"))
    successors = found.where(time.is_not(None)).group_by(*interval, time).subquery("successors")
    # `|| ''`: SQLite would join by the index on the interval, and all runs of a snapshot pipeline have the same one
    same_interval = (column.concat("") == successors.c[column.name] for column in interval)
    same_time = runs.c.retired_at == successors.c.time
    connection.execute(
        sa.update(runs)
        .where(runs.c.state == state, *same_interval, same_time, runs.c.run_id != successors.c.run_id)
        .values(replaced_by_run_id=successors.c.run_id)
    )


def _fill_observed(connection: sa.Connection) -> None:
    """Write what was observed without the counts, with which version 6 began the detail: they are columns."""
    detail = validations.c.detail
    # `12 of 1,000 lines (1.20%) cannot be read`: the only detail that did not count rows
    lines = validations.c.expectation == "max_malformed"
    counts = _counts_text(dialect_of(connection)) + sa.case((lines, " lines"), else_=" rows")
    rest = sa.func.substr(detail, sa.func.length(counts) + 1)
    observed = sa.case(
        (detail == counts, ""),
        (sa.func.substr(detail, 1, sa.func.length(counts)) != counts, detail),
        (rest == " unexpected", ""),
        (sa.func.substr(rest, 1, 2) == " (", sa.func.replace(sa.func.substr(rest, 3), "%) ", "% ")),
        else_=sa.func.substr(rest, 3),  # after `, ` or `; `
    )
    listed = sa.or_(detail.startswith("unexpected "), detail.startswith("missing "))
    unit = sa.case((lines, "lines"), (listed, "values"), else_="rows")
    connection.execute(sa.update(validations).values(unit=unit, observed=observed, released=0))


def _counts_text(dialect: SqlDialect) -> sa.ColumnElement[str]:
    """Return `1,234 of 56,789`, written from the columns of a validation."""
    bad, all_rows = (dialect.grouped_number(count) for count in (validations.c.unexpected, validations.c.evaluated))
    return bad + sa.literal(" of ", sa.Text()) + all_rows


def _fill_destinations(connection: sa.Connection) -> None:
    """Give every run the name of its destination, and every destination its owner.

    Version 7 recorded the table without its schema. If several schemas have the table, the rows of a run show which.
    """
    inspector = sa.inspect(connection)
    tables = connection.execute(sa.select(runs.c.destination_table).distinct()).scalars().all()
    schemas = dialect_of(connection).schema_names(connection)
    for table in tables:
        unnamed = (runs.c.destination_table == table, runs.c.destination.is_(None))
        holding = [s for s in schemas if inspector.has_table(f"{table}__history", schema=s)]
        for schema in holding if len(holding) > 1 else ():
            history = sa.table(f"{table}__history", sa.column("run_id"), schema=schema)
            name = qualified_name(connection, schema, table)
            ids = sa.select(sa.func.replace(sa.cast(history.c.run_id, sa.Text), "-", ""))
            connection.execute(sa.update(runs).where(*unnamed, runs.c.run_id.in_(ids)).values(destination=name))
        name = qualified_name(connection, holding[0] if len(holding) == 1 else None, table)
        connection.execute(sa.update(runs).where(*unnamed).values(destination=name))
    _fill_owners(connection)
    if dialect_of(connection).has_partial_indexes:
        for older in ("one_running", "one_published", "by_interval"):
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS penstock_runs_{older}")
        for index in later_indexes:
            index.create(connection, checkfirst=True)


def _fill_owners(connection: sa.Connection) -> None:
    """Write each destination's owner: the pipeline with the newest published run there, else with the newest run."""
    columns = (runs.c.destination, runs.c.pipeline)
    newest = sa.func.max(runs.c.started_at)
    published = sa.func.max(sa.case((runs.c.state == "published", 1), else_=0))
    found = sa.select(*columns).group_by(*columns).order_by(runs.c.destination, published.desc(), newest.desc())
    owners: dict[str, str] = {}
    for name, pipeline in connection.execute(found):
        owners.setdefault(name, pipeline)
    for name, pipeline in owners.items():
        disputed = find_dispute(connection, name) is not None
        row = {"destination": name, "pipeline": pipeline, "guard": 0, "disputed": disputed}
        connection.execute(destinations.insert().values(**row))


def _order_keys(connection: sa.Connection) -> None:
    """Write the keys of labels in the order of their columns' names. Version 10 took the order of the spec.

    The next collection measures the runs of the pipelines again whose keys have changed.
    """
    changed = {pipeline for pipeline, key in _read_keys(connection) if _order_key(connection, pipeline, key)}
    for pipeline in sorted(changed):
        theirs = performance.c.run_id.in_(sa.select(runs.c.run_id).where(runs.c.pipeline == pipeline))
        connection.execute(sa.update(performance).where(theirs).values(additions=-1))


def _read_keys(connection: sa.Connection) -> Iterator[tuple[str, str]]:
    """Yield pipeline and key of the labels of keys of several columns, a page at a time."""
    columns, last = (labels.c.pipeline, labels.c.key), ("", "")
    while True:
        beyond = sa.or_(columns[0] > last[0], sa.and_(columns[0] == last[0], columns[1] > last[1]))
        query = sa.select(*columns).where(labels.c.key.contains('", "'), beyond).distinct()
        page = [(str(name), str(key)) for name, key in connection.execute(query.order_by(*columns).limit(_PAGE))]
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1]


def _order_key(connection: sa.Connection, pipeline: str, key: str) -> bool:
    """Write one key in the order of its columns' names. Return whether it was in another one."""
    ordered = json.dumps(dict(sorted(json.loads(key).items())), ensure_ascii=False)
    if ordered == key:
        return False
    same = labels.alias("same")
    there = (same.c.pipeline == pipeline, same.c.key == ordered)
    also = sa.exists().where(*there, same.c.seen_at == labels.c.seen_at, same.c.value == labels.c.value)
    mine = (labels.c.pipeline == pipeline, labels.c.key == key)
    connection.execute(sa.delete(labels).where(*mine, also))
    connection.execute(sa.update(labels).where(*mine).values(key=ordered))
    return True


FILLS: dict[int, Callable[[sa.Connection], None]] = {
    7: _fill_successors_and_observations,
    8: _fill_destinations,
    11: _order_keys,
}
"""By migration: what fills its columns in the rows that are there."""
