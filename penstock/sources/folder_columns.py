"""Columns that folders named `key=value` give to the files below them, as Hive, Spark and other engines write them.

The type of a column follows from all of its values, and no value changes by it: `year`, `month`, `day` and `hour` of
digits are whole numbers, ISO dates are dates, and all else is text.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from penstock.errors import FolderColumn
from penstock.sources.column_types import ISO, TEXT, ColumnType

_FOLDER = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_NULL = "__HIVE_DEFAULT_PARTITION__"
_CALENDAR = ("year", "month", "day", "hour")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGITS = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True)
class FolderColumns:
    """The columns that the folders of some files give."""

    values: Mapping[str, Sequence[str | None]]
    """By column: the value for each file, in the order of the files. None: NULL, or the file has no such folder."""


def folder_kind(values: Sequence[str | None], column: str) -> ColumnType:
    """Return the type of a column that the spec does not declare."""
    given = [value for value in values if value is not None]
    if column.casefold() in _CALENDAR and given and all(_DIGITS.fullmatch(value) for value in given):
        return ColumnType("int")
    if given and all(_DAY.fullmatch(value) for value in given):
        return ColumnType("date", ISO)
    return TEXT


def folder_columns(source: str, paths: Sequence[str], private: Container[str] = ()) -> FolderColumns:
    """Return the columns that the folders in the paths of files give.

    Args:
        private: private columns, in lower case.

    Raises:
        FolderColumn: a path has a key twice, or a key is private.
    """
    found = [_read_path(source, path) for path in paths]
    names = dict.fromkeys(name for keys in found for name in keys)
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(name.casefold(), name)
        if name.casefold() in private:
            raise FolderColumn(source, name, "is private, and the paths of files show it. Take it out of the paths")
    by_case = [{name.casefold(): value for name, value in keys.items()} for keys in found]
    return FolderColumns({name: [keys.get(folded) for keys in by_case] for folded, name in spelled.items()})


def _read_path(source: str, path: str) -> dict[str, str | None]:
    keys: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        part = _FOLDER.fullmatch(folder)
        if part is None:
            continue
        name, value = unquote(part[1]), unquote(part[2])
        if name.casefold() in {key.casefold() for key in keys}:
            raise FolderColumn(source, name, f"is in the path {path} twice. Rename one of the folders")
        keys[name] = None if value == _NULL else value
    return keys
