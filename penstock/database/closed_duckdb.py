"""A DuckDB in memory that reaches nothing outside of it: no files, network, extensions or Python variables.

A process keeps one, because opening costs 15 ms of CPU for each partition. A connection sees only the tables that it
registered itself, and the settings are locked. For small tables, as requests bring them, each thread also keeps
connections with the plans of their queries: registering, binding and planning cost more than the query.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from penstock.database.planned_query import PlannedQuery

_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,  # partitions are the parallelism
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


_OF_THE_SQL = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)


_SMALL_ROWS = 1024
"""Most rows of all tables of a connection that is kept."""
_KEPT = 32
"""Most connections that a thread keeps, each for tables of other columns."""
_MADE = 64
"""Most things that a kept connection has made. One with more is closed."""
T = TypeVar("T")


def may_quote_values(error: duckdb.Error) -> bool:
    """Whether the message of an error may show values of rows. Those about the SQL itself do not."""
    return not isinstance(error, _OF_THE_SQL)


class _Stream:
    """A table that DuckDB reads anew with each execution of a relation."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class TableConnection:
    """A connection with some tables. What is made of them may be kept for other tables with the same columns."""

    raw: duckdb.DuckDBPyConnection
    unoptimized: duckdb.DuckDBPyConnection | None = None
    """A kept connection's other one: to a DuckDB without optimizer, with the same tables."""
    _streams: dict[str, _Stream] = field(default_factory=dict)
    _made: dict[Hashable, Any] = field(default_factory=dict)

    def keep(self, key: Hashable, make: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Return what was made under a key, such as a relation. Make it first if there is none."""
        if key not in self._made:
            self._made[key] = make(self.raw)
        made: T = self._made[key]
        return made

    def plan_once(self, relation: duckdb.DuckDBPyRelation, projections: int | None) -> Callable[[], pa.Table]:
        """Return what fetches a relation's rows. On a kept connection it is a `PlannedQuery`."""
        if self.unoptimized is None:
            fetch: Callable[[], pa.Table] = relation.to_arrow_table
            return fetch
        planned = PlannedQuery(relation, self.unoptimized, projections)
        return lambda: planned.fetch(sum(stream.table.num_rows for stream in self._streams.values()))

    def interrupt(self) -> None:
        """Interrupt what runs."""
        self.raw.interrupt()
        if self.unoptimized is not None:
            self.unoptimized.interrupt()

    def close(self) -> None:
        self.raw.close()
        if self.unoptimized is not None:
            self.unoptimized.close()


class ClosedDuckdb:
    """Opens connections to one closed DuckDB of this process. A fork opens its own."""

    def __init__(self, prepare: Callable[[duckdb.DuckDBPyConnection], None] | None = None) -> None:
        """`prepare` creates macros once, before the settings are locked."""
        self._prepare = prepare
        self._lock = threading.Lock()
        self._opened: dict[tuple[int, bool], duckdb.DuckDBPyConnection] = {}
        """By process, and whether with the optimizer. A fork keeps its parent's, since closing it there crashes."""
        self._kept: dict[tuple[int, int], OrderedDict[Hashable, TableConnection]] = {}
        """By process and thread: connections for small tables, the one that was used last at the end."""

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

    @contextmanager
    def connect_tables(
        self, tables: Mapping[str, pa.Table], standing: Container[str] = ()
    ) -> Iterator[TableConnection]:
        """Give a connection that has these tables and no others.

        Small tables get the connection that this thread used last for tables of the same columns. After an error it is
        not used again.

        Args:
            standing: tables that stay from one use to the next. They need not be small.
        """
        if sum(table.num_rows for name, table in tables.items() if name not in standing) > _SMALL_ROWS:
            with self.connect(tables) as connection:
                yield TableConnection(connection)
            return
        kept = self._kept_connections()
        key = tuple((name, table.schema) for name, table in tables.items())
        opened = kept.pop(key, None) or self._open_tables(tables)
        for name, stream in opened._streams.items():
            stream.table = tables[name]
        try:
            yield opened
        except BaseException:
            opened.close()
            raise
        if len(opened._made) > _MADE:
            opened.close()
            return
        for stream in opened._streams.values():
            stream.table = stream.table.schema.empty_table()
        kept[key] = opened
        if len(kept) > _KEPT:
            kept.popitem(last=False)[1].close()

    def _kept_connections(self) -> OrderedDict[Hashable, TableConnection]:
        """Return this thread's connections. Those of threads that have ended are closed."""
        process, thread = os.getpid(), threading.get_ident()
        if (process, thread) not in self._kept:
            with self._lock:
                alive = {each.ident for each in threading.enumerate()}
                for ended in [key for key in self._kept if key[0] == process and key[1] not in alive]:
                    for connection in self._kept.pop(ended).values():
                        connection.close()
                self._kept[process, thread] = OrderedDict()
        return self._kept[process, thread]

    def _open_tables(self, tables: Mapping[str, pa.Table]) -> TableConnection:
        raw, unoptimized = self._instance().cursor(), self._instance(optimizer=False).cursor()
        opened = TableConnection(raw, unoptimized, {name: _Stream(table) for name, table in tables.items()})
        for name, stream in opened._streams.items():
            raw.register(name, stream)
            unoptimized.register(name, stream)
        return opened

    def _instance(self, *, optimizer: bool = True) -> duckdb.DuckDBPyConnection:
        key = os.getpid(), optimizer
        with self._lock:
            if key not in self._opened:
                self._opened[key] = self._open(optimizer)
            return self._opened[key]

    def _open(self, optimizer: bool) -> duckdb.DuckDBPyConnection:
        instance = duckdb.connect(":memory:", config=_CLOSED | {"enable_optimizer": optimizer})
        instance.execute("SET GLOBAL TimeZone='UTC'")
        if self._prepare is not None:
            self._prepare(instance)
        instance.execute("SET lock_configuration=true")
        return instance
