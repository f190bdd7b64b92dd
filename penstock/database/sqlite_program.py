"""The program of the process that reads SQLite files with ADBC (docs/adr/0032).

It runs as a file of its own, so it imports nothing of Penstock, and no second SQLite library is ever in its process.
A request is a line of JSON. The answer is a line of JSON, with the rows as an Arrow stream in a file in memory.
"""

import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import adbc_driver_sqlite
import pyarrow as pa
from adbc_driver_manager import AdbcConnection, AdbcStatement, Error

_BATCH_ROWS = 2**20
"""The driver finds a column's type in its first batch. It reserves 8 bytes of address space for each value of one."""
_INEXACT = 2**53
"""From here on a float64 may stand for several integers."""
_LIKE_FLOATS = (3, 4, 12, 13, 14)
"""The lengths of `inf`, `-inf` and `-1.500000e+300`. The driver writes floats so in a column with texts."""


class _Declined(Exception):
    """Python's driver may read other rows or values."""


def main(channel: socket.socket) -> None:
    """Answer requests until the other end of the channel is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the caller, who then closes the channel
    threading.Thread(target=_end_with, args=(channel, os.getppid()), daemon=True).start()
    with channel.makefile("rb") as requests:
        for line in requests:
            try:
                rows = _read(**json.loads(line))
            except (_Declined, Error, OSError, pa.ArrowException) as error:
                _answer(channel, {"declined": f"{type(error).__name__}: {error}"}, [])
                continue
            file = os.memfd_create("rows")
            with open(file, "wb", closefd=False) as opened, pa.ipc.new_stream(opened, rows.schema) as stream:
                stream.write_table(rows)
            del rows
            _answer(channel, {"bytes": os.fstat(file).st_size}, [file])
            os.close(file)


def _answer(channel: socket.socket, answer: dict[str, Any], files: list[int]) -> None:
    socket.send_fds(channel, [json.dumps(answer).encode() + b"\n"], files)


def _end_with(channel: socket.socket, parent: int) -> None:
    """End this process at once when its parent is gone or has closed the channel, also in the middle of a read."""
    closed = select.poll()
    closed.register(channel, select.POLLRDHUP)
    while not closed.poll(1000) and os.getppid() == parent:
        pass
    os._exit(0)


def _read(uri: str, busy_milliseconds: int, sql: str, parameters: Sequence[Any], plan: Sequence[str]) -> pa.Table:
    """Read a query's rows in one transaction, as Python's driver and `pyarrow.array` would give them.

    Args:
        plan: how the other library reads the query. Another plan may give the rows in another order.

    Raises:
        _Declined: it is not certain that they would be the same.
        Error: SQLite refused the query.
    """
    with ExitStack() as opened:
        database = opened.enter_context(adbc_driver_sqlite.connect(uri))
        connection = opened.enter_context(AdbcConnection(database))
        _execute(connection, f"pragma busy_timeout = {busy_milliseconds}")
        connection.set_autocommit(False)  # begins a transaction
        if _execute(connection, f"explain query plan {sql}", parameters)["detail"].to_pylist() != plan:
            raise _Declined("the plan of the query differs")
        rows = _in_one_batch(connection, sql, parameters)
        _refuse_lies(connection, sql, parameters, rows)
        rows.validate(full=True)  # texts that are not UTF-8
    columns = [pa.nulls(len(c)) if c.null_count == len(c) else c for c in rows.columns]
    return pa.table(columns, names=[str(position) for position in range(len(columns))])


def _execute(
    connection: AdbcConnection, sql: str, parameters: Sequence[Any] = (), batch_rows: int = _BATCH_ROWS
) -> pa.Table:
    with AdbcStatement(connection) as statement:
        statement.set_options(**{"adbc.sqlite.query.batch_rows": str(batch_rows)})
        statement.set_sql_query(sql)
        if parameters:
            values = [pa.array([value]) for value in parameters]
            bound = pa.record_batch(values, names=[str(position) for position in range(len(values))])
            statement.prepare()
            statement.bind_stream(pa.RecordBatchReader.from_batches(bound.schema, [bound]))
        stream, _ = statement.execute_query()
        reader: Any = pa.RecordBatchReader
        rows: pa.Table = reader._import_from_c(stream.address).read_all()
        return rows


def _in_one_batch(connection: AdbcConnection, sql: str, parameters: Sequence[Any]) -> pa.Table:
    """Read all rows as one batch, so that the type of a column is that of all its values."""
    try:
        rows = _execute(connection, sql, parameters)
    except OSError:  # a value of a later batch does not have the type of the first one
        rows = None
    if rows is None or rows.num_rows > _BATCH_ROWS:
        counted = _execute(connection, f"select count(*) from ({sql})", parameters)  # noqa: S608 # as below
        rows = _execute(connection, sql, parameters, counted.column(0)[0].as_py() + 1)
    return rows


def _refuse_lies(connection: AdbcConnection, sql: str, parameters: Sequence[Any], rows: pa.Table) -> None:
    """Refuse columns whose storage classes the driver has mixed into other values than Python would.

    Python makes floats of small integers among floats, and texts of integers among texts, as the driver does.

    Raises:
        _Declined: there is one.
    """
    wrong = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        kind, quoted = field.type, '"' + field.name.replace('"', '""') + '"'
        if pa.types.is_floating(kind) and _has_large(column):
            wrong.append(f"typeof({quoted}) = 'integer'")
        elif pa.types.is_string(kind) and _has_floats(column):
            wrong.append(f"typeof({quoted}) = 'real'")
        elif pa.types.is_binary(kind):
            wrong.append(f"typeof({quoted}) not in ('blob', 'null')")
    if not wrong:
        return
    looked = ", ".join(f"max({condition})" for condition in wrong)
    found = _execute(connection, f"select {looked} from ({sql})", parameters)  # noqa: S608 # a query of SQLAlchemy's
    if any(column[0].as_py() for column in found.columns):
        raise _Declined("a column has several storage classes")


def _has_large(column: "pa.ChunkedArray[Any]") -> bool:
    """Whether a column has floats that may have been large integers."""
    import pyarrow.compute as pc

    extremes: Any = pc.min_max(column)
    return any(abs(extreme.as_py() or 0) >= _INEXACT for extreme in extremes.values())


def _has_floats(column: "pa.ChunkedArray[Any]") -> bool:
    """Whether a column has texts that may have been floats."""
    import pyarrow.compute as pc

    untyped: Any = pc
    lengths = untyped.value_counts(untyped.binary_length(column)).field("values")
    return any(length in _LIKE_FLOATS for length in lengths.to_pylist())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
