"""Read the format and writer of a model file, without XGBoost, before it is loaded.

XGBoost loads a file of a newer version without a warning and may score it wrong, and a damaged file may crash the
process. So the format is detected from the bytes, the whole structure is walked, and its `version` key is read.
"""

import json
import struct
import sys
from dataclasses import dataclass
from typing import Literal, Never

from penstock.errors import ModelRefused

_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib")
_WIDTHS = {b"i": 1, b"U": 1, b"C": 1, b"I": 2, b"l": 4, b"d": 4, b"L": 8, b"D": 8, b"T": 0, b"F": 0, b"Z": 0, b"N": 0}
_INTEGERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
_DEEPEST = 64
_UNTRIED_MAJOR = 4
"""The first major version of XGBoost that Penstock's requirement excludes."""
_LAST_FOR_3_11 = (3, 2)
"""The last minor version of XGBoost that Python 3.11 can install."""
SAVE_AGAIN = "Save it with `Booster.save_model('model.ubj')` and register that file."


@dataclass(frozen=True)
class FileFacts:
    """Format of a model file, and the XGBoost version that wrote it."""

    format: Literal["ubj", "json"]
    saved_by: tuple[int, int, int]

    @property
    def saved_by_text(self) -> str:
        return ".".join(str(part) for part in self.saved_by)


class _DamagedError(Exception):
    """The bytes do not follow the format. Raised and caught in this module only."""


def inspect_file(content: bytes, model: str, file_name: str) -> FileFacts:
    """Return the format of a model file and the XGBoost version that wrote it.

    Raises:
        ModelRefused: a pickle, the old binary format, a truncated or foreign file, or one without a version.
    """
    if content[:1] == b"\x80" or file_name.lower().endswith(_PICKLE_SUFFIXES):
        _refuse(model, f"{file_name} is a pickle, which runs code when it is opened. {SAVE_AGAIN}")
    if content[:1] != b"{":
        _refuse(model, f"{file_name} is neither UBJSON nor JSON (old binary `.model` files are not read). {SAVE_AGAIN}")
    return _read_facts(content, model, file_name, None)


def inspect_serialized(content: bytes, model: str, file_name: str) -> FileFacts:
    """Return the format and version of a booster as pickles and skops files have it, with its configuration.

    Raises:
        ModelRefused: it is damaged, or has no version.
    """
    return _read_facts(content, model, file_name, "Model")


def _read_facts(content: bytes, model: str, file_name: str, inside: str | None) -> FileFacts:
    """Read the facts of a model, or of the one under a key."""
    is_json = content[1:].lstrip()[:1] in (b'"', b"}")
    try:
        version = _json_version(content, inside) if is_json else _UbjWalk(content).read_version(inside)
    except _DamagedError as damage:
        _refuse(model, f"{file_name} is damaged or not a model: {damage}. {SAVE_AGAIN}")
    if version is None or len(version) != 3:
        _refuse(model, f"{file_name} does not say which XGBoost wrote it. {SAVE_AGAIN}")
    return FileFacts("json" if is_json else "ubj", (version[0], version[1], version[2]))


def refuse_newer(facts: FileFacts, installed: str, model: str, python: tuple[int, int] | None = None) -> None:
    """Raise `ModelRefused` where the file was written by a newer XGBoost (major.minor) than the installed one.

    Args:
        python: the Python that the remedy is for. Default: the running one.
    """
    major, minor = installed.split(".")[:2]
    if facts.saved_by[:2] <= (int(major), int(minor)):
        return
    install = f"xgboost>={facts.saved_by[0]}.{facts.saved_by[1]},<{_UNTRIED_MAJOR}"
    if facts.saved_by[0] >= _UNTRIED_MAJOR:
        remedy = f"Penstock works with XGBoost below {_UNTRIED_MAJOR}: train with such a version"
    elif facts.saved_by[:2] > _LAST_FOR_3_11 and (python or sys.version_info[:2]) < (3, 12):
        remedy = (
            f"Python 3.11 has no XGBoost after {_LAST_FOR_3_11[0]}.{_LAST_FOR_3_11[1]}: make an environment of Python "
            f'3.12 or later with `pip install "{install}"`, or train with {installed}'
        )
    else:
        remedy = f'Run `pip install "{install}"`, or train with {installed}'
    _refuse(
        model,
        f"it was saved by XGBoost {facts.saved_by_text}, and {installed} is installed here, which may score it wrong. "
        f"{remedy}.",
    )


