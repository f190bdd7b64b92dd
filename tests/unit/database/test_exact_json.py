"""Rows as JSON: every value comes back as it was, to the bit."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.database.exact_json import read_schema, read_values, write_schema, write_values
from penstock.database.types import TIMESTAMP

MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999), timezones=st.just(UTC))  # noqa: DTZ001
COLUMNS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"])),
    pa.date32(): st.dates(),
    TIMESTAMP: MOMENTS,
    pa.decimal128(38, 10): st.decimals(-(10**27), 10**27, places=10),
    pa.timestamp("ns"): st.integers(-(2**63) + 1, 2**63 - 1),
    pa.binary(): st.binary(),
    pa.list_(pa.float32()): st.lists(st.floats(width=32, allow_nan=False)),
    pa.null(): st.none(),
}


def through_text(table: pa.Table) -> pa.Table:
    rows = [json.loads(json.dumps(row, ensure_ascii=False)) for row in write_values(table)]
    return read_values(rows, read_schema(write_schema(table.schema)))


@settings(max_examples=40)
@given(st.data())
def test_each_value_comes_back_as_it_was(data: st.DataObject) -> None:
    arrays = {}
    for number, (kind, values) in enumerate(COLUMNS.items()):
        given = data.draw(st.lists(st.none() | values, min_size=3, max_size=3))
        exact = [Decimal(v) for v in given] if pa.types.is_decimal(kind) and None not in given else given
        whole = pa.types.is_timestamp(kind) and kind != TIMESTAMP
        arrays[f"c{number}"] = pa.array(exact, pa.int64()).cast(kind) if whole else pa.array(exact, kind)
    table = pa.table(arrays)

    back = through_text(table)

    assert back.schema == table.schema
    for name, column in arrays.items():
        if pa.types.is_floating(column.type):
            bits = {32: np.uint32, 64: np.uint64}[column.type.bit_width]
            same = [each.combine_chunks().to_numpy(zero_copy_only=False) for each in (table[name], back[name])]
            known = [np.where(np.isnan(each), 0, each) for each in same]
            assert (known[0].view(bits) == known[1].view(bits)).all()
            assert [v is None for v in column.to_pylist()] == [v is None for v in back[name].to_pylist()]
            assert (np.isnan(same[0]) == np.isnan(same[1])).all()
        else:
            assert back[name].combine_chunks().equals(column)


def test_dates_and_times_beyond_the_calendar_come_back() -> None:
    times = pa.array([2**63 - 1, -(2**63) + 1, 0], pa.int64()).cast(TIMESTAMP)
    days = pa.array([2**31 - 1, -(2**31) + 1, 0], pa.int32()).cast(pa.date32())
    table = pa.table({"time": times, "day": days})

    assert through_text(table).equals(table)
    assert write_values(table)[2] == {"time": "1970-01-01T00:00:00+00:00", "day": "1970-01-01"}


def test_negative_zero_keeps_its_sign_and_a_decimal_its_zeros() -> None:
    table = pa.table({"float": pa.array([-0.0]), "decimal": pa.array([Decimal("1.10")], pa.decimal128(5, 2))})

    back = through_text(table)

    assert str(back["float"][0].as_py()) == "-0.0"
    assert str(back["decimal"][0].as_py()) == "1.10"


def test_a_day_and_a_time_are_text_that_people_can_read() -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC) + timedelta(microseconds=1)
    table = pa.table({"time": pa.array([moment], TIMESTAMP), "day": pa.array([date(2026, 1, 31)])})

    assert write_values(table) == [{"time": "2026-01-31T12:00:00.000001+00:00", "day": "2026-01-31"}]
