"""A DuckDB in memory that reaches nothing outside of it: no files, network, extensions or Python variables.

A process keeps one, because opening costs 15 ms of CPU for each partition. A connection sees only the tables that it
registered itself, and the settings are locked.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import duckdb
import pyarrow as pa

_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,  # partitions are the parallelism
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


_OF_THE_SQL = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)


def may_quote_values(error: duckdb.Error) -> bool:
    """Whether the message of an error may show values of rows. Those about the SQL itself do not."""
    return not isinstance(error, _OF_THE_SQL)


class ClosedDuckdb:
    """Opens connections to one closed DuckDB of this process. A fork opens its own."""

    def __init__(self, prepare: Callable[[duckdb.DuckDBPyConnection], None] | None = None) -> None:
        """`prepare` creates macros once, before the settings are locked."""
        self._prepare = prepare
        self._lock = threading.Lock()
        self._opened: dict[int, duckdb.DuckDBPyConnection] = {}
        """By process. A fork keeps its parent's, since closing it there crashes."""

    @contextmanager
    def connect(self, tables: Mapping[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection that has these tables and no others."""
        connection = self._instance().cursor()
        try:
            for name, table in tables.items():
                connection.register(name, table)
            yield connection
        finally:
            connection.close()

    def _instance(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if os.getpid() not in self._opened:
                self._opened[os.getpid()] = self._open()
            return self._opened[os.getpid()]

    def _open(self) -> duckdb.DuckDBPyConnection:
        instance = duckdb.connect(":memory:", config=_CLOSED)
        instance.execute("SET GLOBAL TimeZone='UTC'")
        if self._prepare is not None:
            self._prepare(instance)
        instance.execute("SET lock_configuration=true")
        return instance
