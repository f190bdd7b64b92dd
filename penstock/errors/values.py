"""Values of sources that cannot be read without a guess."""

from dataclasses import dataclass

from penstock.errors.sources import SourceError
from penstock.wording import plural


@dataclass(eq=False)
class MixedTypes(SourceError):
    """The column of `partition_by` has values of several types.

    Cause: a SQLite column with numbers and texts, or with bytes. `1` and `'1'` are two values in the database and one
        in the features query, so their rows could be in two partitions.
    Remedy: convert the column to one type in a `query:`.
    """

    source: str
    column: str
    kinds: tuple[str, ...]

    def message(self) -> str:
        return (
            f"source `{self.source}`: `{self.column}`, the column of `partition_by`, has values of the types "
            f"{', '.join(self.kinds)}, so rows that belong together could be in two partitions. Convert it to one type "
            "in a `query:`, as in `cast(… as text)`."
        )


@dataclass(eq=False)
class ImplausibleTimes(SourceError):
    """The times of a log file cannot be right.

    Cause: the lines lie in 1900, 1970 or 2262, as numbers read in the wrong unit do. Or they have no year, and the time
        of their file does not tell it.
    Remedy: correct `time_format`, or set `year` to the year of the file's first line. No line after it was landed.
    """

    source: str
    file: str
    offset: int
    time: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.file}, line at byte {self.offset}: the time {self.time} {self.reason}. "
            "No line from there on was landed. Correct the time format, or set `year` for times without one."
        )


@dataclass(eq=False)
class InexactColumn(SourceError):
    """A key or a column to keep has values that would lose digits.

    Cause: times with nanoseconds, or numbers that the file's reader would round.
    Remedy: write the values as text at the source, or cast them there to a type that the message names.
    """

    column: str
    reason: str
    remedy: str = "Cast it to text or to a coarser type at the source, or take it out of `keep`"
    source: str = ""
    """Empty where the name is not known yet."""

    def message(self) -> str:
        where = f"source `{self.source}`: " if self.source else ""
        return f"{where}column `{self.column}`, a key or in `keep`, {self.reason}. {self.remedy}."


@dataclass(eq=False)
class UnreadableTime(SourceError):
    """The event time of a source cannot be read as a time.

    Cause: the column has another type, or a value is in no format that Penstock reads.
    Remedy: store the event time in ISO 8601 or as epoch numbers, convert it in a `query:`, or declare its format in
        `columns:`. The message has a value and the way to write it.
    """

    source: str
    column: str
    reason: str
    value: str = ""
    remedy: str = "Store it in one format, in ISO 8601 or as epoch numbers, or convert it in a `query:`."

    def message(self) -> str:
        shown = f", as `{self.value}`" if self.value else ""
        return (
            f"source `{self.source}`: the event time `{self.column}` {self.reason}{shown}, so rows could fall into the "
            f"wrong interval. {self.remedy}"
        )


@dataclass(eq=False)
class UnfitValue(SourceError):
    """A value in a file does not fit the type of its column.

    Cause: the file has changed, or the declared type is wrong. The type comes from `columns:` or, once an interval is
        published, from the contract.
    Remedy: correct the file, declare another type in `columns:`, or accept the files as they are now with
        `penstock check PIPELINE --accept`.
    """

    source: str
    file: str
    row: int
    column: str
    value: str
    kind: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: `{self.column}` is {self.kind}, and row {self.row:,} of {self.file} has "
            f"`{self.value}`. Correct the file, or declare the type of the column under `columns:` of the source, as "
            f"in `{self.column}: string`."
        )


