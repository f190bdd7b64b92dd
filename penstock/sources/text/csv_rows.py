"""Read the rows of a CSV file as raw text, with their line numbers. A record that is broken is refused alone.

Python's `csv` module reads 1,000,000 rows of 10 columns in about 2 s of processor time, `pyarrow.csv` in 0.3 s. But
pyarrow does not know the line of a row once a value has a line end, and takes a stray quote for the begin of a value
that ends with the file. A file is read once a run, so exact line numbers are worth the time.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any

from penstock.sources.text.decoding import has_stray_bytes
from penstock.sources.text.dialect import Dialect, untitled_name
from penstock.sources.text.records import UNDECODED, Record, RefusedRecord, refused
from penstock.spec.dialects import BLANKS
from penstock.wording import plural

_LONGEST_VALUE = 1 << 20
"""Characters of a value. A quote that is not closed is found after so many."""
_BLANKS = re.compile(r"[ \t]+")
_MARK = "\ufeff"
"""A byte order mark. It is the first character of each of the files that were put into one."""


class CsvRows:
    """The records of one CSV file, read once and in their order."""

    def __init__(self, lines: Iterable[str], dialect: Dialect) -> None:
        self._lines, self._dialect = iter(lines), dialect
        self._line, self._begin, self._number = 0, 0, 0
        self._pending: list[str] = []
        """The lines of the present record."""
        self._again: list[str] = []
        """Lines of a broken record that are read again, the next one last."""
        csv.field_size_limit(max(_LONGEST_VALUE, csv.field_size_limit()))
        for _ in range(dialect.skip):
            self._line += next(self._lines, None) is not None
        self._reader = self._new_reader()
        self._first: Record | RefusedRecord | None = None
        """The first record, if it had to be read for the number of columns."""
        self._titles: list[str] = []
        """The fields of the header, at least two. Files that were put into one have them again."""
        self.columns = self._read_columns()
        """The names of the columns, as the file's header or the dialect has them."""

    def __iter__(self) -> Iterator[Record | RefusedRecord]:
        """Yield each record with one value a column, or its refusal."""
        width = len(self.columns)
        titles = self._titles
        begins = {mark + title for title in titles[:1] for mark in ("", _MARK)}
        if self._first is not None:
            yield self._first
        while (found := self._next_record()) is not None:
            if not isinstance(found, Record):
                yield found
            elif begins and found.values[0] in begins and found.values[1 : len(titles)] == titles[1:]:
                yield refused(found.number, found.line, found.text, "repeats the header")
            else:
                yield found if len(found.values) == width else self._fit(found, width)

    def read_raw(self) -> Iterator[Record | RefusedRecord]:
        """Yield each record with the values that it has, or its refusal."""
        if self._first is not None:
            yield self._first
        while (found := self._next_record()) is not None:
            yield found

    def _read_columns(self) -> tuple[str, ...]:
        dialect = self._dialect
        if dialect.header:
            header = self._next_record()
            self._number = 0
            written = [value or "" for value in header.values] if isinstance(header, Record) else []
            while written and not written[-1].strip():
                written.pop()
            self._titles = written if len(written) > 1 else []
            titles = [title.strip() for title in written]
            return dialect.names or tuple(title or untitled_name(n) for n, title in enumerate(titles))
        if dialect.names:
            return dialect.names
        self._first = self._next_record()
        width = len(self._first.values) if isinstance(self._first, Record) else 0
        return tuple(map(untitled_name, range(width)))

    def _fit(self, record: Record, width: int) -> Record | RefusedRecord:
        """Leave out empty values beyond the last column, or refuse the record."""
        values = record.values
        if len(values) > width and not any(value and value.strip() for value in values[width:]):
            return Record(record.number, record.line, record.last_line, values[:width], record.text)
        reason = f"{plural(len(values), 'field')} instead of {width}"
        return refused(record.number, record.line, record.text, reason)

    def _next_record(self) -> Record | RefusedRecord | None:
        """Return the next record with the values that it has. None at the end of the file."""
        self._pending.clear()
        try:
            values = next(self._reader, None)
        except csv.Error as error:
            return self._refuse_line(_reason(str(error), self._pending))
        if values is None:
            return None
        text = self._pending[0] if len(self._pending) == 1 else "".join(self._pending)
        number, self._number = self._number, self._number + 1
        if has_stray_bytes(text):
            return refused(number, self._begin, text, UNDECODED)
        return Record(number, self._begin, self._line, values, text)

    def _refuse_line(self, reason: str) -> RefusedRecord:
        """Refuse the first line of a broken record. The lines after it may be good rows, and are read again."""
        line, *others = self._pending
        self._line -= len(others)
        self._again.extend(reversed(others))
        self._reader = self._new_reader()
        number, self._number = self._number, self._number + 1
        return refused(number, self._begin, line, reason)

    def _new_reader(self) -> Iterator[list[str]]:
        dialect = self._dialect
        options: dict[str, Any] = {"delimiter": dialect.delimiter}
        if dialect.delimiter == BLANKS:
            options = {"delimiter": " ", "skipinitialspace": True}
        if dialect.quote:
            options |= {"quotechar": dialect.quote, "doublequote": not dialect.escape}
        else:
            options |= {"quoting": csv.QUOTE_NONE}
        return csv.reader(self._feed(), **options, escapechar=dialect.escape or None, strict=True)

    def _feed(self) -> Iterator[str]:
        """Yield the lines that belong to records: no blank ones and no comments between two records."""
        delimiter, comment, pending = self._dialect.delimiter, self._dialect.comment, self._pending
        by_blanks = delimiter == BLANKS
        null_field = _null_field(self._dialect)
        while (line := self._again.pop() if self._again else next(self._lines, None)) is not None:
            self._line += 1
            if not pending:
                if line.isspace() and delimiter not in line:
                    continue
                if comment and line.startswith(comment):
                    continue
                self._begin = self._line
            pending.append(line)
            if null_field and "\\N" in line:
                line = null_field.sub(r"\\\\N", line)
            yield _BLANKS.sub(" ", line.strip()) + "\n" if by_blanks else line


def _null_field(dialect: Dialect) -> re.Pattern[str] | None:
    r"""Return the pattern of a field `\N`, which databases write for NULL. Its backslash is no escape."""
    if dialect.escape != "\\":
        return None
    delimiter = r"[ \t]" if dialect.delimiter == BLANKS else re.escape(dialect.delimiter)
    return re.compile(rf"(?:^|(?<={delimiter}))\\N(?={delimiter}|\s*$)")


def _reason(error: str, lines: list[str]) -> str:
    """Say in plain words why a record cannot be read."""
    if len(lines) > 1 or "end of data" in error:
        return "a quote that is not closed"
    if "field limit" in error:
        return f"a value of more than {_LONGEST_VALUE:,} characters"
    return "text after a closing quote" if "expected after" in error else error
