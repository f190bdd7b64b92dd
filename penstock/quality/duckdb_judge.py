"""Judge rows with predicates in a DuckDB of this process that can reach nothing outside of it."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from penstock.quality.predicates import Predicate

_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,  # partitions are the parallelism
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "lock_configuration": True,
}
_lock = threading.Lock()
_connection: tuple[int, duckdb.DuckDBPyConnection] | None = None


@dataclass(frozen=True)
class Count:
    """What one predicate found in a table."""

    evaluated: int
    unexpected: int
    positions: Sequence[int]
    """Positions of the unexpected rows, in order."""


def count_rows(table: pa.Table, predicates: Sequence[Predicate]) -> list[Count]:
    """Judge a table by all predicates: one pass for the counts, and one for the positions if any row is unexpected."""
    asked = ", ".join(f"count(*) filter ({p.evaluated}), count(*) filter ({p.unexpected})" for p in predicates)
    with _cursor() as cursor:
        cursor.register("penstock_rows", _decode(table))
        row = cursor.execute(f"select {asked} from penstock_rows").fetchall()[0]  # noqa: S608 # names and values are quoted
        counts = list(zip(row[::2], row[1::2], strict=True))
        failed = [number for number, (_evaluated, unexpected) in enumerate(counts) if unexpected]
        positions: dict[int, list[int]] = {}
        if failed:
            shown = ", ".join(f"{predicates[number].unexpected} as p{number}" for number in failed)
            flags = cursor.sql(f"select {shown} from penstock_rows").to_arrow_table()  # noqa: S608 # as above
            positions = {number: _positions(flags[f"p{number}"]) for number in failed}
    return [Count(*count, positions.get(number, ())) for number, count in enumerate(counts)]


def _decode(table: pa.Table) -> pa.Table:
    """Write out dictionaries, so that each column has the type that its predicate was compiled for."""
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(zip(table.column_names, kinds, strict=True)))


def _positions(flags: "pa.ChunkedArray[pa.BooleanScalar]") -> list[int]:
    found: list[int] = np.flatnonzero(flags.to_numpy()).tolist()
    return found


def _cursor() -> duckdb.DuckDBPyConnection:
    """Return a connection of one call to the DuckDB of this process. A fork makes its own."""
    global _connection
    with _lock:
        if _connection is None or _connection[0] != os.getpid():
            _connection = (os.getpid(), duckdb.connect(":memory:", config=_CLOSED))
        return _connection[1].cursor()