@dataclass(eq=False)
class MalformedRows(SourceError):
    """Too many rows of a source's CSV or JSON files, or too many of its documents, cannot be read.

    Cause: lines are broken, documents are of another kind or encoding, or values do not fit the type of their column,
        which comes from `columns:` or, once an interval is published, from the contract.
    Remedy: correct the files, declare another type in `columns:`, raise `max_malformed`, or accept the files as they
        are now with `penstock check PIPELINE --accept`.
    """

    source: str
    refused: int
    rows: int
    """All rows of the files, refused ones included."""
    limit: float
    file: str
    """That of the first refused row, as are its line and what is wrong with it."""
    line: int
    """0: the row is the file, which is a document."""
    reason: str
    """Empty if a value does not fit."""
    column: str = ""
    value: str = ""
    kind: str = ""

    def message(self) -> str:
        what = plural(self.rows, "row" if self.line else "document")
        share = f"{self.refused:,} of {what} cannot be read, and `max_malformed` is {self.limit:.2%}"
        if not self.line:
            return (
                f"source `{self.source}`: {share}. The first is {self.file}, which {self.reason}. "
                "Correct or move the document, or raise `max_malformed` of the source."
            )
        why = f"`{self.column}` is {self.kind}, and the file has `{self.value}`" if self.column else self.reason
        declare = f", or declare the column under `columns:` of the source, as in `{self.column}: string`"
        return (
            f"source `{self.source}`: {share}. The first is line {self.line:,} of {self.file}: {why}. "
            f"Correct the file{declare if self.column else ', or raise `max_malformed` of the source'}."
        )


@dataclass(eq=False)
class AmbiguousDate(SourceError):
    """The dates of a column can be read in several ways.

    Cause: all values fit several formats, such as day first and month first.
    Remedy: declare the format in `columns:` of the source.
    """

    source: str
    column: str
    value: str
    kind: str
    formats: tuple[str, ...]

    def message(self) -> str:
        ways = " or ".join(f"`{each}`" for each in self.formats)
        return (
            f"source `{self.source}`: `{self.column}` has dates like `{self.value}`, and all of them can be read as "
            f"{ways}. Declare the column under `columns:` of the source, with `type: {self.kind}` and "
            f'`format: "{self.formats[0]}"` or another of them.'
        )


@dataclass(frozen=True)
class Reading:
    """One way to read a file."""

    spec: str
    """What decides for it, as the spec takes it."""
    shown: str
    """What is read so."""


def _describe_readings(readings: tuple[Reading, ...]) -> str:
    return "; or ".join(f"`{each.spec}` reads {each.shown}" for each in readings)


@dataclass(eq=False)
class AmbiguousDialect(SourceError):
    """A text file can be read in several ways, and the result would differ.

    Cause: the file does not show which way is right, as with a first row that may be a header or data.
    Remedy: write one of the lines of the message into the source, and check it with `penstock check PIPELINE`.
    """

    source: str
    file: str
    line: int
    what: str
    readings: tuple[Reading, ...]

    def message(self) -> str:
        ways = _describe_readings(self.readings)
        return (
            f"source `{self.source}`: {self.file} line {self.line:,} is {self.what}. It can be read in several ways: "
            f"{ways}. Write the right one under the source."
        )


@dataclass(eq=False)
class AmbiguousNumber(SourceError):
    """The numbers of a column can be read in two ways.

    Cause: all values have one mark with three digits after it, as in `1.250`. The mark may be the decimal mark, or be
        between groups of digits.
    Remedy: write one of the lines of the message into the source.
    """

    source: str
    column: str
    value: str
    readings: tuple[Reading, ...]

    def message(self) -> str:
        ways = _describe_readings(self.readings)
        return (
            f"source `{self.source}`: `{self.column}` has numbers like `{self.value}`, and all of them can be read in "
            f"two ways: {ways}. Write the right one under the source."
        )


@dataclass(eq=False)
class DialectChanged(SourceError):
    """A file is not written as the files of the published intervals were.

    Cause: the delimiter, the header or the encoding changed. The first published interval made them the contract.
    Remedy: correct the file. If later files are written so too, accept it with `penstock check PIPELINE --accept`.
    """

    source: str
    file: str
    line: int
    expected: str
    found: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.file} line {self.line:,} does not fit the contract: expected "
            f"{self.expected}, found {self.found}. Correct the file. If later files are written so too, accept it with "
            "`penstock check PIPELINE --accept`."
        )


@dataclass(eq=False)
class HorizonHidden(SourceError):
    """The database does not show which transactions are open.

    Cause: `settle: horizon` with a standby, with a user without the grant, or with another database than Postgres.
    Remedy: give the user the grant, connect to the primary server, or use `lookback:` instead.
    """

    connection: str
    reason: str

    def message(self) -> str:
        return (
            f"connection `{self.connection}` does not show which transactions are open: {self.reason}. "
            "Correct that, or remove `settle: horizon` and find late rows with `lookback:`."
        )
