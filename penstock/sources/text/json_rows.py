"""Read the rows of a JSON file as raw text: every value as the file has it, nested values as JSON.

A line that is broken is refused alone. A broken array is an error of the file, because nothing shows where its next
record begins.
"""

import json
from collections.abc import Iterator
from typing import IO, Any

from penstock.sources.text.decoding import has_stray_bytes
from penstock.sources.text.dialect import ARRAY, LINES
from penstock.sources.text.json_stream import JsonStream
from penstock.sources.text.records import UNDECODED, Record, RefusedRecord, refused

STRING, NUMBER, BOOL, NESTED = "string", "number", "bool", "nested"
"""What the values of a column are in JSON."""


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


class _TwiceError(ValueError):
    """An object has a key twice."""


class JsonRows:
    """The records of one JSON file, read once and in their order."""

    def __init__(self, file: IO[str], records: str) -> None:
        self._file, self._records = file, records
        self._decoder = json.JSONDecoder(
            parse_int=_Number, parse_float=_Number, parse_constant=_Number, object_pairs_hook=_unique
        )
        self._positions: dict[str, int] = {}
        self.kinds: dict[str, set[str]] = {}
        """By column: what its values have been so far."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys that have been found so far, in the order of their first records."""
        return tuple(self._positions)

    def __iter__(self) -> Iterator[Record | RefusedRecord]:
        """Yield each record with the values of the columns found so far, or its refusal.

        Raises:
            BrokenJson: an array is broken.
        """
        read = self._read_lines() if self._records == LINES else self._read_array()
        for number, (value, line, last_line, text) in enumerate(read):
            yield self._record(number, value, line, last_line, text)

    def _read_lines(self) -> Iterator[tuple[Any, int, int, str]]:
        for line, text in enumerate(self._file, 1):
            if text.isspace():
                continue
            try:
                yield self._decoder.decode(text), line, line, text
            except (ValueError, RecursionError) as error:
                yield error, line, line, text

    def _read_array(self) -> Iterator[tuple[Any, int, int, str]]:
        keys = () if self._records == ARRAY else tuple(self._records.split("."))
        return JsonStream(self._file, self._decoder).records(keys)

    def _record(self, number: int, value: Any, line: int, last_line: int, text: str) -> Record | RefusedRecord:
        if has_stray_bytes(text):
            return refused(number, line, text, UNDECODED)
        if isinstance(value, Exception):
            return refused(number, line, text, _reason(value))
        if not isinstance(value, dict):
            return refused(number, line, text, "no JSON object")
        if "\\u" in text and has_stray_bytes(_write(value)):
            return refused(number, line, text, "half of a character")
        return Record(number, line, last_line, self._values(value), text)

    def _values(self, record: dict[str, Any]) -> list[str | None]:
        positions, kinds = self._positions, self.kinds
        for key in record:
            if key not in positions:
                positions[key], kinds[key] = len(positions), set()
        values: list[str | None] = [None] * len(positions)
        for key, value in record.items():
            if value is None:
                continue
            kind = _KINDS[type(value)]
            kinds[key].add(kind)
            values[positions[key]] = value if kind in (STRING, NUMBER) else _write(value)
        return values


_KINDS = {str: STRING, _Number: NUMBER, bool: BOOL, dict: NESTED, list: NESTED}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"the key `{next(n for n in names if names.count(n) > 1)}` twice in an object")
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, _TwiceError):
        return str(error)
    return f"no JSON: {error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "no JSON"


def _write(value: Any) -> str:
    """Write a value as JSON, its numbers as they were."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_write(key)}: {_write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_write, value)) + "]"
    return str(value) if isinstance(value, _Number) else json.dumps(value, ensure_ascii=False)
