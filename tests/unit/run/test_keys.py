"""Keys are checked by sorting or hashing, and the fast way finds what the slow one finds."""

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.run.features import closed_duckdb
from penstock.run.keys import duplicate_keys, key_problems

_TIMES = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 6)]
_KINDS = {
    "int64": (pa.int64(), [1, 2, 3, 2**62, -1]),
    "uint64": (pa.uint64(), [1, 2, 3, 2**64 - 1, 0]),
    "float64": (pa.float64(), [1.0, float("nan"), 0.0, -0.0, 2.0]),
    "text": (pa.string(), ["a", "A", "", "é", "b"]),
    "time": (pa.timestamp("us", "UTC"), _TIMES),
    "date": (pa.date32(), [t.date() for t in _TIMES]),
}


def pipeline(*key: str) -> Any:
    return SimpleNamespace(key=key, primary="rows", private_columns=frozenset())


def problems(one: Any, primary: pa.Table, features: pa.Table) -> tuple[str, ...]:
    with closed_duckdb({"rows": primary}) as connection:
        return key_problems(connection, one, primary, features)


@pytest.mark.parametrize("kind", ["int64", "uint64", "text", "time", "date"])
@given(data=st.data())
def test_each_duplicate_is_found(kind: str, data: st.DataObject) -> None:
    arrow, values = _KINDS[kind]
    picked = data.draw(st.lists(st.sampled_from(values), max_size=6))

    found = duplicate_keys(pipeline("k"), pa.table({"k": pa.array(picked, arrow)}))

    twice = {value: count for value, count in Counter(picked).items() if count > 1}
    assert set(found) == {f"{value} ({count} rows)" for value, count in twice.items()}


@pytest.mark.parametrize("kind", sorted(_KINDS))
@given(data=st.data())
def test_keys_of_features_are_those_of_the_primary_rows(kind: str, data: st.DataObject) -> None:
    arrow, values = _KINDS[kind]
    lists = st.lists(st.one_of(st.none(), st.sampled_from(values)), max_size=5)
    first = data.draw(lists)
    second = data.draw(st.one_of(lists, st.permutations(first), st.just(first)))
    primary, features = (pa.table({"k": pa.array(keys, arrow)}) for keys in (first, second))

    found = problems(pipeline("k"), primary, features)

    with closed_duckdb({"p": primary, "f": features}) as connection:
        query = "select count(*) - count(distinct coalesce(k::varchar, 'NULL')) from f"
        if kind == "float64":
            query = "select coalesce(sum(n - 1), 0) from (select count(*) n from f group by k)"
        twice = connection.execute(query).fetchall()[0][0]
        strange = connection.execute("select count(*) from f anti join p using (k)").fetchall()[0][0]
    assert any("more than one row" in problem for problem in found) == bool(twice)
    assert any("does not have" in problem for problem in found) == bool(strange)


@pytest.mark.parametrize("key", [("k",), ("k", "other")])
def test_zero_and_minus_zero_are_one_key(key: tuple[str, ...]) -> None:
    rows = pa.table({"k": [-0.0, 1.0, 0.0], "other": ["x", "x", "x"]})

    (found,) = duplicate_keys(pipeline(*key), rows)
    (problem,) = problems(pipeline(*key), rows, rows)

    assert found.endswith("(2 rows)")
    assert "more than one row for a key" in problem


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_nan_is_one_key_too(kind: pa.DataType) -> None:
    rows = pa.table({"k": pa.array([float("nan"), 1.0, float("nan")]).cast(kind)})

    assert duplicate_keys(pipeline("k"), rows) == ("nan (2 rows)",)


def test_key_of_two_columns_is_checked_as_one() -> None:
    primary = pa.table({"a": [1, 1, 2], "b": ["x", "y", "x"]})

    assert problems(pipeline("a", "b"), primary, primary) == ()
    assert duplicate_keys(pipeline("a", "b"), primary) == ()
    (found,) = problems(pipeline("a", "b"), primary, pa.concat_tables([primary, primary.slice(0, 1)]))
    assert "more than one row for a key: 1 / x (2 rows)" in found


def test_duplicates_of_the_primary_source_are_found_in_the_features_too() -> None:
    rows = pa.table({"k": [2, 1, 2]})

    (found,) = problems(pipeline("k"), rows, rows)

    assert "more than one row for a key: 2 (2 rows)" in found
