"""Which row expectations DuckDB judges, by type of column, as the spec reference shows it."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import pyarrow as pa

from penstock.quality.predicates import compile_predicate
from penstock.spec.expectation import Expectation

Kind: TypeAlias = tuple[pa.DataType, Any]

KINDS_SHOWN: Mapping[str, Kind] = {
    "integers": (pa.int64(), 1),
    "floats": (pa.float64(), 0.5),
    "decimals": (pa.decimal128(15, 3), 0.5),
    "text": (pa.string(), "a"),
    "booleans": (pa.bool_(), True),
    "dates": (pa.date32(), date(2026, 1, 1)),
    "times": (pa.timestamp("us", "UTC"), datetime(2026, 1, 1, tzinfo=UTC)),
}
"""The types of rows, each with a value."""

_PAIR = {"column_A": "x", "column_B": "y"}
_SEVERAL = {"column_list": ["x", "y"]}


def _bound(kind: Kind) -> dict[str, Any]:
    value = kind[1]
    return {"column": "x", "min_value": 0 if isinstance(value, bool | str) else value}


EXAMPLES: Mapping[str, Callable[[Kind], dict[str, Any]]] = {
    "expect_column_pair_values_a_to_be_greater_than_b": lambda _kind: _PAIR,
    "expect_column_pair_values_to_be_equal": lambda _kind: _PAIR,
    "expect_column_pair_values_to_be_in_set": lambda kind: _PAIR | {"value_pairs_set": [[kind[1], kind[1]]]},
    "expect_column_value_lengths_to_be_between": lambda _kind: {"column": "x", "min_value": 1},
    "expect_column_value_lengths_to_equal": lambda _kind: {"column": "x", "value": 1},
    "expect_column_values_to_be_between": _bound,
    "expect_column_values_to_be_dateutil_parseable": lambda _kind: {"column": "x"},
    "expect_column_values_to_be_in_set": lambda kind: {"column": "x", "value_set": [kind[1]]},
    "expect_column_values_to_be_json_parseable": lambda _kind: {"column": "x"},
    "expect_column_values_to_be_null": lambda _kind: {"column": "x"},
    "expect_column_values_to_match_json_schema": lambda _kind: {"column": "x", "json_schema": {"type": "integer"}},
    "expect_column_values_to_match_regex": lambda _kind: {"column": "x", "regex": "a"},
    "expect_column_values_to_match_regex_list": lambda _kind: {"column": "x", "regex_list": ["a"]},
    "expect_column_values_to_match_strftime_format": lambda _kind: {"column": "x", "strftime_format": "%Y"},
    "expect_column_values_to_not_be_in_set": lambda kind: {"column": "x", "value_set": [kind[1]]},
    "expect_column_values_to_not_be_null": lambda _kind: {"column": "x"},
    "expect_column_values_to_not_match_regex": lambda _kind: {"column": "x", "regex": "a"},
    "expect_column_values_to_not_match_regex_list": lambda _kind: {"column": "x", "regex_list": ["a"]},
    "expect_multicolumn_sum_to_equal": lambda _kind: _SEVERAL | {"sum_total": 1},
    "expect_select_column_values_to_be_unique_within_record": lambda _kind: _SEVERAL,
}
"""Arguments of each row expectation that fit a type of column."""


def judged_by_duckdb(type_: str) -> list[str]:
    """Return the types of columns for which DuckDB judges an expectation of this type."""
    return [word for word, kind in KINDS_SHOWN.items() if _compiles(type_, kind)]


def render_judges() -> list[str]:
    """Return the table's lines."""
    lines = ["| Row expectation | judged by DuckDB for |", "| --- | --- |"]
    for type_ in sorted(EXAMPLES):
        words = judged_by_duckdb(type_)
        shown = "all types" if len(words) == len(KINDS_SHOWN) else ", ".join(words) or "none"
        lines.append(f"| `{type_}` | {shown} |")
    return lines


def _compiles(type_: str, kind: Kind) -> bool:
    expectation = Expectation(type=type_, severity="info", arguments=EXAMPLES[type_](kind))  # type: ignore[arg-type]  # pydantic checks it
    return compile_predicate(expectation, dict.fromkeys("xy", kind[0])) is not None
