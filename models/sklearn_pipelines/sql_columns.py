"""A column on its way through a Pipeline: the SQL that computes it, and the literals in that SQL."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Never

REFUSED_VALUE = "cast('infinity' as double)"
"""The value of a row that the Pipeline refuses. No model takes it, so a run quarantines the row."""
NULL = "cast(null as double)"


@dataclass(frozen=True)
class SqlColumn:
    """One column of a step's input or output."""

    name: str
    sql: str
    """A number as double, text as varchar. A missing value is NULL."""
    kind: str = "number"
    """`number`, `text`, or the type of a column that no step takes."""


class UntranslatedError(Exception):
    """A step has no SQL. Raised and caught in this package only."""

    def __init__(self, reason: str, step: str = "", kind: str = "") -> None:
        super().__init__(reason)
        self.reason, self.step, self.kind = reason, step, kind

    def inside(self, name: str, kind: str) -> "UntranslatedError":
        """Return the error with the name of the step around it."""
        return UntranslatedError(self.reason, f"{name}.{self.step}" if self.step else name, self.kind or kind)


def untranslated(reason: str) -> Never:
    raise UntranslatedError(reason)


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def number(value: Any) -> str:
    """Return the literal of a number as double with all its digits, NULL for NaN."""
    value = float(value)
    if math.isnan(value):
        return NULL
    if math.isinf(value):
        untranslated("has an infinite value")
    text = repr(value)
    text = text if "e" in text else f"{text}e0"
    return f"({text})" if value < 0 else text


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def check_numbers(columns: Sequence[SqlColumn]) -> None:
    """Refuse columns of text where a step computes."""
    for column in columns:
        if column.kind != "number":
            untranslated(f"needs numbers, and `{column.name}` is {column.kind} in the rows")


def literal(column: SqlColumn, value: Any) -> str:
    """Return the literal of a value that a column is compared with."""
    if column.kind == "text" and isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if column.kind == "number" and not isinstance(value, str | bytes):
        return number(value)
    return untranslated(f"knows the value {value!r} of `{column.name}`, which is {column.kind} in the rows")


def any_of(column: SqlColumn, values: Sequence[Any]) -> str:
    """Return the condition that a column has one of some values, of which a missing one is NULL. Never NULL itself."""
    known = ", ".join(literal(column, value) for value in values if not is_missing(value))
    conditions = [f"coalesce({column.sql} in ({known}), false)"] if known else []
    conditions += [f"{column.sql} is null"] if any(map(is_missing, values)) else []
    return f"({' or '.join(conditions)})" if len(conditions) > 1 else (conditions or ["false"])[0]
