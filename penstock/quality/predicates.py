"""Compile row expectations to SQL predicates that judge exactly like Great Expectations.

`compile_predicate` knows the expectation and the types of its columns, and no values. It returns None where it is not
proven that DuckDB and Great Expectations agree; then Great Expectations judges. Nothing here runs a query.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa

from penstock.quality.aggregates import judges_aggregate
from penstock.quality.comparisons import (
    column_sql,
    compare_bound,
    is_exact_decimal,
    is_present,
    is_text,
    list_literals,
    not_a_number,
)
from penstock.quality.patterns import translate_regex
from penstock.spec.expectation import Expectation
from penstock.spec.pipeline import Pipeline


@dataclass(frozen=True)
class Predicate:
    """Two SQL expressions over one row. Both are true or false, never NULL."""

    evaluated: str
    """Whether the row counts. Rows with NULLs usually do not."""
    unexpected: str
    """Whether the row counts and fails."""


@dataclass(frozen=True)
class _Column:
    name: str
    kind: pa.DataType

    @property
    def sql(self) -> str:
        return column_sql(self.name, self.kind)

    @property
    def present(self) -> str:
        return is_present(self.name, self.kind)


_Compile = Callable[[Mapping[str, Any], Sequence[_Column]], str | None]
"""Return the condition of an expected row, which may be NULL where a value is. None if it cannot be compiled."""


def compile_predicate(expectation: Expectation, types: Mapping[str, pa.DataType]) -> Predicate | None:
    """Compile one row expectation for columns of these types. None if Great Expectations must judge it."""
    compile_ = _COMPILED.get(expectation.type)
    columns = [_Column(name, _decoded(types[name])) for name in expectation.columns]
    if compile_ is None or not all(_is_readable(column.kind) for column in columns):
        return None
    expected = compile_(expectation.arguments, columns)
    if expected is None:
        return None
    evaluated = _evaluated(expectation, columns)
    return Predicate(evaluated, f"({evaluated} and not coalesce({expected}, false))")


def compile_predicates(expectations: Sequence[Expectation], schema: pa.Schema) -> list[Predicate | None]:
    """Compile the row expectations of a stage. None for each that Great Expectations must judge."""
    names = Counter(name.casefold() for name in schema.names)  # names that differ by case are one in DuckDB
    types = {field.name: field.type for field in schema}
    return [
        None if any(names[column.casefold()] > 1 for column in one.columns) else compile_predicate(one, types)
        for one in expectations
    ]


def may_compile(expectation: Expectation) -> bool:
    """Whether the expectation can be compiled for columns of some type. The real types are known when rows are read."""
    return any(
        compile_predicate(expectation, dict.fromkeys(expectation.columns, kind)) is not None for kind in _PLAIN_TYPES
    )


def _may_judge(expectation: Expectation) -> bool:
    """Whether an expectation about columns can be judged without Great Expectations for some type."""
    if expectation.is_aggregate:
        return any(judges_aggregate(expectation, kind) for kind in _PLAIN_TYPES)
    return may_compile(expectation)


def needs_great_expectations(pipeline: Pipeline) -> bool:
    """Whether a run of the pipeline surely needs Great Expectations. A column's type can still make it necessary."""
    return any(
        (expectation.is_aggregate or expectation.is_row) and not _may_judge(expectation)
        for expectations in pipeline.expectations.values()
        for expectation in expectations
    )


