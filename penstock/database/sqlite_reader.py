"""Read large results of SQLite in a process of its own, with ADBC (docs/adr/0032).

Python's driver makes an object of each value, and remains the reference. A read goes to the other process only where
both libraries must return the same values in the same order. The process may decline, and then Python's driver reads.
"""

import atexit
import json
import mmap
import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.dialects.files import NOT_A_PATH
from penstock.errors import DatabaseUnavailable

LARGE = 1_000_000
"""Values from which a read goes to the other process. Its start costs about what it saves in such a read."""
_BUSY_MILLISECONDS = 5_000
"""How long the other process waits for a lock. Then Python's driver waits as long as the engine says."""
_PROGRAM = Path(__file__).with_name("sqlite_program.py")
_COMPUTING = re.compile(
    r"(Pure)?Function|Agg\w+|Cast|Concat|Real|Add|Subtract|Multiply|Divide|Remainder|V(Open|Filter|Column)"
)
"""Instructions of SQLite with which two versions may compute different values, for example the sum of floats."""


class _Died(Exception):
    """The process was killed."""


@dataclass(frozen=True)
class Request:
    """A read for the other process. The names are the arguments of its `_read`."""

    uri: str
    busy_milliseconds: int
    sql: str
    parameters: tuple[Any, ...]
    plan: tuple[str, ...]


class _Reader:
    """The process, started when it is needed and shared by all threads, which take turns."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._unusable = sys.platform != "linux" or find_spec("adbc_driver_sqlite") is None
        atexit.register(self.close)

    def read(self, request: Request) -> pa.Table | None:
        """Return the rows, with numbers as names. None if the process declines, or cannot work here.

        Raises:
            _Died: it was killed, and the one that was started instead too.
        """
        with self._lock:
            for again in (True, False):
                if self._unusable:
                    return None
                try:
                    return self._ask(request)
                except (OSError, EOFError) as error:
                    status = self._end()
                    if status is None or status >= 0:  # it cannot start, or has failed by itself
                        self._unusable = True
                    elif not again:
                        raise _Died(f"signal {-status}") from error
                except BaseException:  # Ctrl-C: its answer would be taken for that of the next request
                    self._end()
                    raise
        raise AssertionError("the loop returns or raises")

    def close(self) -> None:
        """End the process. A later read starts another one."""
        with self._lock:
            self._end()

    def _ask(self, request: Request) -> pa.Table | None:
        channel = self._start() if self._channel is None else self._channel
        channel.sendall(json.dumps(asdict(request)).encode() + b"\n")
        received, files = b"", list[int]()
        while not received.endswith(b"\n"):
            part, given, _, _ = socket.recv_fds(channel, 65_536, 1)
            if not part:
                raise EOFError
            received, files = received + part, files + given
        if not files:
            return None
        try:
            mapped = mmap.mmap(files[0], json.loads(received)["bytes"], prot=mmap.PROT_READ)
        finally:
            os.close(files[0])
        table: pa.Table = pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()
        return table

    def _start(self) -> socket.socket:
        mine, its = socket.socketpair()
        with its:
            command = [sys.executable, "-P", str(_PROGRAM), str(its.fileno())]
            nothing = subprocess.DEVNULL
            self._process = subprocess.Popen(command, pass_fds=[its.fileno()], stdin=nothing, stdout=nothing)
        self._channel = mine
        return mine

    def _end(self) -> int | None:
        """End the process. Return its exit status, or None if there is none."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is None:
            return None
        try:
            return process.wait(5)  # it ends when the channel is closed
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


_readers: list[_Reader] = []
"""That of this process, or of the one that it was forked from."""
_readers_lock = threading.Lock()


def _own_reader() -> _Reader:
    with _readers_lock:
        if not _readers or _readers[0].owner != os.getpid():
            _readers[:] = [_Reader()]
        return _readers[0]


def close_reader() -> None:
    """End the process that reads SQLite files. A later read starts another one."""
    for reader in _readers:
        reader.close()


def read_apart(name: str, connection: sa.Connection, statement: sa.Select[Any]) -> pa.Table | None:
    """Read a large result in the other process. None if Python's driver must read it.

    Args:
        name: That of the database in messages.

    Raises:
        DatabaseUnavailable: the process was killed twice.
    """
    request = _request(connection, statement)
    # A writer may wait for the locks of this transaction, and the other process for the writer.
    connection.rollback()
    if request is None:
        return None
    try:
        return _own_reader().read(request)
    except _Died as died:
        what = f"the process that reads its file was killed twice ({died})"
        remedy = "Check that the machine has enough memory for the partitions in flight, then run again."
        raise DatabaseUnavailable(name, what, remedy) from None


def _request(connection: sa.Connection, statement: sa.Select[Any]) -> Request | None:
    """Return the read of a statement, or None if the two libraries may read different rows or values."""
    url, dialect = connection.engine.url, connection.dialect
    name = url.database or ""
    if dialect.driver != "pysqlite" or not name or name.startswith(NOT_A_PATH) or set(url.query) - {"timeout"}:
        return None
    compiled = statement.compile(dialect=dialect)
    expanded = compiled.construct_expanded_state()
    values = []
    for key in expanded.positiontup or ():
        bind = expanded.processors.get(key)
        if bind is None and key in compiled.binds:
            bind = compiled.binds[key].type.dialect_impl(dialect).bind_processor(dialect)
        values.append(bind(expanded.parameters[key]) if bind else expanded.parameters[key])
    if any(type(value) not in (int, float, str) for value in values):
        return None
    sql, parameters = expanded.statement, tuple(values)
    program = connection.exec_driver_sql(f"EXPLAIN {sql}", parameters)
    if any(_COMPUTING.fullmatch(row.opcode) for row in program):
        return None
    plan = tuple(row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters))
    busy = min(_BUSY_MILLISECONDS, int(float(str(url.query.get("timeout", 5))) * 1000))
    return Request(f"{Path(name).absolute().as_uri()}?mode=ro", busy, sql, parameters, plan)
