"""How the documents of a source of files are read, and where their time is."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from penstock.spec.column_types import DeclaredType
from penstock.spec.dialects import Encoding
from penstock.spec.parts import Part, compile_regex

DOCUMENTS = ("text", "blob")
"""Formats in which each file is a row."""


class PathTime(Part):
    """The time in the path of a document."""

    path: str = Field(min_length=1, max_length=500, examples=[r"(\d{8}T\d{4})_"])
    """Regular expression with one group, which has the time. It is searched in the column `path`."""
    format: str = Field(min_length=1, max_length=60, examples=["%Y%m%dT%H%M"])
    """`strptime` format of the time, or `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`."""

    @field_validator("path")
    @classmethod
    def _has_one_group(cls, value: str) -> str:
        groups = compile_regex(value).groups
        if groups != 1:
            raise ValueError(f"the expression needs one group, around the time, and it has {groups}")
        return value

    @model_validator(mode="after")
    def _format_is_a_time(self) -> Self:
        DeclaredType(type="timestamp", format=self.format)
        return self


class DocumentOptions(Part):
    """How documents are read, and where their time is."""

    encoding: Encoding | None = Field(default=None, examples=["cp1252"])
    """Encoding of texts that do not name theirs by a byte order mark, in HTML or in a mail. Without it UTF-8."""
    time: PathTime | None = Field(default=None, examples=[{"path": r"(\d{8}T\d{4})_", "format": "%Y%m%dT%H%M"}])
    """Where the path has the time of the document. Without it the column `time` is the start of the interval that the
    path contains, or else the time of the file."""