def _refuse(model: str, reason: str) -> Never:
    raise ModelRefused(model, reason)


def _json_version(content: bytes, inside: str | None) -> list[int] | None:
    try:
        loaded = json.loads(content)
        version = (loaded.get(inside, {}) if inside else loaded).get("version")
    except (ValueError, AttributeError, RecursionError) as error:
        raise _DamagedError(f"not JSON ({type(error).__name__})") from None
    return version if isinstance(version, list) and all(type(part) is int for part in version) else None


class _UbjWalk:
    """Walk a UBJSON object from the first byte to the last, and keep only one `version`."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def read_version(self, inside: str | None) -> list[int] | None:
        version = self._object_version(None if inside is None else inside.encode())
        if self._at != len(self._content):
            raise _DamagedError("bytes after its end")
        return version

    def _object_version(self, inside: bytes | None) -> list[int] | None:
        """Walk an object and return its `version`, or that of the object under a key."""
        version: list[int] | None = None
        if self._take(1) != b"{":
            raise _DamagedError(f"byte {self._at}: an object was expected")
        while self._peek() != b"}":
            key = self._string()
            if inside is None and key == b"version" and self._peek() == b"[":
                version = self._integers()
            elif inside is not None and key == inside:
                version = self._object_version(None)
            else:
                self._skip_value(self._take(1), 0)
        self._take(1)
        return version

    def _peek(self) -> bytes:
        if self._at >= len(self._content):
            raise _DamagedError("cut off")
        return self._content[self._at : self._at + 1]

    def _take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._content):
            raise _DamagedError("cut off")
        self._at += count
        return self._content[self._at - count : self._at]

    def _integer(self) -> int:
        marker = self._take(1)
        if marker not in _INTEGERS:
            raise _DamagedError(f"byte {self._at}: an integer was expected")
        return int(struct.unpack(_INTEGERS[marker], self._take(_WIDTHS[marker]))[0])

    def _string(self) -> bytes:
        return self._take(self._integer())

    def _head(self) -> tuple[bytes | None, int | None]:
        """Return the element type and the count that may follow `[` or `{`."""
        kind = count = None
        if self._peek() == b"$":
            kind = self._take(2)[1:]
        if self._peek() == b"#":
            self._take(1)
            count = self._integer()
        if kind is not None and count is None:
            raise _DamagedError(f"byte {self._at}: a typed array without a count")
        return kind, count

    def _integers(self) -> list[int]:
        self._take(1)
        kind, count = self._head()
        if kind is not None or count is None or count > 8:
            raise _DamagedError("its `version` is not a short list of integers")
        return [self._integer() for _ in range(count)]

    def _skip_value(self, marker: bytes, depth: int) -> None:
        if depth > _DEEPEST:
            raise _DamagedError("nested too deeply")
        if marker in _WIDTHS:
            self._take(_WIDTHS[marker])
        elif marker in (b"S", b"H"):
            self._string()
        elif marker in (b"[", b"{"):
            self._skip_container(marker, depth)
        else:
            raise _DamagedError(f"byte {self._at}: not UBJSON")

    def _skip_container(self, marker: bytes, depth: int) -> None:
        kind, count = self._head()
        if kind in _WIDTHS and count is not None and marker == b"[":
            self._take(_WIDTHS[kind] * count)
            return
        close = b"]" if marker == b"[" else b"}"
        while count is None or count > 0:
            if count is None and self._peek() == close:
                self._take(1)
                return
            if marker == b"{":
                self._string()
            self._skip_value(kind or self._take(1), depth + 1)
            count = None if count is None else count - 1