_PLAIN_TYPES = (
    pa.float64(),
    pa.int64(),
    pa.string(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("us", "UTC"),
    pa.decimal128(15, 2),
)
"""The types of rows, see `penstock.database.normalize`."""


def _decoded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_readable(kind: pa.DataType) -> bool:
    """Whether DuckDB reads a column of this type as it is."""
    return (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_float32(kind)
        or pa.types.is_float64(kind)
        or pa.types.is_decimal128(kind)
        or is_text(kind)
        or pa.types.is_date32(kind)
        or (pa.types.is_timestamp(kind) and kind.unit == "us")
        or pa.types.is_null(kind)
    )


def _evaluated(expectation: Expectation, columns: Sequence[_Column]) -> str:
    if expectation.type in _NULL_TYPES:
        return "true"
    ignored = expectation.arguments.get("ignore_row_if", "all")
    if ignored in ("never", "neither"):
        return "true"
    word = " and " if len(columns) == 1 or ignored.startswith(("any", "either")) else " or "
    return f"({word.join(column.present for column in columns)})"


# --- one column --------------------------------------------------------------------------------


def _null(_arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str:
    return f"not {columns[0].present}"


def _not_null(_arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str:
    return columns[0].present


def _between(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    return _within(arguments, columns[0].sql, columns[0].kind)


def _within(arguments: Mapping[str, Any], sql: str, kind: pa.DataType) -> str | None:
    conditions = []
    for name, loose in (("min_value", ">="), ("max_value", "<=")):
        bound = arguments.get(name)
        if bound is not None:
            strict = arguments.get(f"strict_{name[:3]}")
            condition = compare_bound(sql, loose[0] if strict else loose, bound, kind)
            if condition is None:
                return None
            conditions.append(condition)
    return f"({' and '.join(conditions)})" if conditions else None


def _lengths_between(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    return _within(arguments, f"length({columns[0].sql})", pa.int64()) if is_text(columns[0].kind) else None


def _length_equals(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    return f"(length({columns[0].sql}) = {arguments['value']})" if is_text(columns[0].kind) else None


def _in_set(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    literals = list_literals(arguments["value_set"], columns[0].kind)
    if literals is None:
        return None
    return f"({columns[0].sql} in ({', '.join(literals)}))" if literals else "false"


def _not_in_set(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    return _negated(_in_set(arguments, columns))


def _matches(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    return _match([arguments["regex"]], columns[0], " or ")


def _matches_not(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    return _negated(_match([arguments["regex"]], columns[0], " or "))


def _matches_list(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    word = " and " if arguments.get("match_on") == "all" else " or "
    return _match(arguments["regex_list"], columns[0], word)


def _matches_no_list(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    return _negated(_match(arguments["regex_list"], columns[0], " or "))


def _match(patterns: Iterable[str], column: _Column, word: str) -> str | None:
    translated = [translate_regex(pattern) for pattern in patterns]
    if not is_text(column.kind) or None in translated:
        return None
    conditions = [f"regexp_matches({column.sql}, '{pattern}')" for pattern in translated]
    return f"({word.join(conditions)})"


def _negated(condition: str | None) -> str | None:
    return None if condition is None else f"(not {condition})"


# --- several columns ---------------------------------------------------------------------------


def _pair_equal(_arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    first, second = columns
    return f"({_both_present(columns)} and {first.sql} = {second.sql})" if _are_comparable(columns) else None


def _pair_greater(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    first, second = columns
    if not _are_comparable(columns) or pa.types.is_boolean(first.kind):
        return None
    operator = ">=" if arguments.get("or_equal") else ">"
    return f"({_both_present(columns)} and {first.sql} {operator} {second.sql})"


def _pair_in_set(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    conditions = []
    for pair in arguments["value_pairs_set"]:
        both = [list_literals([value], column.kind) for value, column in zip(pair, columns, strict=True)]
        if any(found is None for found in both) or not all(_is_key(column.kind) for column in columns):
            return None
        if all(both):
            parts = zip(columns, both, strict=True)
            conditions.append(" and ".join(f"{column.sql} = {found[0]}" for column, found in parts if found))
    return f"({' or '.join(f'({condition})' for condition in conditions)})" if conditions else None


def _unique_within_record(_arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    """Two NULLs of one row are the same value."""
    if not all(_is_key(column.kind) for column in columns) or len({is_text(column.kind) for column in columns}) != 1:
        return None
    return f"({' and '.join(f'{a.sql} is distinct from {b.sql}' for a, b in combinations(columns, 2))})"


def _sum_equals(arguments: Mapping[str, Any], columns: Sequence[_Column]) -> str | None:
    """Only for small integers, whose sum float64 holds exactly in any order."""
    if not all(pa.types.is_integer(column.kind) and column.kind.bit_width <= 32 for column in columns):
        return None
    literals = list_literals([arguments["sum_total"]], pa.int64())
    if literals is None:
        return None
    total = " + ".join(f"{column.sql}::hugeint" for column in columns)
    return f"(({total}) = {literals[0]})" if literals else "false"


def _both_present(columns: Sequence[_Column]) -> str:
    return " and ".join(column.present for column in columns)


def _are_comparable(columns: Sequence[_Column]) -> bool:
    """Whether values of both columns compare exactly in pandas and in DuckDB."""
    first, second = (column.kind for column in columns)
    if pa.types.is_integer(first) and pa.types.is_integer(second):
        return True
    if is_text(first) and is_text(second):
        return True
    same_floats = not_a_number(first) and not_a_number(second)
    return same_floats or (first == second and (_is_time(first) or is_exact_decimal(first)))


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_date32(kind) or pa.types.is_timestamp(kind)


def _is_key(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or is_text(kind)


_NULL_TYPES = {"expect_column_values_to_be_null", "expect_column_values_to_not_be_null"}
_COMPILED: Mapping[str, _Compile] = {
    "expect_column_pair_values_a_to_be_greater_than_b": _pair_greater,
    "expect_column_pair_values_to_be_equal": _pair_equal,
    "expect_column_pair_values_to_be_in_set": _pair_in_set,
    "expect_column_value_lengths_to_be_between": _lengths_between,
    "expect_column_value_lengths_to_equal": _length_equals,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_be_null": _null,
    "expect_column_values_to_match_regex": _matches,
    "expect_column_values_to_match_regex_list": _matches_list,
    "expect_column_values_to_not_be_in_set": _not_in_set,
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_not_match_regex": _matches_not,
    "expect_column_values_to_not_match_regex_list": _matches_no_list,
    "expect_multicolumn_sum_to_equal": _sum_equals,
    "expect_select_column_values_to_be_unique_within_record": _unique_within_record,
}
COMPILED_TYPES: frozenset[str] = frozenset(_COMPILED)
"""Expectation types that DuckDB judges on some types of columns."""
