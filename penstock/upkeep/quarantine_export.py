"""Export the quarantine to a Parquet file: one row per refused row, with its fields and its metadata."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from penstock.database.connections import Database
from penstock.database.types import TIMESTAMP
from penstock.ledger.quarantine import QuarantinedRow, pages_of

FIELD = "row_"
"""Prefix of the names of the rows' own fields."""
_ABOUT: dict[str, Any] = {
    "run_id": pa.string(),
    "pipeline": pa.string(),
    "interval_start": TIMESTAMP,
    "interval_end": TIMESTAMP,
    "stage": pa.string(),
    "source": pa.string(),
    "key": pa.string(),
    "reasons": pa.list_(pa.string()),
    "state": pa.string(),
    "settled_by_run": pa.string(),
    "row": pa.string(),
}


def write_quarantine(database: Database, run_ids: Sequence[str], file: Path) -> int:
    """Write the refused rows of these runs and return their number. The file appears complete or not at all.

    A field becomes a column if all rows that have it agree on its type. Otherwise it is only in `row`.
    """
    kinds: dict[str, pa.DataType | None] = {}
    for row in _rows_of(database, run_ids):
        for name, value in json.loads(row.row).items():
            kinds[name] = _common(kinds[name], _kind(value)) if name in kinds else _kind(value)
    fields = {name: kind for name, kind in kinds.items() if kind is not None and not pa.types.is_null(kind)}
    schema = pa.schema(_ABOUT | {f"{FIELD}{name}": kind for name, kind in fields.items()})
    unfinished, count = file.with_name(f"{file.name}.unfinished"), 0
    try:
        with pyarrow.parquet.ParquetWriter(unfinished, schema) as writer:
            for run_id in run_ids:
                for page in pages_of(database, run_id):
                    writer.write_table(pa.Table.from_pylist([_record(row, fields) for row in page], schema))
                    count += len(page)
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _rows_of(database: Database, run_ids: Sequence[str]) -> Iterator[QuarantinedRow]:
    for run_id in run_ids:
        for page in pages_of(database, run_id):
            yield from page


def _record(row: QuarantinedRow, fields: dict[str, pa.DataType]) -> dict[str, Any]:
    about = {name: getattr(row, name) for name in _ABOUT}
    own = json.loads(row.row)
    return about | {f"{FIELD}{name}": own.get(name) for name in fields}


def _kind(value: Any) -> pa.DataType | None:
    """Return the Arrow type of a JSON value, or None if no type fits."""
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64() if -(2**63) <= value < 2**63 else None
    if isinstance(value, float):
        return pa.float64()
    return pa.string() if isinstance(value, str) else None


def _common(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    if one is None or other is None or one == other:
        return one if one == other else None
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    return pa.float64() if {one, other} == {pa.int64(), pa.float64()} else None
