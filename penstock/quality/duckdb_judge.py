"""Judge rows with predicates in the closed DuckDB of this process."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from penstock.database.closed_duckdb import ClosedDuckdb
from penstock.quality.predicates import Predicate

_DUCKDB = ClosedDuckdb()


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
    with _DUCKDB.connect({"penstock_rows": _decode(table)}) as connection:
        row = connection.execute(f"select {asked} from penstock_rows").fetchall()[0]  # noqa: S608 # names and values are quoted
        counts = list(zip(row[::2], row[1::2], strict=True))
        failed = [number for number, (_evaluated, unexpected) in enumerate(counts) if unexpected]
        positions: dict[int, list[int]] = {}
        if failed:
            shown = ", ".join(f"{predicates[number].unexpected} as p{number}" for number in failed)
            flags = connection.sql(f"select {shown} from penstock_rows").to_arrow_table()  # noqa: S608 # as above
            positions = {number: _positions(flags[f"p{number}"]) for number in failed}
    return [Count(*count, positions.get(number, ())) for number, count in enumerate(counts)]


def _decode(table: pa.Table) -> pa.Table:
    """Write out dictionaries, so that each column has the type that its predicate was compiled for."""
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(zip(table.column_names, kinds, strict=True)))


def _positions(flags: "pa.ChunkedArray[pa.BooleanScalar]") -> list[int]:
    found: list[int] = np.flatnonzero(flags.to_numpy()).tolist()
    return found
