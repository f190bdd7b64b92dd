"""Random tables, written as CSV and JSON in random dialects, come back equal, or the guess says what it cannot know."""

import csv
import io
import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.pool import StaticPool

from penstock.errors import AmbiguousDate, AmbiguousDialect, AmbiguousNumber
from penstock.sources.column_types import NOTHING, declared_types
from penstock.sources.text.guess import guess_dialect
from penstock.sources.text.guess_types import GuessedTypes, guess_types, value_text
from penstock.sources.text.numbers import plain_number
from penstock.sources.text.raw_rows import NUMBER, RawRows, copy_rows
from penstock.sources.text.spec_form import guessed_columns, guessed_dialect
from penstock.sources.text.values import is_number, shape_of
from penstock.spec.sources import FilesSource
from penstock.spec.yaml_edit import add_entries
from penstock.spec.yaml_file import parse_pipeline

AMBIGUOUS = (AmbiguousDate, AmbiguousDialect, AmbiguousNumber)
SPEC = """\
name: p
sources:
  rows:  # of the test
    kind: files
    path: x
    format: {format}
model: m@1
destination: {{table: t}}
"""


# --- tables --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


WORDS = st.text("abcdefghijklmnopqrstuvwxyzäßœ", min_size=1, max_size=8)
MARKED = ["a,b", "a;b", 'say "hi"', "it's", "x|y", "two\nlines"]
TEXTS = st.one_of(
    WORDS,
    st.sampled_from(["k1", "007", "1E5", "0x1F", "yes", "no", "12 Main St", *MARKED]),
    st.builds("{} {}".format, WORDS, WORDS),
    st.builds("{}-{}".format, WORDS, st.integers(0, 99)),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "int": st.integers(-(10**6), 10**6) | st.integers(10**14, 10**18),
    "float": st.floats(-1e6, 1e6).map(lambda x: round(x, 4)),
    "bool": st.booleans(),
    "date": st.dates(date(1980, 1, 1), date(2060, 1, 1)),
    "timestamp": st.integers(0, 2_840_140_800).map(lambda s: datetime.fromtimestamp(s, UTC)),
}
NAME = WORDS | st.sampled_from(["id", "2019", "2020", "Air temperature [K]", "x_1", "amount"])


def make_unique(names: Sequence[str], values: Sequence[Sequence[Any]]) -> tuple[str, ...]:
    """Return names that differ, of which one may be a value of its own column, once.

    A title that is found more often, or that has digits where values of its column have them, looks like data.
    """
    unique: list[str] = []
    found = 0
    for name, column in zip(names, values, strict=True):
        taken = {n.casefold() for n in unique}
        texts = [value for value in column if isinstance(value, str)]
        codes = {shape_of(text) for text in texts if "9" in shape_of(text)}
        fitting = next(
            n
            for n in (name + "q" * i for i in count())
            if n.casefold() not in taken and found + texts.count(n) < 2 and shape_of(n) not in codes
        )
        found += texts.count(fitting)
        unique.append(fitting)
    return tuple(unique)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = tuple(draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=6)))
    values = [st.none() | VALUES[kind] if draw(st.booleans()) else VALUES[kind] for kind in kinds]
    rows = draw(st.lists(st.tuples(*values), min_size=1, max_size=20))
    names = draw(st.lists(NAME, min_size=len(kinds), max_size=len(kinds)))
    return Table(make_unique(names, list(zip(*rows, strict=True))), kinds, tuple(rows))


def columns_of(table: Table, kind: str) -> list[tuple[Any, ...]]:
    columns = zip(*table.rows, strict=True)
    return [column for column, each in zip(columns, table.kinds, strict=True) if each == kind]


def looks_titled(table: Table) -> bool:
    """Whether a word stands above codes of digits. It looks like the title of numbers."""
    codes = [[value for value in column[1:] if value is not None] for column in columns_of(table, "text")]
    return any(column and all(map(is_number, column)) for column in codes)


@dataclass(frozen=True)
class Written:
    delimiter: str
    quote: str
    escape: str
    quote_all: bool
    header: bool
    null: str
    decimal: str
    thousands: str
    date: str
    newline: str
    encoding: str
    preamble: int
    comment: str
    key: bool
    """Whether the spec names a column."""

    def text(self, value: Any, kind: str) -> str:
        if value is None:
            return self.null
        if kind == "bool":
            return "true" if value else "false"
        if kind in ("int", "float"):
            grouped = f"{value:,}" if self.thousands else str(value)
            return grouped.translate(str.maketrans(",.", (self.thousands or ",") + self.decimal))
        if kind == "date":
            return str(value.strftime(self.date))
        if kind == "timestamp":
            return str(value.strftime("%Y-%m-%d %H:%M:%S"))
        return str(value)


@st.composite
def dialects(draw: st.DrawFn) -> Written:
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    decimal = draw(st.sampled_from([".", ","]))
    return Written(
        delimiter,
        draw(st.sampled_from(['"', '"', "'"])),
        draw(st.sampled_from(["", "", "\\"])),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from(["", "", "NA", "?", "\\N"])),
        decimal,
        draw(st.sampled_from(["", "", "." if decimal == "," else ","])),
        draw(st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y"])),
        draw(st.sampled_from(["\n", "\r\n"])),
        draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"])),
        draw(st.sampled_from([0, 0, 0, 2])),
        draw(st.sampled_from(["", "", "# of today"])),
        draw(st.booleans()),
    )


