"""Checks of single values that an expectation takes. Each check raises ValueError if a value is wrong.

They are stricter than Great Expectations, which reads `"no"` as false, `10.9` rows as 10, and ignores some arguments.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

_SHARE = 1e-8
"""How far the weights of a partition may be from 1 in sum, as in Great Expectations."""


def check_number(value: Any) -> None:
    """Require a finite number that float64 holds exactly if it is whole, since the library reads it as float64."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"{_quote(value)} is not a number{_hint(value)}")
    if not isinstance(value, int) and not math.isfinite(value):
        raise ValueError(f"{_quote(value)} is not a finite number")
    if isinstance(value, int) and not (abs(value) <= 2**1000 and int(float(value)) == value):
        raise ValueError("is not a number that float64 holds exactly; round it")


def check_share(value: Any) -> None:
    """Require a number from 0 to 1."""
    check_number(value)
    if not 0 <= value <= 1:
        raise ValueError(f"{_quote(value)} is not a share; write a number from 0 to 1, as in `0.95`")


def check_mostly(value: Any) -> None:
    """Require a share above 0."""
    check_share(value)
    if not value:
        raise ValueError("0 lets every value pass; write a larger share, or leave the expectation out")


def check_count(value: Any) -> None:
    """Require a whole number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_quote(value)} is not a whole number{_hint(value)}")
    check_number(value)
    if value < 0:
        raise ValueError(f"{value} is below 0")


def check_bound(value: Any) -> None:
    """Require a number or a time."""
    if isinstance(value, str):
        read_time(value)
    elif not isinstance(value, date):
        check_number(value)


def read_time(value: str | date) -> datetime:
    """Return the time of a text or a date. A time without zone is UTC.

    Raises:
        ValueError: the text is not a time.
    """
    if not isinstance(value, str):
        moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    elif _hint(value):
        raise ValueError(f"{_quote(value)} is text{_hint(value)}")
    else:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            how = "write a time as in `2026-01-01` or `2026-01-01T06:00:00Z`"
            raise ValueError(f"{_quote(value)} is neither a number nor a time; {how}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def check_flag(value: Any) -> None:
    """Require true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{_quote(value)} is neither `true` nor `false`")


def check_name(value: Any) -> None:
    """Require the name of a column."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{_quote(value)} is not the name of a column")


def check_names(value: Any) -> None:
    """Require names of columns."""
    for name in _items(value, "names of columns"):
        check_name(name)


def check_two_names(value: Any) -> None:
    """Require at least two names of columns, each once."""
    check_names(value)
    if twice := next((name for name in value if list(value).count(name) > 1), None):
        raise ValueError(f"`{twice}` stands twice")
    if len(value) < 2:
        raise ValueError("name at least two columns")


def check_values(value: Any) -> None:
    """Require a list of single values. NULL equals no value, so it may not be in the list."""
    for each in _items(value, "values"):
        _check_scalar(each)


def check_some_values(value: Any) -> None:
    """Require a list with at least one value: without any, the expectation would judge nothing."""
    check_values(value)
    if not value:
        raise ValueError("the list is empty")


def check_pairs(value: Any) -> None:
    """Require a list of pairs of values."""
    for pair in _items(value, "pairs, as in `[[1, a], [2, b]]`"):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{_quote(pair)} is not a pair of values")
        for each in pair:
            _check_scalar(each)


def check_regex(value: Any) -> None:
    """Require a regular expression."""
    if not isinstance(value, str):
        raise ValueError(f"{_quote(value)} is not text")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{_quote(value)} is not a regular expression: {error}") from None


def check_regexes(value: Any) -> None:
    """Require at least one regular expression."""
    items = _items(value, "regular expressions")
    if not items:
        raise ValueError("the list is empty")
    for each in items:
        check_regex(each)


def check_time_format(value: Any) -> None:
    """Require a format of `strftime` that can be read back."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{_quote(value)} is not a format; write it as in `%Y-%m-%d`")
    try:
        datetime.strptime(datetime(2026, 1, 31, tzinfo=UTC).strftime(value), value)  # noqa: DTZ007
    except ValueError as error:
        raise ValueError(f"{_quote(value)} is not a format that can be read back: {error}") from None


