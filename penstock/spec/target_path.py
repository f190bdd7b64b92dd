"""The `path` of a target of files: `s3://lake/scores/{interval_start:%Y-%m-%d}/{run_id}`."""

import os
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import ClassVar
from zoneinfo import ZoneInfo

from penstock.interval import DataInterval
from penstock.object_urls import is_remote, parse_url

_FIELD = re.compile(r"\{(?P<name>[^{}:]*)(?::(?P<format>[^{}]*))?\}")
_TIME = re.compile(r"(%[YmdHMSj]|[A-Za-z0-9=_./-])+")
"""Formats of a time that give the same text everywhere."""


@dataclass(frozen=True)
class TargetPath:
    """A path of folders with the interval and the run in braces."""

    FIELDS: ClassVar[tuple[str, ...]] = ("interval_start", "interval_end", "run_id")

    text: str

    @cached_property
    def root(self) -> str:
        """The folder before the first field, without a slash at its end."""
        return self.text.partition("{")[0].rpartition("/")[0]

    @property
    def names_interval(self) -> bool:
        """Whether the path has a time of the interval."""
        return any(field["name"] != "run_id" for field in _FIELD.finditer(self.text))

    def folder(self, interval: DataInterval | None, run_id: str) -> str:
        """Return the folder of a run below the root. Times are in the zone of the interval."""
        below = self._below

        def write(field: re.Match[str]) -> str:
            if field["name"] == "run_id":
                return run_id
            assert interval is not None  # a spec without intervals cannot name them
            moment: datetime = interval.start if field["name"] == "interval_start" else interval.end
            return moment.astimezone(ZoneInfo(interval.zone)).strftime(field["format"])

        return _FIELD.sub(write, below)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the folder of a run looks like, below the root."""
        parts, end = [], 0
        for field in _FIELD.finditer(self._below):
            parts.append(re.escape(self._below[end : field.start()]))
            parts.append("[0-9a-f]{32}" if field["name"] == "run_id" else ".+")
            end = field.end()
        return re.compile("".join([*parts, re.escape(self._below[end:])]))

    @property
    def _below(self) -> str:
        return self.text[len(self.root) + 1 :].strip("/")

    def check(self) -> None:
        """Refuse a path that is not one.

        Raises:
            ValueError: a field is not known, or the path leaves its folder or names no bucket.
        """
        check_place(_FIELD.sub(lambda field: re.sub("%.", "1", field["format"] or "1"), self.text))
        if re.search(r"[{}]", _FIELD.sub("", self.text)):
            raise ValueError("a brace in the path has no other one; write fields as in `{run_id}`")
        for field in _FIELD.finditer(self.text):
            self._check_field(field["name"], field["format"])
        if not any(field["name"] == "run_id" for field in _FIELD.finditer(self.text)):
            raise ValueError("the path needs `{run_id}`, because files of one run never replace those of another")
        if is_remote(self.text):
            parse_url(self.text.partition("{")[0])
        if not self.root:
            raise ValueError("the path needs a folder before its first field, as in `scores/{run_id}`")

    def _check_field(self, name: str, form: str | None) -> None:
        if name not in self.FIELDS:
            known = ", ".join(f"`{{{each}}}`" for each in self.FIELDS)
            raise ValueError(f"the path has the field `{{{name}}}`, and it may have {known}")
        if name == "run_id" and form is not None:
            raise ValueError("`{run_id}` takes no format")
        if name != "run_id" and (form is None or _TIME.fullmatch(form) is None or "%" not in form):
            raise ValueError(
                f"`{{{name}}}` needs a format of %Y, %m, %d, %H, %M, %S or %j, as in `{{{name}:%Y-%m-%d}}`"
            )


def check_place(path: str) -> None:
    """Refuse a folder that is outside of what it says, or a URL that nothing can be written to.

    Raises:
        ValueError: it is.
    """
    if is_remote(path) and parse_url(path).is_web:
        raise ValueError("a web server takes no files; write a folder, or `s3://`, `gs://` or `az://`")
    below = path.split("://", 1)[-1].split("/")
    if any(part in (".", "..") for part in below[1:]) or below[0] == "..":
        raise ValueError("the path has a part `.` or `..`; write it without")
    if "" in below[1:-1]:
        raise ValueError("the path has an empty part; write one `/` between two parts")
    if re.search(r"[*?\[\]\x00-\x1f\\]", path):
        raise ValueError("the path has a wildcard, a backslash or a control character; write the folder's name")


def find_shared(one: str, other: str) -> str | None:
    """Return the folder that has the other one in it, or is the same. None: they are apart."""
    for outer, inner in ((one, other), (other, one)):
        if f"{normalize_place(inner)}/".startswith(f"{normalize_place(outer)}/"):
            return outer
    return None


def normalize_place(path: str) -> str:
    """Return the one text of a folder: absolute if it is local, else with its scheme in lower case."""
    return lower_scheme(path).rstrip("/") if is_remote(path) else os.path.abspath(path).rstrip("/")


def lower_scheme(path: str) -> str:
    """Return a path with the scheme of its URL in lower case, if it is one."""
    scheme, mark, rest = path.partition("://")
    return scheme.lower() + mark + rest if mark else path
