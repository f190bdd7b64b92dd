"""Make one row of the lines that have the same key."""

from typing import Any

import pyarrow as pa

from penstock.database.types import TIMESTAMP
from penstock.errors import GroupFailed, MissingColumns
from penstock.sources.logs.times import open_engine
from penstock.spec.sources import ROW_ID, LogGroup, quote_column


def group_lines(name: str, lines: pa.Table, group: LogGroup) -> pa.Table:
    """Return a row for each key: the key, the time of its first or last line, and the aggregates.

    Raises:
        MissingColumns: the lines lack a column of the key.
        GroupFailed: an expression cannot be computed.
    """
    chosen = [*_keys(group), f'{group.time}("time") as "time"']
    chosen += [_named(expression, column) for column, expression in group.columns.items()]
    places = ", ".join(str(1 + place) for place in range(len(group.key)))
    rows = _query(name, lines, group, chosen, f"group by {places} order by {places}")
    place = rows.column_names.index("time")
    made: pa.Table = rows.set_column(place, "time", rows.column(place).cast(TIMESTAMP))
    return made


def count_lines(name: str, lines: pa.Table, group: LogGroup, column: str) -> list[tuple[str | None, int, Any]]:
    """Return for each key the text of one of its columns, the number of lines, and the whole key."""
    text = f"cast(({group.key[column]}\n) as varchar)"
    found = _query(name, lines, group, [f"{text} as t", "count(*) as n", *_keys(group)], "group by all")
    columns: list[list[Any]] = [part.to_pylist() for part in found.columns]
    return [(text, count, tuple(key)) for text, count, *key in zip(*columns, strict=True)]


def read_key_texts(name: str, lines: pa.Table, group: LogGroup, column: str) -> "pa.ChunkedArray[Any]":
    """Return for each line the text of one column of its key."""
    return _query(name, lines, group, [f"cast(({group.key[column]}\n) as varchar) as t"]).column(0)


def read_keys(name: str, lines: pa.Table, group: LogGroup) -> pa.Table:
    """Return the key of each line."""
    return _query(name, lines, group, _keys(group))


def _query(name: str, lines: pa.Table, group: LogGroup, chosen: list[str], clauses: str = "") -> pa.Table:
    query = f"select {', '.join(chosen)} from lines {clauses}"  # noqa: S608  the spec's expressions were read, names are quoted
    known = [column for column in lines.column_names if column != ROW_ID]
    plain = [column for column, expression in group.key.items() if expression == quote_column(column)]
    if missing := tuple(column for column in plain if column not in known):
        raise MissingColumns(f"source `{name}`", missing, tuple(known))
    import duckdb  # late imports, because they take a while and most pipelines have no groups

    from penstock.database.closed_duckdb import may_quote_values

    with open_engine() as connection:
        connection.execute("set threads = 1; set TimeZone = 'UTC'")  # so that sums and firsts are those of the order
        connection.register("lines", lines.select(known))
        try:
            found: pa.Table = connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            hidden = may_quote_values(error)  # whether a column is private is not known here
            reason = f"{type(error).__name__} of a value" if hidden else str(error).partition("\n")[0]
            raise GroupFailed(name, reason) from (None if hidden else error)
    return found


def _keys(group: LogGroup) -> list[str]:
    return [_named(expression, column) for column, expression in group.key.items()]


def _named(expression: str, column: str) -> str:
    return f"({expression}\n) as {quote_column(column)}"