def write_csv(table: Table, how: Written, file: Path) -> None:
    out = io.StringIO()
    if how.comment:
        out.write(how.comment + how.newline)
    for number in range(how.preamble):
        out.write(f"Report {number}{how.newline}")
    options: dict[str, Any] = {"escapechar": how.escape, "doublequote": False} if how.escape else {}
    options["quoting"] = csv.QUOTE_ALL if how.quote_all else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=how.delimiter, quotechar=how.quote, lineterminator=how.newline, **options)
    if how.header:
        writer.writerow(table.names)
    for row in table.rows:
        writer.writerow([how.text(value, kind) for value, kind in zip(row, table.kinds, strict=True)])
    file.write_bytes(out.getvalue().encode(how.encoding))


# --- reading -------------------------------------------------------------------------------------


def source_of(spec: str) -> FilesSource:
    source = parse_pipeline(spec.encode(), "p.yaml").sources["rows"]
    assert isinstance(source, FilesSource)
    return source


def read(source: FilesSource, file: Path) -> tuple[GuessedTypes, RawRows, list[tuple[Any, ...]]]:
    """Read a file by the dialect and the types that are stated and guessed."""
    dialect = guess_dialect("rows", source, [file])
    with tempfile.TemporaryDirectory() as folder, duckdb().connect() as connection:
        connection.exec_driver_sql("SET TimeZone='UTC'")
        raw = copy_rows("rows", [file], dialect, Path(folder))
        found = guess_types(connection, "rows", raw, dialect, declared_types(source.declared_columns))
        values = ", ".join(sql_value(column, found) for column in found.types) or "null"
        rows = connection.exec_driver_sql(f"select {values} from {raw.relation} order by {NUMBER}").all()
        return found, raw, [tuple(row) for row in rows]


@cache
def duckdb() -> sa.Engine:
    return sa.create_engine("duckdb:///:memory:", poolclass=StaticPool)


def sql_value(column: str, found: GuessedTypes) -> str:
    kind, text = found.types[column], value_text(column, found.dialect)
    if kind.kind == "number":
        return f"cast(trim({plain_number(text, found.dialect)}) as DECIMAL(38, 9))"
    return text if kind.kind in ("text", NOTHING) else kind.strict(text)


def write_guess(spec: str, found: GuessedTypes) -> str:
    """Write a guess into a spec, as `check --write` does."""
    source = source_of(spec)
    spec = add_entries(spec, ("sources", "rows", source.format), guessed_dialect(source, found.dialect))
    types = {column: str(kind) for column, kind in found.types.items()}
    return add_entries(spec, ("sources", "rows", "columns"), guessed_columns(source, types))


def is_same(read_: Any, value: Any, kind: str) -> bool:
    if value is None or read_ is None:
        return read_ is value
    if kind in ("int", "float"):
        return math.isclose(float(read_), float(value), rel_tol=1e-12, abs_tol=1e-9)
    if kind == "date" and isinstance(read_, datetime):
        return bool(read_.date() == value)
    return bool(read_ == value)


def assert_same(table: Table, rows: Sequence[tuple[Any, ...]], unclear: Mapping[str, tuple[str, ...]]) -> None:
    assert len(rows) == len(table.rows)
    for read_row, row in zip(rows, table.rows, strict=True):
        for read_value, value, kind in zip(read_row, row, table.kinds, strict=True):
            assert is_same(read_value, value, kind) or (value is None and read_value in unclear)


def looks_split(table: Table, how: Written) -> bool:
    """Whether most values of the only column have another delimiter. They look like several fields."""
    texts = [how.text(value, kind) for row in table.rows for value, kind in zip(row, table.kinds, strict=True)]
    others = {",", ";", "\t", "|"} - {how.delimiter}
    return any(2 * sum(other in text for text in texts) >= len(texts) for other in others)


def shows_decimal_comma(table: Table, how: Written) -> bool:
    """Whether a number of the table cannot be read with a decimal point."""
    values = [value for column in columns_of(table, "float") for value in column if value is not None]
    texts = [how.text(value, "float") for value in values]
    return any("," in text and not re.fullmatch(r"-?[1-9]\d{0,2}(,\d{3})+", text) for text in texts)


def is_utf8_by_chance(content: bytes, how: Written) -> bool:
    """Whether bytes of another encoding are UTF-8 of other characters, as those of `ßœ` in windows-1252 are."""
    if how.encoding != "cp1252":
        return False
    try:
        return content.decode() != content.decode(how.encoding)
    except UnicodeDecodeError:
        return False


