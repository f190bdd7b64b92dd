"""Values as JSON: exact, equal for equal values, and without numbers that JSON does not have."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from penstock.delivery.rows import digest, write_rows
from penstock.errors import KeyNotDeliverable
from penstock.privacy.masking import NO_MASKING, MaskingPolicy


def test_values_keep_their_digits() -> None:
    rows = pa.table(
        {
            "id": pa.array([2**63 - 1], pa.int64()),
            "amount": pa.array([Decimal("0.10")], pa.decimal128(9, 2)),
            "score": pa.array([0.1 + 0.2], pa.float64()),
            "at": pa.array([datetime(2026, 1, 1, 5, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            "day": pa.array([date(2026, 1, 1)]),
            "name": ['Zoë "x"'],
            "none": pa.array([None], pa.string()),
            "nan": [float("nan")],
            "yes": [True],
        }
    )
    [key], [values] = write_rows(rows, ("id",), NO_MASKING, "crm")
    assert key == '{"id":9223372036854775807}'
    assert json.loads(values) == {
        "amount": "0.1",
        "score": 0.30000000000000004,
        "at": "2026-01-01T05:00:00Z",
        "day": "2026-01-01",
        "name": 'Zoë "x"',
        "none": None,
        "nan": None,
        "yes": True,
    }
    assert len(digest(values)) == 32


def test_a_row_of_a_key_alone_has_empty_values() -> None:
    assert write_rows(pa.table({"id": [1, 2]}), ("id",), NO_MASKING, "crm") == (['{"id":1}', '{"id":2}'], ["{}", "{}"])


def test_a_private_key_is_written_as_its_hash() -> None:
    masking = MaskingPolicy({"email": "hash"}, secret=b"a secret of sixteen")
    rows = pa.table({"email": ["ann@example.com"], "day": [1], "score": [0.5]})
    [key], _ = write_rows(rows, ("email", "day"), masking, "crm")
    assert json.loads(key) == {"email": masking.hash("ann@example.com"), "day": 1}
    assert "ann@example.com" not in key


@pytest.mark.parametrize("numbers", [pa.array([5]), pa.array([Decimal("5.00")]), pa.array([5.0])])
def test_a_key_has_one_text_whatever_the_order_and_the_types_of_its_columns(numbers: pa.Array) -> None:
    rows = pa.table({"shop": ["a"], "number": numbers})
    for key in (("shop", "number"), ("number", "shop")):
        assert write_rows(rows, key, NO_MASKING, "crm")[0] == ['{"number":5,"shop":"a"}']


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_key_that_is_no_finite_number_is_refused(number: float) -> None:
    rows = pa.table({"number": [1.5, number]})
    with pytest.raises(KeyNotDeliverable, match="key column `number` is no finite number"):
        write_rows(rows, ("number",), NO_MASKING, "crm")
