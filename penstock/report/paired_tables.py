"""The tables with the rows of one side of a comparison: their columns, and which of them have values."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import CompareRefused
from penstock.ledger.destinations import split_name
from penstock.ledger.reader import RunRecord
from penstock.run.history_table import HistoryRunId, history_name, stored_columns
from penstock.spec.column_names import OWN_COLUMNS

Place = tuple[str | None, str]
"""Schema and name of a destination's table."""
Columns = Mapping[str, sa.Column[Any]]
Refuse = Callable[[str], CompareRefused]
"""Makes the error of a reason."""


@dataclass(frozen=True)
class SideTables:
    """The tables of one side's runs. There are several if the pipeline has written to another one in between."""

    columns: dict[str, sa.Column[Any]]
    """Those of all tables. The tables may have a column in several types."""
    tables: dict[Place, Columns]
    """The columns of each table."""
    rows: dict[str, int]
    """By run: its rows."""
    valued: set[str]
    """The columns that have a value."""

    @property
    def key(self) -> dict[str, sa.types.TypeEngine[Any]]:
        return {name: column.type for name, column in self.columns.items() if not column.nullable}

    def name_table(self) -> str:
        return f"{next(iter(self.tables))[1]}__history"

    def types(self, name: str) -> list[sa.types.TypeEngine[Any]]:
        """Return the type of a column in each table that has it."""
        return [columns[name].type for columns in self.tables.values() if name in columns]

    def open(self, place: Place, alias: str) -> Any:
        """Return one of the tables as a part of a query."""
        return _table_of(place, self.tables[place], alias)

    def select(self, table: Any, place: Place, name: str) -> sa.ColumnElement[Any]:
        """Return a column of one of the tables, or NULL where this one lacks it."""
        there = name in self.tables[place]
        column: sa.ColumnElement[Any] = table.c[name] if there else sa.cast(sa.null(), self.columns[name].type)
        return column


def place_of(run: RunRecord) -> Place:
    """Return where a run's rows are."""
    return split_name(run.destination or "")[0] or None, run.destination_table


def read_tables(database: Database, side: Sequence[RunRecord], refuse: Refuse) -> SideTables:
    """Count the rows of one side's runs, and look which columns have values.

    Raises:
        CompareRefused: a table is missing, or the tables have other keys.
    """
    found = SideTables({}, {}, {}, set())
    by_place: dict[Place, list[RunRecord]] = defaultdict(list)
    for run in side:
        by_place[place_of(run)].append(run)
    for place, some in by_place.items():
        schema, name = place
        history = history_name(name, schema)
        with database.reading() as connection:
            if not sa.inspect(connection).has_table(history.name, schema=schema):
                raise refuse(f"the table `{history.name}` is missing, so no run has a row in it")
            there = {c.name: c for c in stored_columns(connection, history) if c.name not in OWN_COLUMNS}
        require_same_key(found.columns or there, there, history.name, refuse)
        found.columns.update(there)
        found.tables[place] = there
        table = _table_of(place, there, "rows_of")
        counts = [sa.func.count(table.c[name]) for name in there]
        of_runs = table.c.run_id.in_([run.run_id for run in some])
        grouped = sa.select(table.c.run_id, sa.func.count(), *counts).where(of_runs).group_by(table.c.run_id)
        with database.reading() as connection:
            for run_id, number, *present in connection.execute(grouped):
                found.rows[str(run_id).replace("-", "")] = int(number)  # Postgres writes its ids with dashes
                found.valued.update(name for name, count in zip(there, present, strict=True) if count)
    return found


def require_same_key(one: Columns, other: Columns, table: str, refuse: Refuse) -> None:
    """Refuse to join tables by other keys.

    Raises:
        CompareRefused: the keys differ in a name or a type.
    """
    keys = [
        {name: type(column.type).__name__ for name, column in columns.items() if not column.nullable}
        for columns in (one, other)
    ]
    if keys[0] != keys[1]:
        named = [", ".join(f"`{name}` {kind}" for name, kind in key.items()) for key in keys]
        raise refuse(f"their tables have other keys: {named[0]}, and in `{table}` {named[1]}")


def _table_of(place: Place, columns: Columns, alias: str) -> Any:
    schema, name = place
    known = [sa.column(column.name, column.type) for column in columns.values()]
    own = (sa.column("run_id", HistoryRunId), sa.column("partition", sa.Integer))
    return sa.table(history_name(name, schema).name, *own, *known, schema=schema).alias(alias)
