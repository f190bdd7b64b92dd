"""Parse lines that are JSON objects."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute

from penstock.database.types import LARGEST_EXACT
from penstock.sources.logs.time_format import TimeFormat
from penstock.sources.logs.times import EPOCH_UNITS, open_engine, read_epoch, read_iso
from penstock.sources.logs.values import ValueKind, declared_schema, read_values, select_fields
from penstock.sources.logs.zones import LocalZone

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands

TIME_KEYS = ("time", "timestamp", "ts", "@timestamp")
_NUMBERS = ("BIGINT", "UBIGINT", "HUGEINT", "DOUBLE")
_FITTING: dict[ValueKind, tuple[str, ...]] = {
    "string": ("VARCHAR", "OBJECT", "ARRAY"),
    "int": _NUMBERS,
    "float": _NUMBERS,
    "bool": ("BOOLEAN",),
}


@dataclass(frozen=True)
class JsonParser:
    """Reads the declared keys of JSON objects. A missing key is NULL.

    A dot leads into an object: `process.pid` is the key of that name, or `pid` in `process`. The event time is that of
    `time_key`, or the first of `time`, `timestamp`, `ts` and `@timestamp` that is not null. A line is malformed if it
    has no event time, or if a value is not of its column's type (such as a number in a string column). An object or an
    array is its JSON text in a string column. NUL in a string is written as `\\x00`.
    """

    columns: Mapping[str, ValueKind]
    time_key: str | None
    time: TimeFormat

    @property
    def schema(self) -> pa.Schema:
        return declared_schema(self.columns)

    def times(self, lines: pa.StringArray, seen_at: datetime, after: datetime | None = None) -> pa.TimestampArray:
        time_keys = (self.time_key,) if self.time_key else TIME_KEYS
        kinds, texts = _look_up(lines, (*time_keys, *self.columns))
        candidates = [pc.equal(kind, "NULL") for kind in kinds[: len(time_keys)]]
        given = [pc.invert(pc.fill_null(is_null, True)) for is_null in candidates]
        times: Any = self._read_time(_first(given, kinds), _first(given, texts), seen_at, after)
        declared = zip(self.columns.values(), kinds[len(time_keys) :], texts[len(time_keys) :], strict=True)
        for column, kind, text in declared:
            times = pc.if_else(_column(column, kind, text, self.time.local)[1], None, times)
        good: pa.TimestampArray = times
        return good

    def _read_time(self, kinds: Any, texts: Any, seen_at: datetime, after: datetime | None) -> Any:
        if self.time.format is None:
            return _read_moment(kinds, texts, self.time.local)
        allowed = ("VARCHAR", *_NUMBERS) if self.time.format in EPOCH_UNITS else ("VARCHAR",)
        return self.time.read(pc.if_else(pc.is_in(kinds, pa.array(allowed)), texts, None), seen_at, after)

    def find_columns(self, lines: pa.StringArray) -> frozenset[str]:
        """Return the declared columns whose key some line has."""
        kinds, _ = _look_up(lines, tuple(self.columns))
        return frozenset(name for name, kind in zip(self.columns, kinds, strict=True) if kind.null_count < len(kind))

    def parse(
        self, lines: pa.StringArray, times: pa.TimestampArray, columns: Collection[str] | None = None
    ) -> pa.Table:
        schema = select_fields(self.schema, columns)
        found: dict[str, Any] = {"time": times, "line": lines}
        names = [name for name in schema.names if name not in found]
        for name, kind, text in zip(names, *_look_up(lines, tuple(names)), strict=True):
            found[name] = _column(self.columns[name], kind, text, self.time.local)[0]
        return pa.table([found[name] for name in schema.names], schema=schema)


def _column(column: ValueKind, kinds: Any, texts: Any, local: LocalZone | None) -> tuple[Any, Any]:
    """Return the values, and a mask of those that are not of the column's type."""
    present = pc.fill_null(pc.not_equal(kinds, "NULL"), False)
    if column == "timestamp":
        values = _read_moment(kinds, texts, local)
        return values, pc.and_not(present, pc.is_valid(values))
    fits = pc.is_in(kinds, pa.array(_FITTING[column]))
    read = read_values(pc.if_else(fits, texts, None), column)
    wrong = pc.or_(pc.and_not(present, fits), read.wrong)
    if column == "int":  # a number with a point was a float64 before it became text: `9007199254740993.0` ends in 2
        rounded = pc.and_(pc.equal(kinds, "DOUBLE"), pc.greater_equal(pc.abs_checked(read.values), LARGEST_EXACT))
        wrong = pc.or_(wrong, pc.fill_null(rounded, False))
    return pc.if_else(wrong, None, read.values), wrong


def _first(given: list[Any], arrays: list[Any]) -> Any:
    """Return for each row the first array value that is given."""
    return pc.coalesce(*[pc.if_else(here, array, None) for here, array in zip(given, arrays, strict=False)])


def _read_moment(kinds: Any, texts: Any, local: LocalZone | None) -> Any:
    is_text = pc.equal(kinds, "VARCHAR")
    iso = read_iso(pc.if_else(is_text, texts, None), local)
    return pc.coalesce(iso, read_epoch(pc.if_else(pc.is_in(kinds, pa.array(_NUMBERS)), texts, None)))


def _look_up(lines: pa.StringArray, keys: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    """Return the JSON type and text of each key. NULL if the line lacks the key or is not a JSON object."""
    if not keys:
        return [], []
    paths = [_pointers(key) for key in keys]
    with open_engine() as connection:
        connection.register("lines", pa.table({"line": lines}))
        found = connection.sql(
            """
            select json_type(object, $1) as kinds, json_extract_string(object, $1) as texts
            from (select case when json_valid(line) and json_type(line) = 'OBJECT' then line end as object from lines)
            """,
            params=[[pointer for path in paths for pointer in path]],
        ).to_arrow_table()
    count = sum(map(len, paths))
    kinds = _by_key(found.column("kinds"), count)
    texts = [_escape_nul(array) for array in _by_key(found.column("texts"), count)]
    firsts = [sum(map(len, paths[:i])) for i in range(len(paths))]
    for first, path in zip(firsts, paths, strict=True):
        if len(path) == 2:
            flat = pc.is_valid(kinds[first])
            texts[first] = pc.if_else(flat, texts[first], texts[first + 1])
            kinds[first] = pc.if_else(flat, kinds[first], kinds[first + 1])
    return [kinds[first] for first in firsts], [texts[first] for first in firsts]


def _pointers(key: str) -> tuple[str, ...]:
    """Return the JSON pointer of a key, and for a key with a dot also that of the nested one."""
    escaped = key.replace("~", "~0").replace("/", "~1")
    return (f"/{escaped}", "/" + escaped.replace(".", "/")) if "." in key else (f"/{escaped}",)


def _by_key(lists: Any, count: int) -> list[Any]:
    chunks = [chunk.cast(pa.list_(pa.string())) for chunk in lists.chunks]
    joined: Any = pa.concat_arrays(chunks) if chunks else pa.array([], pa.list_(pa.string()))
    return [pc.list_element(joined, i) for i in range(count)]


def _escape_nul(texts: Any) -> Any:
    has_nul = pc.any(pc.match_substring(texts, "\0")).as_py()
    return pc.replace_substring(texts, "\0", "\\x00") if has_nul else texts
