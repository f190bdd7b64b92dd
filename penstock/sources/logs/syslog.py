"""Parse syslog lines: RFC 5424, RFC 3164, and RFC 3164 with an ISO 8601 time, as daemons write to files today."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute

from penstock.database.types import TIMESTAMP
from penstock.sources.logs.time_format import TimeFormat
from penstock.sources.logs.values import read_int, replace_text, select_fields

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands

_PRIORITY = "(?:[0-9]|[1-9][0-9]|1[0-8][0-9]|19[01])"
_ISO = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.,]+(?:Z|[+-][0-9:]+)?"
_TIME = rf"[A-Z][a-z]{{2}} [ 0-9]?[0-9] [0-9:]{{8}}|{_ISO}"
_DATA = r'(?:-|(?:\[[^\]"]*(?:"(?:[^"\\]|\\.)*"[^\]"]*)*\])+)'
_RFC5424 = (
    rf"(?s)^<(?P<priority>{_PRIORITY})>[1-9][0-9]? (?P<time>{_ISO}) (?P<host>\S+) (?P<app>\S+) (?P<pid>\S+) \S+ {_DATA}"
    r"(?: (?P<message>.*))?$"
)
_RFC3164 = rf"(?s)^(?:<(?P<priority>{_PRIORITY})>)?(?P<time>{_TIME}) (?P<host>\S+) (?P<content>.*)$"
_TAGGED = r"(?s)^(?P<app>[^\s\[\]:]+)(?:\[(?P<pid>[^\]]*)\])?:(?: (?P<message>.*))?$"
_NUMBER = "^[0-9]{1,18}$"


@dataclass(frozen=True)
class SyslogParser:
    """Parses syslog lines.

    Without a tag (`app[pid]:`) the whole content is the message. A process id that is not a number is NULL. So are `-`
    and fields that a line lacks. Structured data and message id are only in `line`.
    """

    time: TimeFormat

    @property
    def schema(self) -> pa.Schema:
        text, number = pa.string(), pa.int64()
        fields: list[tuple[str, pa.DataType]] = [
            ("time", TIMESTAMP),
            ("host", text),
            ("app", text),
            ("pid", number),
            ("priority", number),
        ]
        return pa.schema([*fields, ("message", text), ("line", text)])

    def times(self, lines: pa.StringArray, seen_at: datetime, after: datetime | None = None) -> pa.TimestampArray:
        new, old = _parts(lines)
        text = pc.coalesce(pc.struct_field(new, "time"), pc.struct_field(old, "time"))
        return self.time.read_syslog(text, seen_at, after)

    def parse(
        self, lines: pa.StringArray, times: pa.TimestampArray, columns: Collection[str] | None = None
    ) -> pa.Table:
        schema = select_fields(self.schema, columns)
        found: dict[str, Any] = {"time": times, "line": lines}
        names = {name for name in schema.names if name not in found}
        if names:
            new, old = _parts(lines)
            for name in names & {"host", "priority"}:
                found[name] = pc.coalesce(pc.struct_field(new, name), pc.struct_field(old, name))
            if tags := names & {"app", "pid", "message"}:
                content = pc.struct_field(old, "content")
                tagged = pc.extract_regex(content, pattern=_TAGGED)
                untagged = pc.if_else(pc.is_null(tagged), content, None)
                for name in tags:
                    rest = [untagged] if name == "message" else []
                    found[name] = pc.coalesce(pc.struct_field(new, name), pc.struct_field(tagged, name), *rest)
        return pa.table([_READERS.get(name, _as_it_is)(found[name]) for name in schema.names], schema=schema)


def _as_it_is(values: Any) -> Any:
    return values


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "host": lambda host: replace_text(host, ("-",)),
    "app": lambda app: replace_text(app, ("-",)),
    "pid": lambda pid: read_int(pc.if_else(pc.match_substring_regex(pid, _NUMBER), pid, None)),
    "priority": lambda priority: read_int(replace_text(priority, ("",))),
    "message": lambda message: replace_text(pc.utf8_ltrim(message, "\ufeff"), ("",)),
}


def _parts(lines: Any) -> tuple[Any, Any]:
    """Parse lines by both standards. A line is NULL in one of the results, or in both."""
    new = pc.extract_regex(lines, pattern=_RFC5424)
    return new, pc.extract_regex(pc.if_else(pc.is_null(new), lines, None), pattern=_RFC3164)
