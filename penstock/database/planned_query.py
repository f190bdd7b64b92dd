"""A query over few rows that DuckDB plans once. DuckDB 2.0 plans each execution anew, which costs more than the query.

It keeps the plan of a prepared statement only where its optimizer is off. That changes nothing for a query that
computes columns row by row: its plan is one scan below projections, with or without the optimizer.
"""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

FEW_ROWS = 64
"""Most rows that are fetched as Python values. Beyond, planning is the smaller part."""
_NUMBERS = itertools.count()
_EXACT = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_float64, pa.types.is_string, pa.types.is_decimal128)
"""Types whose values Python holds exactly."""


class PlannedQuery:
    """Fetches a relation's rows again and again. The first time it runs as it is, for it may be the only time."""

    def __init__(
        self, relation: duckdb.DuckDBPyRelation, unoptimized: duckdb.DuckDBPyConnection, projections: int | None
    ) -> None:
        """Take a relation.

        Args:
            unoptimized: a connection with the same tables, whose optimizer is off.
            projections: how many layers of computed columns the text has. None: the text is Penstock's own and gives
                one row.
        """
        self._relation, self._connection = relation, unoptimized
        self._projections = projections
        self._schema: pa.Schema | None = None
        """None: it has not run."""
        self._execute: str | None = None
        """The statement that executes the plan. Empty: there is none. None: it has not been looked for."""

    def fetch(self, rows: int) -> pa.Table:
        """Return the result.

        An error of the planned query is not the last word: the optimizer may leave out what fails.

        Args:
            rows: how many the tables have now.
        """
        if self._schema is not None and (self._projections is None or rows <= FEW_ROWS):
            if self._execute is None:
                self._execute = self._plan(self._schema)
            try:
                if self._execute:
                    return _as_table(self._connection.execute(self._execute).fetchall(), self._schema)
            except duckdb.InterruptException:
                raise
            except (duckdb.Error, pa.ArrowException):
                pass
        table: pa.Table = self._relation.to_arrow_table()
        self._schema = table.schema
        return table

    def _plan(self, schema: pa.Schema) -> str:
        """Return the statement that executes the plan. Empty: DuckDB has to plan each execution."""
        if not all(any(is_exact(kind) for is_exact in _EXACT) for kind in schema.types):
            return ""
        if len(set(schema.names)) < len(schema.names):
            return ""
        text, name = self._relation.sql_query(), f"penstock_{next(_NUMBERS)}"
        try:
            if self._projections is not None and not _computes_rows(self._connection, text, self._projections):
                return ""
            self._connection.execute(f"prepare {name} as {text}")
        except duckdb.InterruptException:  # its time is over
            raise
        except duckdb.Error:  # such as a `pivot`
            return ""
        return f"execute {name}"


def _computes_rows(connection: duckdb.DuckDBPyConnection, text: str, projections: int) -> bool:
    """Whether the plan is one scan below at most so many projections, without joins, filters, groups and windows."""
    nodes: Any = json.loads(connection.execute(f"explain (format json) {text}").fetchall()[0][1])
    names = []
    while len(nodes) == 1:
        names.append(nodes[0]["name"])
        nodes = nodes[0]["children"]
    *above, scan = names or [""]
    return not nodes and scan.endswith("ARROW_SCAN") and set(above) <= {"PROJECTION"} and len(above) <= projections


def _as_table(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """Convert rows at once: a call of Arrow for each column takes three times as long."""
    named = [dict(zip(schema.names, row, strict=True)) for row in rows]
    values: Any = pa.array(named, pa.struct(list(schema)))
    return pa.Table.from_arrays(values.flatten(), schema=schema)
