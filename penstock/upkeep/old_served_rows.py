"""Recorded rows of requests, and answers to retries, that are older than `serve.retention`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.served_rows import find_tables
from penstock.ledger.tables import runs, served_answers
from penstock.spec.pipeline import Pipeline

OldKind = Literal["recorded rows", "answers"]


def find_old(
    database: Database, pipeline: Pipeline, before: datetime, kind: OldKind
) -> list[tuple[sa.Table, list[sa.ColumnElement[bool]]]]:
    """Return the tables that have such rows, with the conditions for them."""
    if kind == "answers":
        return [(served_answers, [served_answers.c.pipeline == pipeline.name, served_answers.c.recorded_at < before])]
    mine = sa.select(runs.c.run_id).where(runs.c.pipeline == pipeline.name)
    with database.reading() as connection:
        tables = find_tables(connection, pipeline.name, pipeline.destination)
    return [(table, [table.c.recorded_at < before, table.c.run_id.in_(mine)]) for table in tables]


def count_old(database: Database, pipeline: Pipeline, before: datetime) -> Iterator[tuple[OldKind, str, int]]:
    """Yield kind, table and number of the rows that would be removed."""
    kinds: tuple[OldKind, ...] = ("recorded rows", "answers")
    for kind in kinds:
        for table, where in find_old(database, pipeline, before, kind):
            with database.reading() as connection:
                counted = sa.select(sa.func.count()).select_from(table).where(*where)
                rows = int(connection.execute(counted).scalar_one())
            yield kind, "the pipeline" if kind == "answers" else table.name, rows


def mark_old_runs(database: Database, pipeline: Pipeline, before: datetime) -> None:
    """Record of the runs that have such rows that some are removed. They stay with their counts."""
    for table, where in find_old(database, pipeline, before, "recorded rows"):
        with database.writing() as connection:
            old = (runs.c.run_id.in_(sa.select(table.c.run_id).where(*where)), runs.c.rows_pruned_at.is_(None))
            connection.execute(sa.update(runs).where(*old).values(rows_pruned_at=database.now(connection)))
