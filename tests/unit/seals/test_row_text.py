"""Rows as bytes: equal for equal rows, whatever their types, and different for different ones."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.seals.row_text import Kind, write_column, write_rows

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(st.none(), st.text(max_size=9), st.sampled_from(["", "1:a", "3:abc"]))


def texts(values: list[Any], kind: pa.DataType | None = None, stated: Kind | None = None) -> list[str | None]:
    return write_column(pa.chunked_array([pa.array(values, kind)]), stated).to_pylist()


def test_a_number_has_one_text_whatever_its_type() -> None:
    assert texts([5, -7, 0]) == ["5", "-7", "0"]
    assert texts([5.0, -7.0, -0.0]) == ["5", "-7", "0"]
    assert texts([Decimal("5.00"), Decimal("-7"), Decimal("0.0")]) == ["5", "-7", "0"]
    assert texts(["5.0", "-7", "0E+3"], stated="number") == ["5", "-7", "0"]
    assert texts(["0.1_2", " 5", "٥"], stated="number") == ["0.1_2", " 5", "٥"]  # SQLite stores such text
    assert texts([1e-7, 1e22, 0.1]) == ["0.0000001", "1" + "0" * 22, "0.1"]
    assert texts([float("nan"), float("inf"), -float("inf"), None]) == [None, "inf", "-inf", None]


def test_other_values_have_the_same_text_as_a_sqlite_file_gives() -> None:
    assert texts([True, False, None]) == texts([1, 0, None], stated="flag") == ["true", "false", None]
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert (
        texts([moment]) == texts(["2026-01-02 03:04:05.000006"], stated="time") == texts([moment.replace(tzinfo=None)])
    )
    assert texts([date(2026, 1, 2)]) == texts(["2026-01-02"], stated="day") == ["2026-01-02"]


@pytest.mark.parametrize(
    ("kind", "odd"), [("number", "many"), ("flag", "2"), ("time", "yesterday"), ("day", "never"), ("text", "x")]
)
def test_a_value_of_another_kind_is_written_as_it_is(kind: Kind, odd: str) -> None:
    assert texts([odd], stated=kind) == [odd]


@given(FINITE)
def test_a_float_and_the_decimal_of_its_digits_are_the_same_number(value: float) -> None:
    assert texts([value]) == texts([repr(value)], stated="number")
    assert float(str(texts([value])[0])) == value


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "ab", "a=1"]), VALUES, max_size=4), min_size=2, max_size=9))
def test_rows_are_equal_only_if_their_values_are(rows: list[dict[str, str | None]]) -> None:
    table = pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in ("a", "ab", "b", "a=1")})

    written = write_rows(table)

    known = [{name: value for name, value in row.items() if value is not None} for row in rows]
    for one, first in zip(known, written, strict=True):
        for other, second in zip(known, written, strict=True):
            assert (one == other) == (first == second)


def test_the_order_of_columns_and_a_column_of_nulls_change_nothing() -> None:
    row = pa.table({"key": [1], "score": [0.5]})

    assert write_rows(row) == write_rows(row.select(["score", "key"]))
    assert write_rows(row) == write_rows(row.append_column("new", pa.nulls(1))) == [b"3:key=1:15:score=3:0.5"]
