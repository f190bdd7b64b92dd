"""Rename a pipeline in the ledger, with its runs, quarantine, releases, landed log lines and destinations."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import RenameRefused
from penstock.ledger.destinations import LIVE, find_dispute
from penstock.ledger.migrations import has_ledger
from penstock.ledger.schema_contracts import ACCEPTED
from penstock.ledger.served_writes import find_recording
from penstock.ledger.tables import (
    destinations,
    intervals,
    label_sources,
    labels,
    log_files,
    log_sources,
    metadata,
    performance,
    releases,
    runs,
    served_answers,
    source_columns,
)
from penstock.ledger.writer import LEASE_ENDED
from penstock.sources.logs.landed import landed_table
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import LogSource


@dataclass(frozen=True)
class Renamed:
    """How many rows of each table of the ledger were moved, and the log tables that were renamed."""

    rows: dict[str, int]
    log_tables: tuple[str, ...]


def rename_pipeline(database: Database, old: str, pipeline: Pipeline) -> Renamed:
    """Give all that the ledger has of the old name to the pipeline. One transaction; repeating it changes nothing.

    Args:
        old: The name that the ledger knows.
        pipeline: The spec under its new name.

    Raises:
        RenameRefused: the ledger does not know the old name, a run of one of the two works, both have landed log lines
            of one source, or their live runs overlap.
    """
    new = pipeline.name
    if not has_ledger(database):
        raise RenameRefused(old, new, f"the ledger has no runs of `{old}`")
    with database.writing() as connection:
        _lock_destinations(connection, old, new)
        if not connection.execute(sa.select(runs.c.run_id).where(runs.c.pipeline == old).limit(1)).first():
            raise RenameRefused(old, new, f"the ledger has no runs of `{old}`")
        _end_dead_runs(connection, database, old, new)
        renamed = tuple(_rename_log_tables(connection, old, pipeline))
        _drop_collisions(connection, old, new)
        _withdraw_twins(connection, database, old, new)
        moved = {}
        for table in metadata.sorted_tables:
            if "pipeline" in table.c:
                change = sa.update(table).where(table.c.pipeline == old).values(pipeline=new)
                moved[table.name] = int(connection.execute(change).rowcount)
        mine = sa.select(destinations.c.destination).where(destinations.c.pipeline == new)
        for name in connection.execute(mine).scalars().all():
            dispute = find_dispute(connection, name)
            if dispute is None:
                settled = sa.update(destinations).where(destinations.c.destination == name)
                connection.execute(settled.values(disputed=False))
            elif dispute.overlaps:
                one, two = dispute.overlaps[0]
                pair = f"{one.run_id[:8]} {one.label} and {two.run_id[:8]} {two.label}"
                way_out = f"Withdraw the runs of one of them first: `penstock withdraw --pipeline {old}`"
                raise RenameRefused(old, new, f"live runs of the two overlap: {pair}. {way_out}")
    return Renamed({name: rows for name, rows in moved.items() if rows}, renamed)


def _lock_destinations(connection: sa.Connection, old: str, new: str) -> None:
    """Lock every destination that runs of the two wrote to, so that no claim or publish comes between."""
    written = sa.select(runs.c.destination).where(runs.c.pipeline.in_((old, new)))
    ours = sa.or_(destinations.c.pipeline.in_((old, new)), destinations.c.destination.in_(written))
    connection.execute(sa.update(destinations).where(ours).values(guard=destinations.c.guard + 1))


def _end_dead_runs(connection: sa.Connection, database: Database, old: str, new: str) -> None:
    """Refuse a rename while a run works. End those whose lease has ended, so that none publishes under the old name."""
    now = database.now(connection)
    running = (runs.c.pipeline.in_((old, new)), runs.c.state == "running")
    alive = connection.execute(sa.select(runs.c.run_id).where(*running, runs.c.lease_until > now)).scalars().first()
    if (recording := find_recording(connection, (old, new), now)) is not None:
        raise RenameRefused(old, new, f"a server records requests in run {recording[:8]}; end it first")
    if alive is not None:
        raise RenameRefused(old, new, f"run {alive[:8]} works; wait until it has ended, or stop it")
    ended = {"state": "abandoned", "error": LEASE_ENDED, "retired_at": now, "finished_at": now}
    connection.execute(sa.update(runs).where(*running).values(**ended))


def _withdraw_twins(connection: sa.Connection, database: Database, old: str, new: str) -> None:
    """Withdraw challengers' runs of the old name where the new name has a run of the same variant and interval."""
    twin, same = runs.alias("twin"), ("destination", "interval_key", "variant", "state")
    both = sa.exists().where(twin.c.pipeline == new, *(twin.c[name] == runs.c[name] for name in same))
    theirs = (runs.c.pipeline == old, runs.c.state == "published", runs.c.variant != LIVE, both)
    withdrawn = {"state": "withdrawn", "retired_at": database.now(connection)}
    connection.execute(sa.update(runs).where(*theirs).values(**withdrawn))


