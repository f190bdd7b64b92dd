"""End a sandbox: its runs are withdrawn and its views removed. `penstock prune` removes its tables."""

from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import SandboxRefused
from penstock.ledger.destinations import VIEWS, lock_destination, shown_variant, split_name
from penstock.ledger.migrations import has_ledger
from penstock.ledger.sandboxes import list_places
from penstock.ledger.tables import profiles, quarantine, runs
from penstock.ledger.writer import LEASE_ENDED
from penstock.run.history_table import history_name
from penstock.run.reasons_table import reasons_name
from penstock.spec.parts import SANDBOX

_SHOWN = VIEWS[:3]
"""What the names of the views end in."""


@dataclass(frozen=True)
class EndedSandbox:
    """What the end of a sandbox took out of its views."""

    tables: tuple[str, ...]
    runs: int
    rows: int


def end_sandbox(database: Database, pipeline: str, name: str) -> EndedSandbox:
    """Withdraw all runs of a sandbox and drop its views, in one transaction. Repeating it changes nothing.

    Raises:
        SandboxRefused: it has no runs, one of them works, or something depends on its views.
    """
    if not has_ledger(database):
        raise _unknown(pipeline, name)
    mine = (runs.c.pipeline == pipeline, runs.c.variant == f"{SANDBOX}{name}")
    with database.writing() as connection:
        named = sa.select(runs.c.destination, runs.c.destination_table).where(*mine).distinct()
        places = connection.execute(named.order_by(runs.c.destination)).tuples().all()
        if not places:
            raise _unknown(pipeline, name)
        for place, _ in places:
            lock_destination(connection, place)
        now = database.now(connection)
        working = sa.select(runs.c.run_id).where(*mine, runs.c.state == "running", runs.c.lease_until > now)
        if (busy := connection.execute(working).scalars().first()) is not None:
            remedy = "Wait until it has ended, or stop it."
            raise SandboxRefused(name, f"of `{pipeline}` cannot end, because run {busy[:8]} works", remedy)
        dead = {"state": "abandoned", "retired_at": now, "finished_at": now, "error": LEASE_ENDED}
        connection.execute(sa.update(runs).where(*mine, runs.c.state == "running").values(**dead))
        shown = (*mine, runs.c.state.in_(("published", "audited")))
        counts = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(runs.c.rows_scored), 0))
        number, rows = connection.execute(counts.where(*shown)).one()
        connection.execute(sa.update(runs).where(*shown).values(state="withdrawn", retired_at=now))
        for place, table in places:
            _drop_views(connection, name, split_name(place)[0], table)
    return EndedSandbox(tuple(table for _, table in places), int(number), int(rows))


def _drop_views(connection: sa.Connection, name: str, schema: str, table: str) -> None:
    preparer = connection.dialect.identifier_preparer
    there = sa.inspect(connection).get_view_names(schema=schema or None)
    for view in (f"{table}{ending}" for ending in reversed(_SHOWN)):
        if view not in there:
            continue
        try:
            connection.exec_driver_sql(f"DROP VIEW {preparer.format_table(sa.table(view, schema=schema or None))}")
        except sa.exc.DBAPIError as error:
            reason = f"cannot end, because something depends on its view `{view}`: {error.orig}"
            raise SandboxRefused(name, reason.strip().rstrip("."), "Drop that first.") from None


@dataclass(frozen=True)
class SandboxTables:
    """The tables of a sandbox that has ended."""

    pipeline: str
    name: str
    destination: str
    table: str

    @property
    def names(self) -> tuple[sa.TableClause, ...]:
        """The tables with its rows and with their reasons, which may not be there."""
        schema = split_name(self.destination)[0] or None
        return history_name(self.table, schema), reasons_name(self.table, schema)


def find_ended(connection: sa.Connection, pipeline: str) -> list[SandboxTables]:
    """Return the tables of the pipeline's sandboxes that have ended: there is no view of them, and no run works."""
    here = runs.c.destination.in_(list_places(connection, pipeline))
    named = sa.select(runs.c.destination, runs.c.destination_table).where(here).distinct()
    sandboxes = [
        SandboxTables(pipeline, shown_variant(place).removeprefix(SANDBOX), place, table)
        for place, table in connection.execute(named.order_by(runs.c.destination))
    ]
    return [each for each in sandboxes if _has_ended(connection, each)]


def _has_ended(connection: sa.Connection, sandbox: SandboxTables) -> bool:
    inspector, schema = sa.inspect(connection), split_name(sandbox.destination)[0] or None
    here = (runs.c.destination == sandbox.destination, runs.c.state.in_(("running", "published", "audited")))
    if connection.execute(sa.select(runs.c.run_id).where(*here).limit(1)).first() is not None:
        return False
    if sandbox.table in inspector.get_view_names(schema=schema):
        return False
    return any(inspector.has_table(table.name, schema=schema) for table in sandbox.names)


def count_rows(connection: sa.Connection, sandbox: SandboxTables) -> int:
    """Count the scores in the table of an ended sandbox."""
    history = sandbox.names[0]
    if not sa.inspect(connection).has_table(history.name, schema=history.schema):
        return 0
    return int(connection.execute(sa.select(sa.func.count()).select_from(history)).scalar_one())


def drop_tables(database: Database, sandbox: SandboxTables) -> None:
    """Drop the tables of an ended sandbox and its refused rows. One that a run has begun anew meanwhile stays."""
    with database.writing() as connection:
        lock_destination(connection, sandbox.destination)
        if not _has_ended(connection, sandbox):
            return
        preparer, inspector = connection.dialect.identifier_preparer, sa.inspect(connection)
        for table in sandbox.names:
            if inspector.has_table(table.name, schema=table.schema):
                connection.exec_driver_sql(f"DROP TABLE {preparer.format_table(table)}")
        here = runs.c.destination == sandbox.destination
        ids = sa.select(runs.c.run_id).where(here)
        for part in (profiles, quarantine):
            connection.execute(sa.delete(part).where(part.c.run_id.in_(ids)))
        pruned = {"rows_pruned_at": database.now(connection)}
        connection.execute(sa.update(runs).where(here, runs.c.rows_pruned_at.is_(None)).values(**pruned))


def _unknown(pipeline: str, name: str) -> SandboxRefused:
    return SandboxRefused(
        name, f"of `{pipeline}` has no runs", f"`penstock sandbox list {pipeline}` lists the sandboxes of the pipeline."
    )