def check_json_schema(value: Any) -> None:
    """Require a JSON Schema that is valid itself."""
    import jsonschema  # not above: few specs have one

    if not isinstance(value, Mapping):
        raise ValueError(f"{_quote(value)} is not a JSON Schema, which is a mapping")
    try:
        jsonschema.validators.validator_for(value).check_schema(value)
    except jsonschema.SchemaError as error:
        raise ValueError(f"this is not a JSON Schema: {error.message}") from None


def check_quantiles(value: Any) -> None:
    """Require `quantiles` and as many `value_ranges`."""
    parts = _parts(value, {"quantiles", "value_ranges"})
    quantiles, ranges = (_items(parts[name], f"`{name}`") for name in ("quantiles", "value_ranges"))
    if not quantiles or len(quantiles) != len(ranges):
        raise ValueError("give one range of `value_ranges` for each of `quantiles`, and at least one")
    for quantile in quantiles:
        check_share(quantile)
    for pair in ranges:
        _check_range(pair)


def check_partition(value: Any) -> None:
    """Require `weights` with `values`, or with `bins`. The weights must have the sum 1."""
    name = "bins" if isinstance(value, Mapping) and "bins" in value else "values"
    tail = {"tail_weights"} & set(value) if name == "bins" else set()
    parts = _parts(value, {name, "weights"} | tail)
    weights, tails = _items(parts["weights"], "weights"), _items(parts.get("tail_weights", []), "weights")
    for weight in (*weights, *tails):
        check_share(weight)
    if tail and len(tails) != 2:
        raise ValueError("`tail_weights` has a weight below the bins and one above them")
    if abs(sum(map(float, (*weights, *tails))) - 1) > _SHARE:
        raise ValueError("the weights must have the sum 1")
    edges = _items(parts[name], name)
    if len(edges) != len(weights) + (name == "bins"):
        raise ValueError(f"{len(weights)} weights do not fit {len(edges)} {name}")
    for edge in edges:
        check_number(edge) if name == "bins" else _check_scalar(edge)
    if name == "bins" and any(low >= high for low, high in pairwise(edges)):
        raise ValueError("the bins must ascend")


def _check_range(pair: Any) -> None:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError(f"{_quote(pair)} is not a range; write it as in `[1, 3]` or `[1, null]`")
    bounds = [bound for bound in pair if bound is not None]
    for bound in bounds:
        check_number(bound)
    if not bounds:
        raise ValueError("`[null, null]` lets every value pass")
    if bounds != sorted(bounds):
        raise ValueError(f"{_quote(pair)} is not in ascending order")


def _check_scalar(value: Any) -> None:
    if value is None:
        raise ValueError("NULL is not a value to compare with; use `expect_column_values_to_not_be_null`, or its like")
    if not isinstance(value, str | bool | int | float | Decimal | date):
        raise ValueError(f"{_quote(value)} is not a single value")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise ValueError(f"{_quote(value)} is not a finite number")


def _items(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError(f"{_quote(value)} is not a list of {what}")
    return list(value)


def _parts(value: Any, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or set(value) != names:
        raise ValueError(f"write a mapping with {' and '.join(f'`{n}`' for n in sorted(names))}")
    return value


def _hint(value: Any) -> str:
    """Return what to do about a number in quotation marks. Empty for anything else."""
    try:
        float(value if isinstance(value, str) else "")
    except ValueError:
        return ""
    return "; write it without quotation marks"


def _quote(value: Any) -> str:
    text = str(value)
    return f"`{text if len(text) <= 60 else text[:59] + '…'}`"
