"""Rows of a request: each value gets its column's type, or is refused by its place and kind."""

from typing import Any

import pyarrow as pa
import pytest

from penstock.database.types import TIMESTAMP
from penstock.errors import RequestError, WrongValue
from penstock.serving.request_rows import SourceColumns

KINDS: dict[str, tuple[pa.DataType, list[Any], list[Any]]] = {
    "text": (pa.string(), ["", "Köln"], [1, True, ["a"], {}, "\ud800"]),
    "int": (pa.int64(), [0, -(2**63), 5.0], [2**63, 2.0**53, 2.5, "1", True, 1e300]),
    "float": (pa.float64(), [1, 2.5, 10**20], ["1", False, 10**400]),
    "bool": (pa.bool_(), [True, False], [0, 1, "true"]),
    "date": (pa.date32(), ["2026-01-31"], ["2026-02-30", "31.01.2026", 20260131, "2026-W01-1"]),
    "time": (TIMESTAMP, ["2026-01-31T12:00:00Z", "2026-01-31 12:00", "2026-01-31"], ["now", 0, "2026-01-31T25:00"]),
    "number": (
        pa.decimal128(8, 2),
        [1, "1.25", "1.250", 3.1, 0, "0e99", "-0"],
        ["x", "1.255", "1_0", "\u0661", "Infinity", 0.1 + 0.2, True, 10**9, "1e-999999999", "1e999999999", "9" * 99],
    ),
    "nothing": (pa.null(), [], [1, "a"]),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_value_of_the_type_is_read_and_another_is_refused_by_its_place(name: str) -> None:
    kind, good, bad = KINDS[name]
    columns = SourceColumns("payments", {"c": kind}, frozenset({"c"}))

    table = columns.make_table([{"c": value, "other": 1} for value in [*good, None]])
    assert table.schema == pa.schema([("c", kind)])
    assert table["c"].null_count == 1
    for value in bad:
        with pytest.raises(WrongValue) as refused:
            columns.make_table([{"c": None}, {"c": value}])
        assert refused.value.where == "row 1 of `payments`"
        assert "`c` takes" in refused.value.what


def test_a_message_never_has_the_value() -> None:
    columns = SourceColumns("payments", {"c": pa.int64()}, frozenset({"c"}))

    with pytest.raises(WrongValue) as refused:
        columns.make_table([{"c": "secret"}])

    assert "secret" not in str(refused.value)


def test_a_required_column_is_missed_and_another_is_null() -> None:
    columns = SourceColumns("payments", {"a": pa.int64(), "b": pa.int64()}, frozenset({"a"}))

    assert columns.make_table([{"a": 1}]).to_pylist() == [{"a": 1, "b": None}]
    with pytest.raises(RequestError, match="`a` is missing"):
        columns.make_table([{"a": 1}, {"b": 1}])
