"""The sandboxes of a pipeline, as its runs tell of them. See docs/adr/0043."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.destinations import LIVE, shown_variant
from penstock.ledger.migrations import has_ledger
from penstock.ledger.tables import destinations, runs
from penstock.spec.parts import SANDBOX


@dataclass(frozen=True)
class Sandbox:
    """One sandbox of a pipeline in one destination."""

    pipeline: str
    name: str
    table: str
    """The view of its scores."""
    destination: str
    """Its name in the ledger."""
    intervals: int
    """Published intervals."""
    rows: int
    """Scores that its view shows."""
    running: int
    last_started_at: datetime


def list_sandboxes(database: Database, pipeline: str | None = None) -> list[Sandbox]:
    """Return the sandboxes that have a published or a running run, by pipeline and name.

    Args:
        pipeline: None: those of all pipelines.
    """
    if not has_ledger(database):
        return []
    of = (runs.c.pipeline, runs.c.variant, runs.c.destination_table, runs.c.destination)
    published, running = runs.c.state == "published", runs.c.state == "running"
    counts = (
        sa.func.sum(sa.case((published, 1), else_=0)),
        sa.func.sum(sa.case((published, runs.c.rows_scored), else_=0)),
        sa.func.sum(sa.case((running, 1), else_=0)),
        sa.func.max(runs.c.started_at),
    )
    query = sa.select(*of, *counts).where(runs.c.variant.startswith(SANDBOX), sa.or_(published, running))
    with database.reading() as connection:
        places = list_places(connection, pipeline)
        found = connection.execute(query.where(runs.c.destination.in_(places)).group_by(*of).order_by(*of)).all()
    return [
        Sandbox(name, variant.removeprefix(SANDBOX), table, place, int(intervals), int(rows or 0), int(working), last)
        for name, variant, table, place, intervals, rows, working, last in found
    ]


def list_places(connection: sa.Connection, pipeline: str | None) -> list[str]:
    """Return the destinations of the sandboxes of a pipeline, or of all. Few, where the runs may be many."""
    query = sa.select(destinations.c.destination).order_by(destinations.c.destination)
    if pipeline is not None:
        query = query.where(destinations.c.pipeline == pipeline)
    return [place for place in connection.execute(query).scalars() if shown_variant(place) != LIVE]
