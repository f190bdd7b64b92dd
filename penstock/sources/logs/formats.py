"""The formats of log lines. Each reads event times and parses lines into columns, in bulk."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from penstock.database.types import TIMESTAMP
from penstock.errors import Problem, SpecError, nearest
from penstock.sources.logs.access import AccessParser
from penstock.sources.logs.json_lines import JsonParser
from penstock.sources.logs.records import Layout
from penstock.sources.logs.regex import compile_regex
from penstock.sources.logs.syslog import SyslogParser
from penstock.sources.logs.time_format import TimeFormat
from penstock.sources.logs.times import EPOCH_UNITS, has_day, has_year, is_time_format
from penstock.sources.logs.values import select_fields
from penstock.sources.logs.w3c import W3cParser
from penstock.sources.logs.zones import LocalZone
from penstock.spec.sources import ROW_ID, LogSource, RegexFormat

RESERVED = ("time", "line", ROW_ID)

_ROW_TYPES: list[tuple[str, pa.DataType]] = [("line", pa.string()), ("time", TIMESTAMP)]
_CHUNK_ROWS = 50_000


class LineParser(Protocol):
    """The interface of a format for landing and reading. Parsers are frozen and can be pickled."""

    @property
    def schema(self) -> pa.Schema:
        """The columns that `parse` returns, including `time` in UTC, with `line` as the last."""

    def times(self, lines: pa.StringArray, seen_at: datetime, after: datetime | None = None) -> pa.TimestampArray:
        """Return each line's event time, or NULL if the whole line does not match the format.

        Args:
            lines: Lines as they were read, in the order of their file.
            seen_at: When their file was last written. It gives the year of times without one.
            after: The time of the file's line before them, if lines were read before.
        """

    def parse(
        self, lines: pa.StringArray, times: pa.TimestampArray, columns: Collection[str] | None = None
    ) -> pa.Table:
        """Parse lines that have a time.

        Args:
            columns: those to return, `time` among them. None: all. A value does not depend on the other columns.
        """


@dataclass(frozen=True)
class FormatParser:
    """Applies a parser of arrays to columns of tables, chunk by chunk."""

    parser: LineParser
    may_lack_years: bool = False
    """Whether its times may have no year."""

    def find_columns(self, lines: pa.StringArray) -> frozenset[str]:
        """Return the declared columns that occur in the lines. Those of a fixed format always do."""
        if isinstance(self.parser, JsonParser | W3cParser):
            return self.parser.find_columns(lines)
        return frozenset(self.schema.names)

    @property
    def schema(self) -> pa.Schema:
        return self.parser.schema

    def times(self, lines: pa.StringArray, seen_at: datetime, after: datetime | None = None) -> pa.TimestampArray:
        return self.parser.times(lines, seen_at, after)

    def parse(self, lines: Any, times: Any, columns: Collection[str] | None = None) -> pa.Table:
        rows = pa.table({"line": lines, "time": times}).cast(pa.schema(_ROW_TYPES))
        batches: list[Any] = rows.to_batches(max_chunksize=_CHUNK_ROWS)
        parts = [self.parser.parse(batch.column(0), batch.column(1), columns) for batch in batches]
        return pa.concat_tables(parts) if parts else select_fields(self.schema, columns).empty_table()


def compile_format(source: LogSource, *, second: bool = False) -> FormatParser:
    """Return the parser of a source's lines.

    Args:
        second: read local times of the repeated hour of autumn as their second occurrence, not as the first.

    Raises:
        SpecError: a column has a reserved name or is not a group of the expression, or the time format is wrong.
    """
    form = source.format.time_format if isinstance(source.format, RegexFormat) else None
    form = source.time.format if source.time else form
    may_lack_years = not (form in EPOCH_UNITS or has_year(form)) if form else source.format == "syslog"
    return FormatParser(_parser(source, second), may_lack_years)


def row_schema(source: LogSource) -> pa.Schema:
    """Return the columns that the rows of a source's lines have."""
    return compile_format(source).schema.append(pa.field(ROW_ID, pa.string()))


def compile_layout(source: LogSource) -> Layout:
    """Return how the lines of a source make up records."""
    return Layout(source.record_start, has_fields=source.format == "w3c")


def _parser(source: LogSource, second: bool) -> LineParser:
    taken = [name for name in source.columns if name in RESERVED]
    if taken:
        raise _refusal("columns", f"Penstock adds `{taken[0]}` itself; leave it out")
    time = _time_format(source, second)
    if isinstance(source.format, RegexFormat):
        return _regex_parser(source.format, source, time)
    if source.time is not None and source.format != "json":
        raise _refusal("time", "only lines of `format: json` have keys; leave `time` out")
    if source.format == "json":
        return JsonParser(source.columns, source.time.key if source.time else None, time)
    if source.format == "w3c":
        return W3cParser(source.columns, time)
    if source.columns:
        raise _refusal("columns", f"the columns of `format: {source.format}` are fixed; leave `columns` out")
    return SyslogParser(time) if source.format == "syslog" else AccessParser(combined=source.format == "combined")


def _time_format(source: LogSource, second: bool) -> TimeFormat:
    where, form = "time_format", None
    if isinstance(source.format, RegexFormat):
        form = source.format.time_format
    elif source.time is not None:
        where, form = "time.format", source.time.format
    is_epoch = form in EPOCH_UNITS
    if form is not None and not is_epoch and not is_time_format(form):
        raise _refusal(where, f"`{form}` contains a code that strptime does not know")
    has_own_year = is_epoch or (has_year(form) if form else source.format != "syslog")
    if form is not None and not has_own_year and not has_day(form):
        raise _refusal(where, f"`{form}` needs a month and a day; a time alone is of no day")
    if source.year is not None and has_own_year:
        raise _refusal("year", "the times of this format have a year; leave `year` out")
    has_own_zone = is_epoch or source.format in ("combined", "common") or (form is not None and "%z" in form)
    if source.timezone is not None and has_own_zone:
        raise _refusal("timezone", "the times of this format have an offset; leave `timezone` out")
    return TimeFormat(form, source.year, LocalZone(source.timezone, second) if source.timezone else None)


def _regex_parser(spec: RegexFormat, source: LogSource, time: TimeFormat) -> LineParser:
    groups = tuple(re.compile(spec.regex).groupindex)
    unknown = [name for name in source.columns if name not in groups]
    if unknown:
        raise _refusal(
            "columns", f"`{unknown[0]}` is not a group of the regular expression.{nearest(unknown[0], groups)}"
        )
    reserved = [name for name in groups if name in RESERVED[1:]]
    if reserved:
        raise _refusal("regex", f"a group cannot be named `{reserved[0]}`; Penstock adds that column itself")
    return compile_regex(spec.regex, time, source.columns, over_lines=source.record_start is not None)


def _refusal(where: str, what: str) -> SpecError:
    return SpecError("log source", (Problem(0, where, what),))
