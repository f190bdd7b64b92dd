"""Read a suite of Great Expectations as a spec's expectations: `payments: {suite: payments.json}`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from penstock.errors import nearest
from penstock.spec.expectation import Expectation
from penstock.spec.expectation_types import ALL_TYPES, ROW_TYPES

SUITE = "suite"
MAX_BYTES = 1_000_000
_SEVERITIES = ("critical", "warning", "info")
_LEFT_OUT = ("batch_id", "catch_exceptions", "result_format")
"""Arguments that change no verdict: Penstock sets them."""
_OTHER_WAYS = {
    "expect_column_values_to_be_of_type": "Penstock compares the types of a source with its contract; take it out",
    "expect_column_values_to_be_in_type_list": "Penstock compares the types of a source with its contract; take it out",
    "unexpected_rows_expectation": "it is a query; select the rows in the source's `query:`",
}


def read_suite(path: Path, name: str) -> tuple[Expectation, ...]:
    """Return the expectations of a suite that Great Expectations 1.x wrote.

    Args:
        name: the path as messages show it.

    Raises:
        ValueError: the file is no such suite, or has expectations that a spec cannot have. The text names them all.
    """
    entries = _read_entries(path, name)
    read, problems = [], []
    for number, entry in enumerate(entries, 1):
        where = f"`{name}`, expectation {number}"
        found = list(_find_problems(entry))
        if not found:
            try:
                read.append(_read_entry(entry, name))
            except ValidationError as error:
                found = [str(each["msg"]).removeprefix("Value error, ") for each in error.errors(include_url=False)]
        problems += [f"{where}: {what}" for what in found]
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(read)


def _read_entries(path: Path, name: str) -> list[Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"the suite `{name}` cannot be read: {reason}; its path starts at the spec's folder") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"the suite `{name}` is larger than {MAX_BYTES:,} bytes")
    try:
        suite = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"the suite `{name}` is not JSON") from None
    entries = suite.get("expectations") if isinstance(suite, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"`{name}` is no suite of Great Expectations: it has no list `expectations`")
    if "expectation_suite_name" in suite or any(isinstance(e, dict) and "expectation_type" in e for e in entries):
        raise ValueError(
            f"the suite `{name}` has the format of Great Expectations 0.x, where arguments have other meanings; "
            "load it with Great Expectations 1.x and save it again"
        )
    if not entries:
        raise ValueError(f"the suite `{name}` has no expectations; take it out of the spec")
    return entries


def _find_problems(entry: Any) -> Iterator[str]:
    """Yield what makes an entry no expectation of a spec, apart from its arguments."""
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        yield "it has no `type`"
        return
    kind, arguments = entry["type"], entry.get("kwargs")
    if kind not in ALL_TYPES:
        other = _OTHER_WAYS.get(kind) or f"Penstock cannot judge it; take it out.{nearest(kind, ALL_TYPES)}"
        yield f"`{kind[:100]}`: {other}"
    if not isinstance(arguments, dict):
        yield "it has no `kwargs`"
    if entry.get("severity", "critical") not in _SEVERITIES:
        yield f"`severity` is one of {', '.join(_SEVERITIES)}"


def _read_entry(entry: Mapping[str, Any], name: str) -> Expectation:
    kind, severity = entry["type"], entry.get("severity", "critical")
    arguments = {k: v for k, v in entry["kwargs"].items() if v is not None and k not in _LEFT_OUT}
    if "row_condition" not in arguments:
        arguments.pop("condition_parser", None)
    if arguments.get("mostly") == 1:  # all rows, as without it
        del arguments["mostly"]
    note = ""
    if severity == "warning" and kind not in ROW_TYPES:
        severity, note = "info", "it judges the interval as a whole and cannot quarantine rows, so `warning` is `info`"
    elif severity == "warning" and "mostly" in arguments:
        severity, note = "info", "`mostly` allows some rows to fail, so `warning` is `info` and quarantines none"
    left_out = [k for k in _LEFT_OUT if entry["kwargs"].get(k) is not None]
    if left_out:
        note = "; ".join(n for n in (note, f"{', '.join(f'`{k}`' for k in left_out)} left out") if n)
    return Expectation(type=kind, severity=severity, arguments=arguments, suite=name, note=note)
