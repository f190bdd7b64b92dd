"""Judge figures of number columns with the calls of pandas that Great Expectations makes, without importing it.

Only frames and figures that both compute alike are judged here. `library_judge` judges all other aggregates.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from penstock.quality.comparisons import is_number
from penstock.quality.found import Found
from penstock.spec.expectation import Expectation

_FIGURES: Mapping[str, str] = {
    "expect_column_max_to_be_between": "max",
    "expect_column_mean_to_be_between": "mean",
    "expect_column_median_to_be_between": "median",
    "expect_column_min_to_be_between": "min",
    "expect_column_stdev_to_be_between": "std",
    "expect_column_sum_to_be_between": "sum",
}
"""The method of pandas by the type of the expectation."""
_COMPARISONS: Mapping[tuple[str, bool], Callable[[Any, float], Any]] = {
    ("min", False): operator.ge,
    ("min", True): operator.gt,
    ("max", False): operator.le,
    ("max", True): operator.lt,
}


def judges_aggregate(expectation: Expectation, kind: pa.DataType) -> bool:
    """Whether the expectation is judged here for a column of this type."""
    bounds = [expectation.arguments[name] for name in ("min_value", "max_value") if name in expectation.arguments]
    return expectation.type in _FIGURES and _is_numeric(kind) and all(b is None or is_number(b) for b in bounds)


def find_aggregates(table: pa.Table, expectations: Sequence[Expectation]) -> list[Found]:
    """Judge a table that is not empty by expectations that `judges_aggregate` accepts."""
    return [_find(table, expectation) for expectation in expectations]


def _find(table: pa.Table, expectation: Expectation) -> Found:
    from penstock.quality.frames import make_frame, view_of  # not above: it imports pandas

    (column,) = expectation.columns
    values = make_frame(table, [column], view_of(expectation.type))[column]
    figure = getattr(values, _FIGURES[expectation.type])()
    evaluated = int(values.count())
    if figure != figure:  # NaN: there are no values, or both infinities
        return Found(success=False, evaluated=evaluated, unexpected=0, result={"observed_value": None})
    success = all(_holds(figure, expectation.arguments, end) for end in ("min", "max"))
    return Found(success, evaluated, unexpected=0, result={"observed_value": figure})


def _holds(figure: Any, arguments: Mapping[str, Any], end: str) -> bool:
    bound = arguments.get(f"{end}_value")
    return bound is None or bool(_COMPARISONS[end, bool(arguments.get(f"strict_{end}"))](figure, float(bound)))


def _is_numeric(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(plain) or pa.types.is_floating(plain) or pa.types.is_decimal128(plain))
