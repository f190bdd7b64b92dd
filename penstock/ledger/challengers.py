"""Challengers' runs in the ledger: publish them beside their champion's run, and find them again."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import TakenOver
from penstock.ledger.destinations import destination_name, find_overlapping, lock_pointer
from penstock.ledger.reader import RunRecord, fetch_runs, select_runs
from penstock.ledger.tables import runs
from penstock.ledger.writer import Totals, publish_values, retire
from penstock.run_types import ScoringRun


def publish_challenger(database: Database, run: ScoringRun, totals: Totals, quantiles: Sequence[float]) -> None:
    """Make a challenger's run the published one of its variant. Its champion's run is published before.

    It takes the place of all published runs of the variant that its interval overlaps. Readers see no change.

    Raises:
        TakenOver: the run was given up, or its champion's run is not done; nothing changes.
    """
    with database.writing() as connection:
        place = destination_name(connection, run.pipeline.destination)
        lock_pointer(connection, place, run.pipeline.name, run.interval_key, run.variant)
        columns = sa.select(runs.c.state, runs.c.lease_token)
        state, token = connection.execute(columns.where(runs.c.run_id == run.run_id)).one()
        if token == run.lease_token and state == "published":
            return
        champion, _ = connection.execute(columns.where(runs.c.run_id == run.champion_run_id)).one()
        if state != "running" or token != run.lease_token or champion == "running":
            raise TakenOver(run.run_id, state)
        now = database.now(connection)
        for other in find_overlapping(connection, place, run.variant, run.interval):
            retire(connection, other.run_id, "superseded", now, run.run_id)
        shown = {"state": "published", "published_at": now, **publish_values(totals, quantiles, now)}
        connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(**shown))


def find_challengers(database: Database, run_id: str) -> list[RunRecord]:
    """Return the challengers' runs of a champion's run, by their variants."""
    return fetch_runs(database, select_runs().where(runs.c.champion_run_id == run_id).order_by(runs.c.variant))


def follow_champions(connection: sa.Connection, newer: Mapping[str, str]) -> None:
    """Link published challengers' runs to the runs that are live now. Part of the transaction that moves the pointer.

    Args:
        newer: by the run that was live: the one that is.
    """
    for before, now in newer.items():
        theirs = (runs.c.champion_run_id == before, runs.c.state == "published", runs.c.run_id != now)
        connection.execute(sa.update(runs).where(*theirs).values(champion_run_id=now))
