"""The rows whose decision differs between two sides: masked, and written to a CSV or Parquet file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import sqlalchemy as sa

from penstock.database.types import TIMESTAMP, ExactNumber, arrow_type
from penstock.privacy.masking import MaskingPolicy
from penstock.report.paired_rows import PairedRows

FORMATS = (".csv", ".parquet")
KEY = "key_"


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...
    def close(self) -> None: ...


def mask_flips(rows: PairedRows, masking: MaskingPolicy, limit: int | None = None) -> Iterator[list[dict[str, Any]]]:
    """Yield the flips some thousand at a time, at most `limit`. Private keys are hashed."""
    for batch in rows.read_flips(limit):
        yield [_masked(row, masking) for row in batch]


def write_flips(rows: PairedRows, masking: MaskingPolicy, file: Path) -> int:
    """Write all flips and return their number. The file appears complete or not at all.

    Args:
        file: Ends in one of `FORMATS`, which chooses the format.
    """
    schema = _flip_schema(rows, masking)
    unfinished, count = file.with_name(f"{file.name}.unfinished"), 0
    try:
        writer = _open(unfinished, schema, file.suffix.lower())
        try:
            for batch in mask_flips(rows, masking):
                writer.write_table(pa.Table.from_pylist([_plain(row, schema) for row in batch], schema))
                count += len(batch)
        finally:
            writer.close()
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _open(file: Path, schema: pa.Schema, suffix: str) -> _Writer:
    writer: Any = pyarrow.csv.CSVWriter if suffix == ".csv" else pyarrow.parquet.ParquetWriter
    opened: _Writer = writer(file, schema)
    return opened


def _masked(row: dict[str, Any], masking: MaskingPolicy) -> dict[str, Any]:
    key = masking.mask({name.removeprefix(KEY): value for name, value in row.items() if name.startswith(KEY)})
    return {name: key[name.removeprefix(KEY)] if name.startswith(KEY) else value for name, value in row.items()}


def _flip_schema(rows: PairedRows, masking: MaskingPolicy) -> pa.Schema:
    columns = rows.columns
    fields: dict[str, pa.DataType] = {"interval_start": TIMESTAMP, "interval_end": TIMESTAMP}
    for name, kind in columns.key.items():
        fields[f"{KEY}{name}"] = pa.string() if masking.hides([name]) else _written(kind)
    for name, kind in (*columns.decisions.items(), *columns.scores.items()):
        fields |= {f"{side}_{name}": _written(kind) for side in "ab"}
    return pa.schema(fields)


def _written(kind: sa.types.TypeEngine[Any]) -> pa.DataType:
    """Return the type of a column. An exact number is text: not every database declares its digits."""
    return pa.string() if isinstance(kind, ExactNumber) else arrow_type(kind)


def _plain(row: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """Return a row's values as Arrow takes them."""
    texts = {field.name for field in schema if pa.types.is_string(field.type)}
    return {name: str(value) if name in texts and value is not None else value for name, value in row.items()}
