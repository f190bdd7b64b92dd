"""Make one row of the lines that have the same key."""

import duckdb
import pyarrow as pa

from penstock.database.types import TIMESTAMP
from penstock.errors import GroupFailed, MissingColumns
from penstock.sources.logs.times import open_engine
from penstock.spec.pipeline import ROW_ID, LogGroup


def group_lines(name: str, lines: pa.Table, group: LogGroup) -> pa.Table:
    """Return a row for each key: the key, the time of its first or last line, and the aggregates.

    Raises:
        MissingColumns: the lines lack a column of the key.
        GroupFailed: an aggregate cannot be computed.
    """
    known = [column for column in lines.column_names if column != ROW_ID]
    if missing := tuple(column for column in group.key if column not in known):
        raise MissingColumns(f"source `{name}`", missing, tuple(known))
    chosen = [*map(_quote, group.key), f'{group.time}("time") as "time"']
    chosen += [f"({expression}\n) as {_quote(column)}" for column, expression in group.columns.items()]
    query = f"select {', '.join(chosen)} from lines group by {', '.join(map(_quote, group.key))} order by all"  # noqa: S608  the names are quoted, and the expressions were read
    with open_engine() as connection:
        connection.execute("set threads = 1; set TimeZone = 'UTC'")  # so that sums and firsts are those of the order
        connection.register("lines", lines.select(known))
        try:
            rows = connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise GroupFailed(name, str(error).partition("\n")[0]) from error
    place = rows.column_names.index("time")
    made: pa.Table = rows.set_column(place, "time", rows.column(place).cast(TIMESTAMP))
    return made


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
