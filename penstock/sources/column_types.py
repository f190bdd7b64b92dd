"""Types of the columns of CSV and JSON files: declared in the spec, kept by the contract, or guessed.

A value is converted from its text, and one that does not fit is an error. DuckDB alone would round 2.75 to a whole
number, and would read 03/01/2026 as it likes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from penstock.spec.column_types import STRPTIME, DeclaredType

ISO = "iso"
NUMBER, NOTHING = "number", "nothing"
"""Types in a contract: a number, whole or not; and a column without a value so far."""
_DECLARED = {"string": "text"}
_TEMPORAL = ("DATE", "TIME")
_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
_TRUE, _FALSE = "('true', 't', 'yes', 'y', '1')", "('false', 'f', 'no', 'n', '0')"
_DAY = "[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}"
_CLOCK = r"[ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)? ?(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)?"
_WITH_ZONE = r".*[0-9]:[0-9]{2}[0-9:.]* ?(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)"
_CHANGES = (-120, -60, -30, 30, 60, 120)
"""Minutes by which clocks are changed."""
_FLOAT = r"(?i)[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)"
_EPOCH_FACTORS = {
    "epoch_s": ("1000000", 12),
    "epoch_ms": ("1000", 15),
    "epoch_us": ("1", 18),
    "epoch_ns": ("0.001", 19),
}
"""Microseconds in one unit, and the most digits that a time has."""
_PARTS = re.compile(r"(\d{1,4})([-/. ])(\d{1,2})\2(\d{1,4})(.*)")
_REST = re.compile(r"([ T])\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?)([AaPp][Mm])?( ?)([+-]\d{2}(?::?\d{2})?)?")


@dataclass(frozen=True)
class ColumnType:
    """The type of a column, and of a date or a time how it is written."""

    kind: str
    format: str = ""
    """`iso`, an `epoch_…` format or a strptime format. Empty for other types, and if it is not known."""
    zone: str = field(default="UTC", compare=False)
    """Time zone of timestamps without one. A contract does not have it, the source does."""

    @classmethod
    def parse(cls, text: str) -> "ColumnType":
        """Read a type as a contract stores it: `timestamp %d/%m/%Y %H:%M`."""
        kind, _, format_ = text.partition(" ")
        return cls(kind, format_)

    def __str__(self) -> str:
        return f"{self.kind} {self.format}".rstrip()

    @property
    def expected(self) -> str:
        """What a value has to be, for messages."""
        return f"{self}, a time that clocks in {self.zone} show once" if self._is_local else str(self)

    @property
    def is_known(self) -> bool:
        """Whether values can be read by this type. Contracts of 0.1 do not say how times are written."""
        return self.kind != NOTHING and (self.kind not in ("date", "timestamp") or bool(self.format))

    def fits(self, raw: str) -> str:
        """Return the SQL condition that a text, which is not NULL, is of this type."""
        text = f"trim({raw})"
        if self.kind == "bool":
            return f"lower({text}) in {_TRUE} or lower({text}) in {_FALSE}"
        if self.kind == "text":
            return "true"
        if self.format in _EPOCH_FACTORS:
            return _matches(text, rf"[+-]?[0-9]{{1,{_EPOCH_FACTORS[self.format][1]}}}(\.[0-9]+)?")
        known = f"{_matches(text, self._pattern)} and {self._convert(raw, 'try_')} is not null"
        return f"{known} and {self._is_clear(text)}" if self._is_local else known

    @property
    def _is_local(self) -> bool:
        """Whether times without a zone are local times of another zone than UTC."""
        return self.kind == "timestamp" and self.zone != "UTC" and "%z" not in self.format

    def _is_clear(self, text: str) -> str:
        """Return the SQL condition that the clock of the zone shows a local time exactly once."""
        local, zone = self._local(text, "try_"), quoted(self.zone)
        moment = f"timezone({zone}, {local})"
        twice = ", ".join(f"timezone({zone}, {moment} + to_minutes({m}))" for m in _CHANGES)
        once = f"timezone({zone}, {moment}) = {local} and {local} not in ({twice})"
        return once if self.format not in ("", ISO) else f"({_matches(text, _WITH_ZONE)} or ({once}))"

    def _local(self, text: str, attempt: str) -> str:
        """Return the SQL of a time without zone."""
        if self.format in ("", ISO):
            return f"{attempt}cast({text} as TIMESTAMP)"
        return f"{attempt}strptime({text}, {quoted(self.format)})"

    def strict(self, raw: str) -> str:
        """Return the SQL value of a text. A text that does not fit fails the query."""
        if self.kind == "text":
            return raw
        # The text is part of the error's expression, so that it cannot be evaluated before a row is read.
        failure = f"error(substr({raw}, 1, 0) || 'a value does not fit its type')"
        return f"case when {raw} is null then null when {self.fits(raw)} then {self._convert(raw)} else {failure} end"

    def _convert(self, raw: str, attempt: str = "") -> str:
        """Return the SQL value of a text that fits. `attempt` is `try_` for one that may not."""
        text = f"trim({raw})"
        if self.kind == "bool":
            return f"lower({text}) in {_TRUE}"
        if self.kind == "int":
            return f"{attempt}cast({text} as BIGINT)"
        if self.kind in ("float", NUMBER):
            return f"{attempt}cast({text} as DOUBLE)"
        target = "DATE" if self.kind == "date" else "TIMESTAMPTZ"
        if self.format in _EPOCH_FACTORS:
            micro = f"floor(cast({text} as DECIMAL(28, 9)) * {_EPOCH_FACTORS[self.format][0]})"
            return f"cast(make_timestamp(cast({micro} as BIGINT)) as {target})"
        if self._is_local:
            moment = f"timezone({quoted(self.zone)}, {self._local(text, attempt)})"
            if self.format not in ("", ISO):
                return moment
            return f"case when {_matches(text, _WITH_ZONE)} then {attempt}cast({text} as {target}) else {moment} end"
        if self.format in ("", ISO):
            return f"{attempt}cast({text} as {target})"
        return f"cast({attempt}strptime({text}, {quoted(self.format)}) as {target})"

    @property
    def _pattern(self) -> str:
        if self.kind == "int":
            return "[+-]?[0-9]+"
        if self.kind in ("float", NUMBER):
            return _FLOAT
        if self.format in ("", ISO):
            return _DAY if self.kind == "date" else f"{_DAY}({_CLOCK})?"
        return format_pattern(self.format)


TEXT = ColumnType("text")


def declared_types(
    declared: Mapping[str, DeclaredType], date_format: str | None = None, timestamp_format: str | None = None
) -> dict[str, ColumnType]:
    """Return the types that a source declares.

    Args:
        date_format: that of dates without a format of their own. By default they are ISO 8601.
        timestamp_format: the same for timestamps.
    """
    usual = {"date": date_format or ISO, "timestamp": timestamp_format or ISO}
    return {
        name: ColumnType(_DECLARED.get(each.type, each.type), each.format or usual.get(each.type, ""))
        for name, each in declared.items()
    }


def family(stored: str) -> str:
    """Return the type in a contract for a type that DuckDB found: text, number, bool or time."""
    if stored == "BOOLEAN":
        return "bool"
    if stored.startswith(_TEMPORAL):
        return "time"
    return NUMBER if stored.startswith(_NUMERIC) and not stored.endswith("]") else "text"


def date_formats(value: str) -> Iterator[ColumnType]:
    """Yield the types by which a text like `03/01/2026 10:00` can be read: day first, month first, year first."""
    parts = _PARTS.fullmatch(value)
    rest = _rest_format(parts[5]) if parts else None
    if parts is None or rest is None:
        return
    separator, kind = parts[2], "timestamp" if rest else "date"
    if len(parts[1]) > 2:
        orders = ["%Y %m %d"]
    else:
        orders = ["%d %m %Y", "%m %d %Y"] if len(parts[4]) > 2 else ["%d %m %y", "%m %d %y", "%y %m %d"]
    for order in orders:
        yield ColumnType(kind, order.replace(" ", separator) + rest)


def format_pattern(format_: str) -> str:
    """Return the regular expression for texts of a strptime format. DuckDB's own parser takes other texts too."""
    pieces = re.split(r"(%-?[A-Za-z%])", format_)
    return "".join(
        STRPTIME.get(p.replace("-", ""), re.escape(p)) if p.startswith("%") else re.escape(p) for p in pieces
    )


def _rest_format(rest: str) -> str | None:
    """Return the format of what follows a date. None if it is not a clock."""
    if not rest:
        return ""
    parts = _REST.fullmatch(rest)
    if parts is None:
        return None
    separator, second, fraction, blank, noon, gap, zone = parts.groups()
    clock = ("%I" if noon else "%H") + ":%M" + (":%S" if second else "") + (".%f" if fraction else "")
    return separator + clock + blank + ("%p" if noon else "") + gap + ("%z" if zone else "")


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {quoted(pattern)})"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def as_text(column: str) -> str:
    """Return the SQL of a column's text."""
    return f"cast({identifier(column)} as VARCHAR)"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
