"""A typed value finds the same value however the ledger writes it, and no other one."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.database.unstorable import to_records
from penstock.labels.key_text import possible_keys, write_key_forms
from penstock.privacy.key_forms import TypedValue, write_value
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.privacy.row_key import RowKey
from penstock.run.validate import to_json

PRIVATE = MaskingPolicy({"id": "hash"}, b"a secret of sixteen", b"the secret before it")
FORMER = MaskingPolicy({"id": "hash"}, b"the secret before it")
EARLIEST, LATEST = (datetime.fromisoformat(f"{year}-01-02") for year in (1900, 2200))
MOMENTS = st.datetimes(EARLIEST, LATEST).map(lambda moment: moment.replace(tzinfo=UTC))


def spell(value: Any) -> list[str]:
    """Return the ways in which people type a value."""
    if isinstance(value, bool):
        return [str(value), str(value).lower(), str(value).upper()]
    if isinstance(value, datetime):
        plain, local = value.replace(tzinfo=None), value.astimezone(timezone(timedelta(hours=5, minutes=30)))
        return [str(value), str(plain), plain.isoformat(), f"{plain.isoformat()}Z", local.isoformat(), str(local)]
    if isinstance(value, date | str):
        return [str(value)]
    text = format(Decimal(str(value)), "f")
    return [text, str(value), f"{text}00" if "." in text else f"{text}.0"]


VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False, width=64),
    st.decimals(-(10**12), 10**12, places=4),
    st.booleans(),
    st.dates(date(1900, 1, 1), date(2200, 1, 1)),
    MOMENTS,
    st.sampled_from(["1.10", "007", "2026-03-04 05:06:07", "true", "ann", "9F8B1C3E-0000-4000-8000-00000000000a"]),
)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.sampled_from([NO_MASKING, PRIVATE, FORMER]))
def test_a_typed_value_finds_what_the_ledger_has(value: Any, written_by: MaskingPolicy) -> None:
    rows = pa.table({"id": [value]})
    quarantined = json.loads(to_json(written_by.mask(to_records(rows)[0])))["id"]
    [[labelled, *_]] = write_key_forms(rows, ["id"], written_by)
    for text in spell(value):
        typed = TypedValue(text, is_text=isinstance(value, str))
        assert typed.matcher(PRIVATE)(quarantined), text
        assert typed.matcher(NO_MASKING)(value), text
        assert labelled in possible_keys(RowKey({"id": text}, frozenset(["id"] if typed.is_text else [])), PRIVATE)
        assert typed.standard == TypedValue(spell(value)[0], typed.is_text).standard


@pytest.mark.parametrize(
    ("stored", "typed", "is_text", "same"),
    [
        ("1.1", "1.10", True, False),
        ("1.10", "1.1", True, False),
        ("1.10", "1.1", False, True),  # a decimal
        ("007", "7", False, False),
        ("7", "007", True, False),
        ("ABC", "abc", True, False),
        ("9f8b1c3e-0000-4000-8000-00000000000a", "9F8B1C3E-0000-4000-8000-00000000000A", True, True),
        ("abc", "\\x616263", True, True),
        ("\\xff", "\\xFF", True, True),
        ("\\x5c786666", "\\xff", True, True),  # the text that reads like bytes
        (datetime(2026, 1, 1, tzinfo=UTC), "20260101", False, False),  # a number
        (date(2026, 1, 1), "20260101", False, False),
        ("2026-01-01", "2026010117", False, False),
        ("2026-01-01", "20260101ab", False, False),
        (True, "1", False, False),
        (1, "true", False, False),
        ("2026-03-04", "2026-03-05", False, False),
        (float("inf"), "infinity", False, True),
        (None, "None", False, False),
    ],
)
def test_other_values_stay_apart(stored: Any, typed: str, is_text: bool, same: bool) -> None:
    assert TypedValue(typed, is_text).matcher(NO_MASKING)(stored) is same


def test_one_value_has_one_text_whatever_its_type() -> None:
    assert {write_value(value) for value in (5, 5.0, Decimal("5.00"))} == {"5"}
    naive, local = (datetime.fromisoformat(text) for text in ("2026-03-04T05:00", "2026-03-04T06:00+01:00"))
    assert write_value(naive) == write_value(local) == "2026-03-04T05:00:00+00:00"


def test_the_order_of_the_columns_does_not_change_a_key() -> None:
    rows = pa.table({"b": ["x"], "a": [1]})

    both = [write_key_forms(rows, key, NO_MASKING) for key in (["a", "b"], ["b", "a"])]

    assert both[0] == both[1] == [('{"a": "1", "b": "x"}',)]
    assert possible_keys(RowKey({"b": "x", "a": "1"}), NO_MASKING) == ['{"a": "1", "b": "x"}']
