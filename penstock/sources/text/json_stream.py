"""Walk through the text of a JSON file value by value, in bounded memory. For arrays as long as their file."""

import json
import re
from collections.abc import Iterator
from typing import IO, Any

_CHUNK = 1 << 20
_LONGEST_RECORD = 64 << 20
_BLANK = re.compile(r"[ \t\r\n]*")


class BrokenJson(ValueError):
    """The text is no JSON, or has no array of records where one was expected."""


class JsonStream:
    """The text of a file, of which only the part around the present position is in memory."""

    def __init__(self, file: IO[str], decoder: json.JSONDecoder) -> None:
        self._file, self._decoder = file, decoder
        self._text, self._at, self._ended = "", 0, False
        self.line = 1
        """The line of the present position."""

    def records(self, keys: tuple[str, ...]) -> Iterator[tuple[Any, int, int, str]]:
        """Yield each value of an array with its first and last line and its text.

        Args:
            keys: the keys that lead to the array. Empty: the file is the array.

        Raises:
            BrokenJson: the text is no JSON, or the keys lead to no array.
        """
        for key in keys:
            self._enter(key)
        if not self._skip("["):
            raise BrokenJson(f"line {self.line}: {_place(keys)} is no JSON array")
        if self._skip("]"):
            return
        while True:
            self._next()
            line = self.line
            value, text = self._value()
            yield value, line, self.line, text
            if self._skip("]"):
                return
            self._expect(",")

    def _enter(self, key: str) -> None:
        """Go to the value of an object's key."""
        self._expect("{")
        while not self._skip("}"):
            self._next()
            found, _ = self._value()
            self._expect(":")
            if found == key:
                return
            self._next()
            self._value()
            if not self._skip(","):
                break
        raise BrokenJson(f"line {self.line}: there is no key `{key}` that leads to the records")

    def _value(self) -> tuple[Any, str]:
        """Read the value at the present position."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                if not self._fill():
                    raise BrokenJson(f"line {self.line}: {error}") from None
                continue
            if end == len(self._text) and self._fill():  # a number may go on
                continue
            text = self._text[self._at : end]
            self.line += _count_lines(text)
            self._at = end
            return value, text

    def _expect(self, character: str) -> None:
        if not self._skip(character):
            raise BrokenJson(f"line {self.line}: `{character}` is expected, and {self._found()} is found")

    def _skip(self, character: str) -> bool:
        """Go beyond a character if it is the next one."""
        if self._next() != character:
            return False
        self._at += 1
        return True

    def _next(self) -> str:
        """Go to the next character that is not blank, and return it. Empty at the end of the file."""
        while True:
            found = _BLANK.match(self._text, self._at)
            assert found is not None
            self.line += _count_lines(found[0])
            self._at = found.end()
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def _found(self) -> str:
        shown = self._text[self._at : self._at + 20]
        return f"`{shown}`" if shown else "the end of the file"

    def _fill(self) -> bool:
        """Read more text, and forget what is behind. Return False at the end of the file."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        if len(rest) > _LONGEST_RECORD:
            raise BrokenJson(f"line {self.line}: a record has more than {_LONGEST_RECORD:,} characters")
        more = self._file.read(max(_CHUNK, len(rest)))
        self._ended = not more
        self._text, self._at = rest + more, 0
        return bool(more)


def _place(keys: tuple[str, ...]) -> str:
    return f"`{'.'.join(keys)}`" if keys else "the file"


def _count_lines(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")