def check_csv(table: Table, how: Written) -> None:
    assume(how.header or not looks_titled(table))
    if len(table.names) == 1:  # no width is seen
        how = replace(how, preamble=0)
        assume(not looks_split(table, how))
    elif how.delimiter == "," and how.thousands == "." and not shows_decimal_comma(table, how):
        how = replace(how, thousands="")  # files with commas are read with decimal points
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.csv"
        write_csv(table, how, file)
        assume(not is_utf8_by_chance(file.read_bytes(), how))
        spec = SPEC.format(format="csv")
        if how.key and how.header:
            spec = add_entries(spec, ("sources", "rows"), {"key": [table.names[0]]})
        try:
            found, raw, rows = read(source_of(spec), file)
        except AMBIGUOUS as error:
            event(type(error).__name__)
            return
        event("read")
        assert not raw.refused
        assert tuple(found.types) == (
            table.names if how.header else tuple(f"column{n}" for n in range(len(table.names)))
        )
        assert_same(table, rows, found.unclear)
        again, _, rows_again = read(source_of(write_guess(spec, found)), file)
        assert rows_again == rows
        assert again.types == dict(found.types)


USUAL = Written(",", '"', "", False, False, "", ".", "", "%Y-%m-%d", "\n", "utf-8", 0, "", False)


def text_table(*rows: str) -> Table:
    """Return a table of texts, given as rows with a slash between two of them. Empty texts are none."""
    values = tuple(tuple(text or None for text in row.split("/")) for row in rows)
    width = len(values[0])
    return Table(tuple(f"t{'q' * n}" for n in range(width)), ("text",) * width, values)


MENDED = (
    (Table(("x", "t"), ("float", "text"), ((1000.0, None),) * 2), replace(USUAL, delimiter=";", thousands=",")),
    (Table(("x", "t"), ("float", "text"), ((-0.25, None),) * 2), replace(USUAL, delimiter="\t", decimal=",")),
    (text_table("a,b/", "a,b/", "a,b/"), replace(USUAL, delimiter="|")),
    (text_table("false/a;b", "/a;b", "/a;b"), replace(USUAL, delimiter="\t")),
    (text_table("a;b/a;b", "a;b/a;b"), USUAL),
    (text_table("/"), replace(USUAL, preamble=2)),
    (text_table("z/x y", "a,b/1,5"), replace(USUAL, delimiter="\t", quote_all=True, header=True, preamble=2)),
    (text_table('say "hi"/zy', 'say "hi"/zb-77', 'say "hi"/'), replace(USUAL, delimiter="|", comment="# of today")),
    (text_table("k1/1E5/x", "k1/yes/x|y"), replace(USUAL, delimiter="\t", quote="'", quote_all=True, comment="# of")),
    (text_table('k1/say "hi"', "k2/it's"), replace(USUAL, delimiter=";", quote="'", header=True)),
    (text_table(*["zä"] * 19, "it's"), replace(USUAL, quote="'", escape="\\", quote_all=True, header=True)),
    (text_table("id", "two\nlines", "a,b", "k1", "it's", *["yes"] * 9), replace(USUAL, quote="'")),
    (Table(("a", "b"), ("text", "text"), (("x", "y"), ("a", "z"))), replace(USUAL, header=True)),
    (Table(("a", "b"), ("text", "text"), (("1", "y"), ("a", "b"), ("2", "z"))), replace(USUAL, header=True)),
)
"""Tables that were read wrongly once."""


def with_mended(test: Callable[..., None]) -> Callable[..., None]:
    for table, how in MENDED:
        test = example(table, how)(test)
    return test


@with_mended
@settings(max_examples=60)
@given(tables(), dialects())
def test_a_table_comes_back_from_csv_or_the_guess_says_what_it_cannot_know(table: Table, how: Written) -> None:
    check_csv(table, how)


@pytest.mark.soak
@with_mended
@settings(max_examples=2_000)
@given(tables(), dialects())
def test_two_thousand_tables_come_back_from_csv(table: Table, how: Written) -> None:
    check_csv(table, how)


# --- JSON ----------------------------------------------------------------------------------------


def write_json(table: Table, way: str, file: Path) -> None:
    records = [
        {name: str(value) if kind in ("date", "timestamp") and value is not None else value
         for name, value, kind in zip(table.names, row, table.kinds, strict=True)}
        for row in table.rows
    ]  # fmt: skip
    if way == "lines":
        file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    else:
        file.write_text(
            json.dumps(records if way == "array" else {"meta": {"n": 1}, "data": {"rows": records}}, indent=1)
        )


def check_json(table: Table, way: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.json"
        write_json(table, way, file)
        spec = SPEC.format(format="json")
        found, raw, rows = read(source_of(spec), file)
        assert not raw.refused
        assert_same(table, rows, {})
        again, _, rows_again = read(source_of(write_guess(spec, found)), file)
        assert (again.types, rows_again) == (found.types, rows)


WAYS = st.sampled_from(["lines", "array", "path"])


@settings(max_examples=60)
@given(tables(), WAYS)
def test_a_table_comes_back_from_json(table: Table, way: str) -> None:
    check_json(table, way)


@pytest.mark.soak
@settings(max_examples=2_000)
@given(tables(), WAYS)
def test_two_thousand_tables_come_back_from_json(table: Table, way: str) -> None:
    check_json(table, way)
