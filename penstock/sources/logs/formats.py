"""The formats of log lines. Each reads event times and parses lines into columns, in bulk."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from penstock.database.types import TIMESTAMP
from penstock.errors import Problem, SpecError, nearest
from penstock.sources.logs.access import AccessParser
from penstock.sources.logs.json_lines import JsonParser
from penstock.sources.logs.regex import compile_regex
from penstock.sources.logs.syslog import SyslogParser
from penstock.sources.logs.times import is_time_format
from penstock.spec.pipeline import ROW_ID, LogSource, RegexFormat

RESERVED = ("time", "line", ROW_ID)

_ROW_TYPES: list[tuple[str, pa.DataType]] = [("line", pa.string()), ("time", TIMESTAMP)]
_CHUNK_ROWS = 50_000


class LineParser(Protocol):
    """The interface of a format for landing and reading. Parsers are frozen and can be pickled."""

    @property
    def schema(self) -> pa.Schema:
        """The columns that `parse` returns, including `time` in UTC, with `line` as the last."""

    def times(self, lines: pa.StringArray, seen_at: datetime) -> pa.TimestampArray:
        """Return each line's event time, or NULL if the whole line does not match the format.

        Args:
            lines: Lines as they were read.
            seen_at: When their file was last written. It gives the year of times without one.
        """

    def parse(self, lines: pa.StringArray, times: pa.TimestampArray) -> pa.Table:
        """Parse lines that have a time."""


@dataclass(frozen=True)
class _ChunkedParser:
    """Applies a parser of arrays to columns of tables, chunk by chunk."""

    parser: LineParser

    @property
    def schema(self) -> pa.Schema:
        return self.parser.schema

    def times(self, lines: pa.StringArray, seen_at: datetime) -> pa.TimestampArray:
        return self.parser.times(lines, seen_at)

    def parse(self, lines: Any, times: Any) -> pa.Table:
        rows = pa.table({"line": lines, "time": times}).cast(pa.schema(_ROW_TYPES))
        batches: list[Any] = rows.to_batches(max_chunksize=_CHUNK_ROWS)
        parts = [self.parser.parse(batch.column(0), batch.column(1)) for batch in batches]
        return pa.concat_tables(parts) if parts else self.schema.empty_table()


def compile_format(source: LogSource) -> LineParser:
    """Return the parser of a source's lines.

    Raises:
        SpecError: a column has a reserved name or is not a group of the expression, or the time format is wrong.
    """
    return _ChunkedParser(_parser(source))


def _parser(source: LogSource) -> LineParser:
    taken = [name for name in source.columns if name in RESERVED]
    if taken:
        raise _refusal("columns", f"Penstock adds `{taken[0]}` itself; leave it out")
    if isinstance(source.format, RegexFormat):
        return _regex_parser(source.format, source)
    if source.format == "json":
        return JsonParser(source.columns)
    if source.columns:
        raise _refusal("columns", f"the columns of `format: {source.format}` are fixed; leave `columns` out")
    return SyslogParser() if source.format == "syslog" else AccessParser(combined=source.format == "combined")


def _regex_parser(spec: RegexFormat, source: LogSource) -> LineParser:
    groups = tuple(re.compile(spec.regex).groupindex)
    unknown = [name for name in source.columns if name not in groups]
    if unknown:
        raise _refusal(
            "columns", f"`{unknown[0]}` is not a group of the regular expression.{nearest(unknown[0], groups)}"
        )
    reserved = [name for name in groups if name in RESERVED[1:]]
    if reserved:
        raise _refusal("regex", f"a group cannot be named `{reserved[0]}`; Penstock adds that column itself")
    if spec.time_format is not None and not is_time_format(spec.time_format):
        raise _refusal("time_format", f"`{spec.time_format}` contains a code that strptime does not know")
    return compile_regex(spec.regex, spec.time_format, source.columns)


def _refusal(where: str, what: str) -> SpecError:
    return SpecError("log source", (Problem(0, where, what),))
