"""The arguments of each expectation type, and one check of them for every entry.

The table stands here, so that a spec is checked without Great Expectations' import (5 s). A test compares it with the
installed library: the same arguments, each with an effect, and no value that the library refuses.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from penstock.errors import nearest
from penstock.spec import argument_values as check

_DOCUMENT = "Great Expectations keeps it for its own documents; write a YAML comment instead"
_SET_HERE = "Penstock sets it; leave it out"
_ROWS = "choose the rows in the source's `query:` or in the features"
_BINS = "it changes nothing; the bins are those of `partition_object`"

REFUSED = {
    "batch_id": _SET_HERE,
    "catch_exceptions": _SET_HERE,
    "condition_parser": _ROWS,
    "description": _DOCUMENT,
    "expectation_type": "write it as `type`",
    "id": _DOCUMENT,
    "kwargs": "write the arguments beside `type`",
    "library_metadata": _DOCUMENT,
    "meta": _DOCUMENT,
    "notes": _DOCUMENT,
    "rendered_content": _SET_HERE,
    "result_format": _SET_HERE,
    "row_condition": _ROWS,
    "windows": "it compares with earlier validations, and Penstock keeps none for it; leave it out",
}
"""Fields of Great Expectations that a spec cannot use, and what to do instead."""

IGNORED = {
    ("expect_column_to_exist", "column_index"): "it is not compared; use `expect_table_columns_to_match_ordered_list`",
    ("expect_column_kl_divergence_to_be_less_than", "bucketize_data"): _BINS,
    ("expect_column_kl_divergence_to_be_less_than", "max_value"): "it is not compared; the limit is `threshold`",
    ("expect_column_kl_divergence_to_be_less_than", "min_value"): "it is not compared; the limit is `threshold`",
}
"""Arguments that Great Expectations accepts and ignores."""


@dataclass(frozen=True)
class Argument:
    """One argument of an expectation type."""

    check: Callable[[Any], None]
    """Raises ValueError if a value is wrong."""
    required: bool = True


def _one_of(*words: str) -> Argument:
    return Argument(partial(_check_word, words), required=False)


def _check_word(words: tuple[str, ...], value: Any) -> None:
    if value not in words:
        raise ValueError(f"`{str(value)[:60]}` is not one of {', '.join(f'`{word}`' for word in words)}")


def _check_interpolation(value: Any) -> None:
    if value is not False:
        _check_word(("linear", "lower", "higher", "midpoint", "nearest"), value)


def _bounds(value: Callable[[Any], None]) -> dict[str, Argument]:
    return {name: Argument(value, required=False) for name in ("min_value", "max_value")}


_FLAG = Argument(check.check_flag, required=False)
_COLUMN = {"column": Argument(check.check_name)}
_MOSTLY = {"mostly": Argument(check.check_mostly, required=False)}
_STRICT = {"strict_min": _FLAG, "strict_max": _FLAG}
_EACH = _COLUMN | _MOSTLY
_PAIR = {
    "column_A": Argument(check.check_name),
    "column_B": Argument(check.check_name),
    "ignore_row_if": _one_of("both_values_are_missing", "either_value_is_missing", "neither"),
} | _MOSTLY
_SEVERAL = {
    "column_list": Argument(check.check_two_names),
    "ignore_row_if": _one_of("all_values_are_missing", "any_value_is_missing", "never"),
} | _MOSTLY
_NUMBERS = _bounds(check.check_number) | _STRICT
_TIMES = _bounds(check.check_bound) | _STRICT
_SHARES = _bounds(check.check_share) | _STRICT
_COUNTS = _bounds(check.check_count) | _STRICT
_SET = {"value_set": Argument(check.check_values)}
_FULL_SET = {"value_set": Argument(check.check_some_values)}
_REGEX = {"regex": Argument(check.check_regex)}
_REGEXES = {"regex_list": Argument(check.check_regexes)}
_VALUE = {"value": Argument(check.check_count)}

ARGUMENTS: Mapping[str, Mapping[str, Argument]] = {
    "expect_column_distinct_values_to_be_in_set": _COLUMN | _FULL_SET,
    "expect_column_distinct_values_to_contain_set": _COLUMN | _FULL_SET,
    "expect_column_distinct_values_to_equal_set": _COLUMN | _SET,
    "expect_column_kl_divergence_to_be_less_than": _COLUMN
    | {
        "partition_object": Argument(check.check_partition),
        "threshold": Argument(check.check_number),
        "internal_weight_holdout": Argument(check.check_share, required=False),
        "tail_weight_holdout": Argument(check.check_share, required=False),
    },
    "expect_column_max_to_be_between": _COLUMN | _TIMES,
    "expect_column_mean_to_be_between": _COLUMN | _TIMES,
    "expect_column_median_to_be_between": _COLUMN | _TIMES,
    "expect_column_min_to_be_between": _COLUMN | _TIMES,
    "expect_column_most_common_value_to_be_in_set": _COLUMN | _SET | {"ties_okay": _FLAG},
    "expect_column_pair_values_a_to_be_greater_than_b": _PAIR | {"or_equal": _FLAG},
    "expect_column_pair_values_to_be_equal": _PAIR,
    "expect_column_pair_values_to_be_in_set": _PAIR | {"value_pairs_set": Argument(check.check_pairs)},
    "expect_column_proportion_of_non_null_values_to_be_between": _COLUMN | _SHARES,
    "expect_column_proportion_of_unique_values_to_be_between": _COLUMN | _SHARES,
    "expect_column_quantile_values_to_be_between": _COLUMN
    | {
        "quantile_ranges": Argument(check.check_quantiles),
        "allow_relative_error": Argument(_check_interpolation, required=False),
    },
    "expect_column_stdev_to_be_between": _COLUMN | _NUMBERS,
    "expect_column_sum_to_be_between": _COLUMN | _NUMBERS,
    "expect_column_to_exist": _COLUMN,
    "expect_column_unique_value_count_to_be_between": _COLUMN | _COUNTS,
    "expect_column_value_lengths_to_be_between": _EACH | _COUNTS,
    "expect_column_value_lengths_to_equal": _EACH | _VALUE,
    "expect_column_value_z_scores_to_be_less_than": _EACH
    | {"threshold": Argument(check.check_number), "double_sided": Argument(check.check_flag)},
    "expect_column_values_to_be_between": _EACH | _TIMES,
    "expect_column_values_to_be_dateutil_parseable": _EACH,
    "expect_column_values_to_be_in_set": _EACH | _SET,
    "expect_column_values_to_be_json_parseable": _EACH,
    "expect_column_values_to_be_null": _EACH,
    "expect_column_values_to_be_unique": _EACH,
    "expect_column_values_to_match_json_schema": _EACH | {"json_schema": Argument(check.check_json_schema)},
    "expect_column_values_to_match_regex": _EACH | _REGEX,
    "expect_column_values_to_match_regex_list": _EACH | _REGEXES | {"match_on": _one_of("any", "all")},
    "expect_column_values_to_match_strftime_format": _EACH | {"strftime_format": Argument(check.check_time_format)},
    "expect_column_values_to_not_be_in_set": _EACH | _FULL_SET,
    "expect_column_values_to_not_be_null": _EACH,
    "expect_column_values_to_not_match_regex": _EACH | _REGEX,
    "expect_column_values_to_not_match_regex_list": _EACH | _REGEXES,
    "expect_compound_columns_to_be_unique": _SEVERAL,
    "expect_multicolumn_sum_to_equal": _SEVERAL | {"sum_total": Argument(check.check_number)},
    "expect_select_column_values_to_be_unique_within_record": _SEVERAL,
    "expect_table_column_count_to_be_between": _bounds(check.check_count),
    "expect_table_column_count_to_equal": _VALUE,
    "expect_table_columns_to_match_ordered_list": {"column_list": Argument(check.check_names)},
    "expect_table_columns_to_match_set": {"column_set": Argument(check.check_names), "exact_match": _FLAG},
    "expect_table_row_count_to_be_between": _COUNTS,
    "expect_table_row_count_to_equal": _VALUE,
}
"""Arguments of each type that a spec may use."""


def find_problems(type_: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each wrong argument and what is wrong with it. The text is empty if the argument is missing."""
    known = ARGUMENTS[type_]
    wrong = [*_unknown(type_, arguments), *((n, "") for n, a in known.items() if a.required and n not in arguments)]
    for name, argument in known.items():
        if name in arguments and (what := _check_value(name, argument, arguments[name])):
            wrong.append((name, what))
    yield from wrong
    if not wrong:
        yield from _contradictions(type_, arguments)


