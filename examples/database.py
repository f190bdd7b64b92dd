"""Write drawn rows into the databases of a pack, through SQLAlchemy."""

from typing import Any

import pyarrow as pa
import sqlalchemy as sa

UTC_TIME = sa.DateTime(timezone=True)
"""A moment in UTC. A database without time zones stores its clock alone."""


def append_rows(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    """Insert Arrow rows into a table, in the connection's transaction.

    Args:
        rows: Columns of the table by name, in any order; a column that is left out is NULL.
    """
    for batch in rows.to_batches(max_chunksize=10_000):
        values: list[dict[str, Any]] = batch.to_pylist()
        if values:
            connection.execute(sa.insert(table), values)
