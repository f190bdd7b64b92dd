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
    filters = [condition for predicate in predicates for condition in (predicate.evaluated, predicate.unexpected)]
    asked = ", ".join(f"count(*) filter ({condition}) as c{number}" for number, condition in enumerate(filters))
    with _DUCKDB.connect_tables({"penstock_rows": _decode(table)}) as connection:
        counting = f"select {asked} from penstock_rows"  # noqa: S608 # names and values are quoted
        found = connection.keep(counting, lambda raw: connection.plan_once(raw.sql(counting), None))()
        row = [column[0].as_py() for column in found.columns]
        counts = list(zip(row[::2], row[1::2], strict=True))
        failed = [number for number, (_evaluated, unexpected) in enumerate(counts) if unexpected]
        positions: dict[int, list[int]] = {}
        if failed:
            shown = ", ".join(f"{predicates[number].unexpected} as p{number}" for number in failed)
            flagging = f"select {shown} from penstock_rows"  # noqa: S608 # as above
            flags = connection.keep(flagging, lambda raw: raw.sql(flagging)).to_arrow_table()
            positions = {number: _positions(flags[f"p{number}"]) for number in failed}
    return [Count(*count, positions.get(number, ())) for number, count in enumerate(counts)]


def _decode(table: pa.Table) -> pa.Table:
    """Write out dictionaries, so that each column has the type that its predicate was compiled for."""
    if not any(pa.types.is_dictionary(field.type) for field in table.schema):
        return table
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(zip(table.column_names, kinds, strict=True)))


def _positions(flags: "pa.ChunkedArray[pa.BooleanScalar]") -> list[int]:
    found: list[int] = np.flatnonzero(flags.to_numpy()).tolist()
    return found
