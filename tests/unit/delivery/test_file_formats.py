"""How rows are written to files."""

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.delivery.file_formats import WRITERS

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
ROWS = pa.table(
    {
        "id": pa.array([2**63 - 1, -(2**63), 3], pa.int64()),
        "text": ['a "b",\r\nü', "", None],
        "price": pa.array([Decimal("12.5"), None, Decimal("-0.001")], pa.decimal128(38, 10)),
        "score": [0.1, float("nan"), None],
        "is_new": [True, False, None],
        "day": pa.array([date(2026, 1, 1), None, None], pa.date32()),
        "time": pa.array(
            [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 30, 500, tzinfo=UTC), None], TIME
        ),
    }
)


def write(path: Path, kind: str) -> bytes:
    writer = WRITERS[kind](path, ROWS.schema)
    writer.write(ROWS.slice(0, 1))
    writer.write(ROWS.slice(1))
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_equal_rows_give_equal_bytes(kind: str, tmp_path: Path) -> None:
    assert write(tmp_path / "a", kind) == write(tmp_path / "b", kind)


def test_parquet_has_every_value_and_type(tmp_path: Path) -> None:
    write(tmp_path / "a", "parquet")
    read = pq.read_table(tmp_path / "a")
    assert read.schema.equals(ROWS.schema)
    assert read.drop_columns("score").equals(ROWS.drop_columns("score"))
    assert str(read["score"].to_pylist()) == "[0.1, nan, None]"


def test_csv_is_that_of_rfc_4180(tmp_path: Path) -> None:
    text = write(tmp_path / "a", "csv").decode()
    assert text.endswith("\r\n")
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert header == ROWS.column_names
    assert rows == [
        ["9223372036854775807", 'a "b",\r\nü', "12.5000000000", "0.1", "true", "2026-01-01", "2026-01-01T00:00:00Z"],
        ["-9223372036854775808", "", "", "nan", "false", "", "2026-01-01T00:00:30.0005Z"],
        ["3", "", "-0.0010000000", "", "", "", ""],
    ]
    assert '\r\n-9223372036854775808,"",' in text  # an empty text
    assert "\r\n3,,-0.0010000000" in text  # NULL