def _unknown(type_: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    known = ARGUMENTS[type_]
    for name in arguments:
        if name in known:
            continue
        if (instead := IGNORED.get((type_, name)) or REFUSED.get(name)) is not None:
            yield name, f"`{name}` is not allowed here; {instead}"
        else:
            yield name, f"`{type_}` has no argument `{name}`.{nearest(name, (*known, 'severity'))}"


def _check_value(name: str, argument: Argument, value: Any) -> str:
    if isinstance(value, Mapping) and "$PARAMETER" in value:
        return "`$PARAMETER` is not allowed here, for a run has no such parameters; write the value"
    if value is None and name in ("min_value", "max_value"):
        return ""
    try:
        argument.check(value)
    except ValueError as error:
        return str(error)
    return ""


def _contradictions(type_: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find arguments that make others meaningless, so that every value passes, or every value fails."""
    if "min_value" in ARGUMENTS[type_]:
        yield from _empty_bounds(arguments)
    if "values" in arguments.get("partition_object", {}):
        for name in ("internal_weight_holdout", "tail_weight_holdout"):
            if name in arguments:
                yield name, "it is for a partition with `bins`; leave it out"


def _empty_bounds(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    if low is None and high is None:
        yield "min_value", "give `min_value`, `max_value` or both; without them the expectation always passes"
        return
    for flag, bound in (("strict_min", "min_value"), ("strict_max", "max_value")):
        if flag in arguments and arguments.get(bound) is None:
            yield flag, f"it changes nothing without `{bound}`"
    if low is None or high is None:
        return
    times = [isinstance(bound, str | date) for bound in (low, high)]
    if any(times) != all(times):
        yield "max_value", f"`min_value` {low} and `max_value` {high} are a number and a time"
        return
    first, last = (check.read_time(b) if times[0] else b for b in (low, high))
    strict = arguments.get("strict_min") or arguments.get("strict_max")
    if first > last:
        yield "min_value", f"`min_value` {low} is above `max_value` {high}"
    elif first == last and strict:
        yield "min_value", f"no value is between {low} and {high} if one of them is excluded"
