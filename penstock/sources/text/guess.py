"""Decide how the text files of a source are written: what is stated, else what the contract has, else a guess."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from penstock.errors import AmbiguousDialect, DialectChanged, Reading
from penstock.sources.text.decoding import ReadableFile, has_stray_bytes
from penstock.sources.text.delimiters import guess_delimiter
from penstock.sources.text.dialect import ARRAY, LINES, SHOWN_BY_ALL_ROWS, Dialect
from penstock.sources.text.headers import decide_header, judge_first_row
from penstock.sources.text.heads import Head, read_heads
from penstock.sources.text.parsed import Parsed, parse_head
from penstock.sources.text.readings import show, show_fields
from penstock.spec.sources import ROW_ID, FilesSource


def guess_dialect(
    name: str,
    source: FilesSource,
    files: Sequence[ReadableFile],
    contract: Mapping[str, str] | None = None,
    expected: Collection[str] = (),
) -> Dialect:
    """Decide how the files of a source are written.

    Args:
        contract: the facts of an earlier guess, by which later files are read.
        expected: names of columns that the pipeline uses or that earlier files had.

    Raises:
        AmbiguousDialect: the files can be read in several ways, and neither spec nor contract says which one is right.
        BrokenFile: a file cannot be read.
        DialectChanged: a file does not fit the contract.
    """
    base = state_dialect(source)
    stated = source.csv if source.format == "csv" else source.json_
    known = Dialect.from_facts(contract, base) if contract else base
    encoding, heads = read_heads(name, files, stated.encoding or (known.encoding if contract else None))
    if contract:
        kept = _override(replace(known, encoding=encoding), source)
        kept = replace(kept, undecided=tuple(name for name in kept.undecided if name not in contract))
        kept = _keep_old_names(kept, expected)
        _check_fit(name, kept, heads, frozenset({*expected, *source.declared_columns} - {ROW_ID}))
        return kept
    base = replace(base, encoding=encoding)
    if not heads:
        return base
    if source.format == "json":
        return replace(base, records=source.json_.records or _guess_records(name, heads))
    named = {*expected, *source.key, *source.declared_columns, *source.private}
    return _keep_old_names(_guess_csv(name, source, base, heads, named), expected)


def state_dialect(source: FilesSource) -> Dialect:
    """Return the dialect that a source states, with defaults where it is silent."""
    return _override(Dialect(source.format), source)


def _override(dialect: Dialect, source: FilesSource) -> Dialect:
    stated = source.csv if source.format == "csv" else source.json_
    values = {k: v for k, v in dict(stated).items() if v is not None and (k != "names" or v)}
    undecided = tuple(name for name in SHOWN_BY_ALL_ROWS if source.format == "csv" and name not in values)
    return replace(dialect, **values, timezone=source.timezone, undecided=undecided)


def _keep_old_names(dialect: Dialect, columns: Collection[str]) -> Dialect:
    """Keep the names that contracts of 0.1 have in files without a header of ten columns or more: `column00`."""
    old = tuple(sorted({c for c in columns if re.fullmatch(r"column\d+", c)}))
    digits = len(str(len(old) - 1))
    is_old = len(old) > 10 and old == tuple(f"column{n:0{digits}}" for n in range(len(old)))
    return replace(dialect, names=old) if is_old and not dialect.header and not dialect.names else dialect


def _guess_csv(
    name: str, source: FilesSource, base: Dialect, heads: Sequence[Head], expected: Collection[str]
) -> Dialect:
    dialect = guess_delimiter(name, source.csv, base, heads)
    if source.csv.header is not None:
        return dialect
    parsed = [p for p in (parse_head(head, dialect) for head in heads) if p.rows]
    if not parsed:
        return dialect
    if source.csv.comment is None and not dialect.comment:
        _refuse_unclear_comment(name, parsed)
    if dialect.skip and source.csv.skip is None and not any(judge_first_row(p.rows) for p in parsed):
        raise _unclear_preamble(name, dialect, parsed[0])
    return replace(dialect, header=decide_header(name, parsed, expected))


def _refuse_unclear_comment(name: str, parsed: Sequence[Parsed]) -> None:
    """Refuse a first row that begins like a comment and is followed by what may be a header."""
    for each in parsed:
        rows = each.rows
        is_title = len(rows[0]) > 1 and not (len(rows) > 2 and judge_first_row(rows[1:]) is True)
        if rows[0][0].startswith("#") and len(rows) > 1 and not rows[1][0].startswith("#") and not is_title:
            readings = (
                Reading('csv: {comment: ""}', f"columns {show_fields(rows[0])}"),
                Reading('csv: {comment: "#"}', f"columns {show_fields(rows[1])}"),
            )
            line = each.records[each.first].line
            raise AmbiguousDialect(name, str(each.head.file), line, "a comment or a header", readings)


def _unclear_preamble(name: str, dialect: Dialect, parsed: Parsed) -> AmbiguousDialect:
    first = show_fields(parsed.rows[0])
    lines = "".join(parsed.head.lines[: dialect.skip]).strip()[:60]
    readings = (
        Reading(f"csv: {{skip: {dialect.skip}, header: false}}", f"{first} as the first row, and leaves `{lines}` out"),
        Reading(f"csv: {{skip: {dialect.skip}, header: true}}", f"columns {first}, and leaves `{lines}` out"),
        Reading("csv: {skip: 0, header: false}", f"`{lines}` as rows of another width, which are refused"),
    )
    return AmbiguousDialect(name, str(parsed.head.file), 1, "not like the rows after it", readings)


def _check_fit(name: str, dialect: Dialect, heads: Sequence[Head], columns: frozenset[str]) -> None:
    """Refuse a file that the contract's dialect does not read.

    Raises:
        DialectChanged: with the first file and line.
    """
    for head in heads:
        _check_encoding(name, dialect, head)
        if dialect.format == "json":
            _check_records(name, dialect, head)
            continue
        parsed = parse_head(head, dialect)
        if not parsed.rows:
            continue
        first, line = parsed.rows[0], parsed.records[parsed.first].line
        if parsed.width == 1 and len(columns) > 1:
            expected = f"fields with {_delimiter(dialect)} between them"
            raise DialectChanged(name, str(head.file), line, expected, f"one field, {show_fields(first)}")
        if dialect.header and not dialect.names and columns and not columns & {*first}:
            expected = f"a header with {show_fields(sorted(columns))}"
            raise DialectChanged(name, str(head.file), line, expected, show_fields(first))
        if not dialect.header and judge_first_row(parsed.rows):
            raise DialectChanged(name, str(head.file), line, "a row, as files have no header", show_fields(first))


def _delimiter(dialect: Dialect) -> str:
    return "blanks" if len(dialect.delimiter) > 1 else show(dialect.delimiter)


def _check_encoding(name: str, dialect: Dialect, head: Head) -> None:
    special = [n for n, line in enumerate(head.lines, start=1) if not line.isascii()]
    strange = [n for n in special if has_stray_bytes(head.lines[n - 1])]
    if len(strange) > len(special) / 10:
        found = "bytes that are not of it"
        raise DialectChanged(name, str(head.file), strange[0], f"text in {dialect.encoding}", found)


def _check_records(name: str, dialect: Dialect, head: Head) -> None:
    begin = next((line.lstrip() for line in head.lines if line.strip()), "")
    if dialect.records == LINES and begin.startswith("["):
        raise DialectChanged(name, str(head.file), 1, "one JSON object a line", "an array")
    if dialect.records == ARRAY and begin.startswith("{"):
        raise DialectChanged(name, str(head.file), 1, "an array of JSON objects", "an object")


def _guess_records(name: str, heads: Sequence[Head]) -> str:
    found = [(head, tuple(_records_of(head))) for head in heads]
    ways = {way for _, each in found for way in each}
    if len(ways) == 1:
        return ways.pop()
    head = next((head for head, each in found if len(each) != 1), found[0][0])
    readings = tuple(
        Reading(f"json: {{records: {show(way)}}}", _READS.get(way, f"the array at `{way}`")) for way in ways
    )
    raise AmbiguousDialect(name, str(head.file), 1, "not clear in where its records are", readings)


_READS = {LINES: "one record a line", ARRAY: "the whole file as one array"}


def _records_of(head: Head) -> Iterator[str]:
    """Yield where the records of a file may be."""
    filled = [line for line in head.lines if line.strip()]
    if not filled:
        return
    if filled[0].lstrip().startswith("["):
        yield ARRAY
        return
    is_line = isinstance(_load(filled[0]), dict)
    if is_line:
        yield LINES
    if head.is_whole and (len(filled) == 1 or not is_line):
        paths = list(_arrays(_load("".join(filled)), ()))
        yield from paths
        if not is_line and not paths:
            yield LINES
    elif not is_line:
        yield LINES


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _arrays(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the keys that lead to arrays of objects."""
    if isinstance(value, dict) and len(path) < 5:
        for key, inner in value.items():
            yield from _arrays(inner, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        yield ".".join(path)


def describe_changes(was: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return the facts of a dialect that differ, each with both values."""
    return [(name, was[name], now[name]) for name in was if name in now and was[name] != now[name]]