def _rename_log_tables(connection: sa.Connection, old: str, pipeline: Pipeline) -> Iterator[str]:
    known = sa.select(log_files.c.source).where(log_files.c.pipeline == old).distinct()
    declared = [name for name, source in pipeline.sources.items() if isinstance(source, LogSource)]
    inspector, preparer = sa.inspect(connection), connection.dialect.identifier_preparer
    there = set(inspector.get_table_names())
    for source in dict.fromkeys((*declared, *connection.execute(known).scalars())):
        table, new = landed_table(old, source), landed_table(pipeline.name, source)
        if table.name not in there:
            continue
        if new.name in there:
            raise RenameRefused(old, pipeline.name, f"both have landed log lines of the source `{source}`")
        for index in table.indexes:  # a database renames no index with its table
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {preparer.quote(str(index.name))}")
        change = f"ALTER TABLE {preparer.format_table(table)} RENAME TO {preparer.format_table(new)}"
        connection.exec_driver_sql(change)
        for index in new.indexes:
            index.create(connection)
        yield new.name


def _drop_collisions(connection: sa.Connection, old: str, new: str) -> None:
    """Drop rows of the old name that the new name has too: locks, accepted columns, and releases of the same row.

    The same holds for equal labels, and for answers to requests with the same `Idempotency-Key`.
    """
    same_interval = [column for column in intervals.primary_key.columns if column.name != "pipeline"]
    same_release = [column for column in releases.primary_key.columns if column.name != "pipeline"]
    same_answer = [column for column in served_answers.primary_key.columns if column.name != "pipeline"]
    same_label = [column for column in labels.primary_key.columns if column.name != "pipeline"]
    twins = ((intervals, same_interval), (releases, same_release), (labels, same_label), (served_answers, same_answer))
    for table, columns in twins:
        other = table.alias("other")
        twin = sa.exists().where(other.c.pipeline == new, *(other.c[c.name] == c for c in columns))
        connection.execute(sa.delete(table).where(table.c.pipeline == old, twin))
    landed = sa.select(log_sources.c.source).where(log_sources.c.pipeline == old)
    # The other way round: a landing under the new name must see that the count has changed.
    connection.execute(sa.delete(log_sources).where(log_sources.c.pipeline == new, log_sources.c.source.in_(landed)))
    # Both have collected labels: the next collection goes on where that of the old name ended.
    read = sa.exists().where(label_sources.c.pipeline == old)
    both = connection.execute(sa.delete(label_sources).where(label_sources.c.pipeline == new, read)).rowcount
    if both:  # they counted their additions apart, so all runs are measured again
        ours = sa.select(runs.c.run_id).where(runs.c.pipeline.in_((old, new)))
        connection.execute(sa.update(performance).where(performance.c.run_id.in_(ours)).values(additions=-1))
    known, other = source_columns.c, source_columns.alias("other")
    twin = sa.exists().where(other.c.pipeline == new, other.c.source == known.source, other.c.run_id == ACCEPTED)
    connection.execute(sa.delete(source_columns).where(known.pipeline == old, known.run_id == ACCEPTED, twin))
