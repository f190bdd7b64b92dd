"""Find the history tables that readers of a pipeline may see, and the runs that have rows in them.

Its own table and those of its sandboxes are found by their names, whatever the ledger says.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.ledger.destinations import destination_name, qualified_name, split_name
from penstock.ledger.reader import RunRecord
from penstock.ledger.tables import destinations, runs
from penstock.run.history_table import HistoryRunId, history_name
from penstock.spec.parts import SANDBOX_TABLE
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.stored_rows import HISTORY

Tables = dict[str, sa.TableClause]
"""History tables by their destination, as the ledger names it."""
_NEEDED = {"run_id", "partition"}


@dataclass(frozen=True)
class FoundTables:
    """The tables that may have rows of a pipeline."""

    by_place: Tables
    own: frozenset[str]
    """The destinations of the spec and of its sandboxes. Readers may see rows of other pipelines there."""
    strange: tuple[str, ...]
    """Names of tables that stand where a history table is expected, and are none."""


@dataclass(frozen=True)
class RunRows:
    """How many rows one run has in one history table."""

    place: str
    """The destination."""
    run_id: str
    rows: int
    known: bool
    """Whether the ledger has the run."""


def list_tables(connection: sa.Connection, pipeline: Pipeline) -> FoundTables:
    """Return the history tables of a pipeline and of its sandboxes, and those that its runs wrote to before."""
    own = destination_name(connection, pipeline.destination)
    written = sa.select(runs.c.destination).where(runs.c.pipeline == pipeline.name, runs.c.destination.is_not(None))
    owned = sa.select(destinations.c.destination).where(destinations.c.pipeline == pipeline.name)
    named = {own, *connection.execute(written.union(owned)).scalars()}
    inspector, sandbox, found = sa.inspect(connection), f"{own}{SANDBOX_TABLE}".casefold(), Tables()
    strange: list[str] = []
    for schema in sorted(_find_schemas(inspector, own, named)):
        # A view in the place of a history table is none.
        for name in inspector.get_table_names(schema=schema or None):
            if name.endswith(HISTORY):
                table = name.removesuffix(HISTORY)
                place = qualified_name(connection, schema, table)
                if place in named or place.casefold().startswith(sandbox):
                    columns = {column["name"] for column in inspector.get_columns(name, schema=schema or None)}
                    if columns >= _NEEDED:
                        found[place] = history_name(table, schema or None)
                    else:
                        strange.append(name)
    mine = frozenset(place for place in found if place == own or place.casefold().startswith(sandbox))
    return FoundTables(found, mine, tuple(strange))


def _find_schemas(inspector: sa.Inspector, own: str, named: set[str]) -> set[str]:
    """Return the schemas to look in. A destination in the ledger may name one that is not there."""
    split = (split_name(place) for place in named)
    there = {schema for schema, table in split if inspector.has_table(f"{table}{HISTORY}", schema=schema or None)}
    return {split_name(own)[0], *there}


def place_of(connection: sa.Connection, run: RunRecord) -> str:
    """Return the destination of a run's table."""
    return qualified_name(connection, split_name(run.destination or "")[0], run.destination_table)


def count_rows(connection: sa.Connection, tables: FoundTables, pipeline: str, run_id: str = "") -> Iterator[RunRows]:
    """Count the rows of each run in each table, and join the runs as the views do.

    A table that the pipeline wrote to before may be of another one now, so the runs of others there are left out.

    Args:
        run_id: Count those of one run alone.
    """
    for place, table in tables.by_place.items():
        number = sa.func.count().label("rows")
        counted = sa.select(table.c.run_id, number).group_by(table.c.run_id)
        if run_id:
            counted = counted.where(table.c.run_id == sa.cast(run_id, HistoryRunId))
        rows = counted.subquery()
        joined = rows.outerjoin(runs, sa.cast(runs.c.run_id, HistoryRunId) == rows.c.run_id)
        query = sa.select(runs.c.run_id, rows.c.run_id, rows.c.rows).select_from(joined)
        if place not in tables.own:
            query = query.where(sa.or_(runs.c.run_id.is_(None), runs.c.pipeline == pipeline))
        for known, stored, number_of in connection.execute(query):
            yield RunRows(place, str(stored) if known is None else known, int(number_of), known is not None)
