"""Write rows as Parquet or CSV, the same bytes for the same rows."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

GROUP_ROWS = 262_144
"""Most rows of a row group of Parquet."""
compute: Any = pyarrow.compute


class RowWriter(ABC):
    """Writes one file, one table after another."""

    @abstractmethod
    def write(self, rows: pa.Table) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class ParquetWriter(RowWriter):
    """Writes Parquet with all types as they are."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=GROUP_ROWS)

    def close(self) -> None:
        self._writer.close()


class CsvWriter(RowWriter):
    """Writes CSV by RFC 4180 in UTF-8: text in quotes, NULL as nothing, times in UTC as in `2026-01-01T00:00:00Z`."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file: BinaryIO = path.open("wb")
        written = pa.schema([(field.name, _written(field.type)) for field in schema])
        options = pyarrow.csv.WriteOptions(eol="\r\n")  # type: ignore[call-arg] # its stubs lack it
        self._writer = pyarrow.csv.CSVWriter(self._file, written, write_options=options)

    def write(self, rows: pa.Table) -> None:
        columns = [_as_text(column) if pa.types.is_timestamp(column.type) else column for column in rows.columns]
        self._writer.write_table(pa.table(columns, names=rows.column_names))

    def close(self) -> None:
        self._writer.close()
        self._file.close()


WRITERS: dict[str, type[ParquetWriter] | type[CsvWriter]] = {"parquet": ParquetWriter, "csv": CsvWriter}
"""By the kind of a target."""


def _written(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_timestamp(kind) else kind


def _as_text(times: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Write times to the microsecond, without zeros at the end of a fraction."""
    text = compute.strftime(times, format="%Y-%m-%dT%H:%M:%S")
    text = compute.replace_substring_regex(text, r"\.?0*$", "")
    written: pa.ChunkedArray[Any] = compute.binary_join_element_wise(text, "Z", "")
    return written
