"""How CSV and JSON files are written, as a source of files states it. What is left out is guessed."""

import codecs
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from penstock.spec.column_types import DeclaredType
from penstock.spec.parts import Column, Part, twin_names

BLANKS = "blanks"
"""The delimiter of files whose fields are separated by one or more blanks or tabs."""


def _check_character(value: str) -> str:
    if len(value) != 1 or value in "\r\n":
        raise ValueError('one character is needed, in double quotes; a tab is written `"\\t"`')
    return value


def _check_delimiter(value: str) -> str:
    return value if value == BLANKS else _check_character(value)


def _check_optional_character(value: str) -> str:
    return _check_character(value) if value else value


def _check_encoding(value: str) -> str:
    try:
        return codecs.lookup(value).name
    except LookupError:
        raise ValueError(f"Python knows no encoding `{value}`; common ones are `utf-8` and `cp1252`") from None


Encoding = Annotated[str, AfterValidator(_check_encoding)]
_Character = Annotated[str, AfterValidator(_check_character)]
_Delimiter = Annotated[str, AfterValidator(_check_delimiter)]
_OptionalCharacter = Annotated[str, AfterValidator(_check_optional_character)]


class CsvDialect(Part):
    """How CSV files are written. Keys that are left out are guessed and become part of the contract."""

    delimiter: _Delimiter | None = Field(default=None, examples=[";"])
    """Character between two fields. `blanks` means one or more blanks or tabs, and also ignores those at the ends."""
    quote: _OptionalCharacter | None = Field(default=None, examples=['"'])
    """Character around fields that contain the delimiter or a line end. Empty: no field is quoted."""
    escape: _OptionalCharacter | None = Field(default=None, examples=["\\"])
    """Character before a quote inside a quoted field. Empty: such a quote is doubled."""
    header: bool | None = Field(default=None, examples=[True])
    """Whether the first row has the names of the columns."""
    names: tuple[Column, ...] = Field(default=(), max_length=10_000, examples=[["unit", "cycle", "setting"]])
    """Names of the columns in their order. With a header they replace its names. Without a header and without this,
    the columns are named `column0`, `column1` and so on."""
    skip: int | None = Field(default=None, ge=0, le=100_000, examples=[2])
    """Lines before the header, or before the first row, that are not read."""
    comment: _OptionalCharacter | None = Field(default=None, examples=["#"])
    """Lines that begin with this character are not read. Empty: all lines are read."""
    null: tuple[str, ...] | None = Field(default=None, max_length=100, examples=[["", "NA", "?", "\\N"]])
    """Texts that mean NULL, without quotes and blanks around them."""
    encoding: Encoding | None = Field(default=None, examples=["cp1252"])
    """Encoding of the text, by its name in Python. A byte order mark wins over it."""
    decimal: Literal[".", ","] | None = Field(default=None, examples=[","])
    """Decimal mark of numbers."""
    thousands: Literal["", ".", ",", "'", " ", "_"] | None = Field(default=None, examples=["."])
    """Mark between groups of three digits. Empty: numbers have none."""
    date_format: str | None = Field(default=None, min_length=1, max_length=60, examples=["%d.%m.%Y"])
    """Format of dates in all columns that have no `format` of their own."""
    timestamp_format: str | None = Field(default=None, min_length=1, max_length=60, examples=["%d.%m.%Y %H:%M"])
    """Format of timestamps in all columns that have no `format` of their own."""

    @field_validator("date_format", "timestamp_format")
    @classmethod
    def _is_a_format(cls, value: str | None) -> str | None:
        return None if value is None else DeclaredType(type="timestamp", format=value).format

    @field_validator("names")
    @classmethod
    def _names_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twins := twin_names(value):
            raise ValueError(f"two columns are named `{twins[0]}`")
        return value

    @model_validator(mode="after")
    def _characters_differ(self) -> Self:
        given = [c for c in (self.delimiter, self.quote, self.comment) if c]
        if len(set(given)) < len(given):
            raise ValueError("`delimiter`, `quote` and `comment` must be different characters")
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError("`decimal` and `thousands` must be different characters")
        return self


class JsonDialect(Part):
    """How JSON files are written."""

    records: str | None = Field(default=None, max_length=200, examples=["data.items"])
    """Where the records are: `lines` for one JSON object a line, `array` for a file that is one array, or the keys that
    lead to the array, with dots between them. It is guessed whether a file has lines or is an array."""
    encoding: Encoding | None = Field(default=None, examples=["utf-16"])
    """Encoding of the text, by its name in Python. A byte order mark wins over it."""
