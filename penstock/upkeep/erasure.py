"""Erase the rows of one key from the warehouse, in all runs, and record it.

Running and later runs read the source, so the rows must be deleted at the source first.
"""

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import repeat
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.types import TIMESTAMP
from penstock.errors import SettingsError
from penstock.labels.key_text import possible_keys
from penstock.labels.stored import chunks
from penstock.ledger.migrations import has_ledger
from penstock.ledger.schema_contracts import TEXT, contract_of
from penstock.ledger.served_spool import Spool
from penstock.ledger.tables import delivered_keys, forgotten, labels, log_lines, partitions, quarantine, releases, runs
from penstock.privacy.key_forms import TypedValue
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.privacy.row_key import RowKey
from penstock.privacy.secret_keys import KeyRing
from penstock.sources.logs.formats import compile_format
from penstock.sources.logs.landed import landed_table
from penstock.sources.logs.line_groups import read_keys
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import ROW_ID, ColumnSource, FilesSource, LogSource
from penstock.upkeep.erased_deliveries import count_delivered, count_unreachable, erase_delivered
from penstock.upkeep.erased_rows import OpenKeys, keep_seals
from penstock.upkeep.erased_served import erase_served, erase_served_where
from penstock.upkeep.stored_rows import find_texts, match_key, row_tables, with_zeros

PAGE = 20_000
BY_HAND = "at former targets"
"""Counts rows at targets of `deliver` that nothing can be sent to: people must remove them there."""

SPOOLED = "requests in the spool"
"""Counts requests of which something was erased in the spool of this machine."""


@dataclass(frozen=True)
class ErasureRequest:
    """What to erase: the row of a key, or the rows of one source where a column has a value."""

    pipeline: Pipeline
    row_key: RowKey
    source: str | None = None
    """None: `row_key` is a key of the pipeline."""

    @property
    def canonical(self) -> str:
        """The request in a canonical form. Only its hash is stored."""
        return self._write({column: self.row_key.typed(column).standard for column in self.row_key.values})

    @property
    def recorded(self) -> tuple[str, ...]:
        """The forms that a record may have: before anything was scored no column is known to be text."""
        untyped = replace(self, row_key=replace(self.row_key, texts=frozenset()))
        return tuple(dict.fromkeys([self.canonical, untyped.canonical, self._write(self.row_key.values)]))

    def _write(self, values: Mapping[str, str]) -> str:
        return json.dumps([self.source, dict(sorted(values.items()))], ensure_ascii=False)


@dataclass
class _Work:
    """The deletes of one transaction. A dry run only counts them."""

    connection: sa.Connection
    now: datetime
    dry_run: bool
    open_seal_keys: OpenKeys
    counts: Counter[str] = field(default_factory=Counter)
    served_keys: set[str] = field(default_factory=set)
    """The texts that the erased keys may have, and below the requests with erased rows: for the spool."""
    served_requests: set[str] = field(default_factory=set)

    def delete(self, name: str, table: sa.Table | sa.TableClause, *which: sa.ColumnElement[bool]) -> None:
        counted = sa.select(sa.func.count()).select_from(table).where(*which)
        self.counts[name] += int(self.connection.execute(counted).scalar_one())
        if not self.dry_run:
            self.connection.execute(sa.delete(table).where(*which))


def _have_no_keys() -> KeyRing:
    raise SettingsError("the rows are sealed, and no key of seals is given", "Give the key with which they are sealed.")


def erase(
    database: Database,
    asked: ErasureRequest,
    masking: MaskingPolicy,
    secret: bytes | None,
    open_seal_keys: OpenKeys = _have_no_keys,
    spool: Spool | None = None,
) -> dict[str, int]:
    """Erase rows in one transaction. Return the number of rows by table.

    This covers rows of published, superseded and unfinished runs. Aggregates stay: counts, quantiles, validations.
    Under `BY_HAND` is how many of the rows at targets must be removed there by people.

    Args:
        secret: the secret for hashing the key in the record; None: only count.
        open_seal_keys: reads the keys of seals, if a row is sealed.
        spool: requests on this machine, which are erased too; None: there are none. What waits there should be taken in
            first.

    Raises:
        SettingsError: a value is not of its column's type, or a row is sealed and no key is set.
        SealKeyUnknown: a row is sealed under another key.
    """
    if not has_ledger(database):
        return {}
    texts = _find_source_texts(database, asked)
    with database.writing() as connection:
        work = _Work(connection, database.now(connection), secret is None, open_seal_keys)
        known = find_texts(connection, asked.pipeline, asked.row_key) if asked.source is None else None
        asked = replace(asked, row_key=known or replace(asked.row_key, texts=texts))
        if asked.source is None:
            _erase_key(work, asked.pipeline, asked.row_key, masking)
        else:
            _erase_where(work, asked.pipeline, asked.source, asked.row_key, masking)
        if spool is not None:  # before the commit: only the rows in the warehouse name their requests
            _erase_spooled(work, asked.pipeline, spool)
        if secret is not None:
            _record(database, work, asked, secret)
    return dict(work.counts)


def _find_source_texts(database: Database, asked: ErasureRequest) -> frozenset[str]:
    """Return the columns of the asked source that are text by its contract, or by the format of its lines."""
    source = asked.pipeline.sources[asked.source] if asked.source else None
    if isinstance(source, LogSource):
        return frozenset(field.name for field in compile_format(source).schema if pa.types.is_string(field.type))
    if asked.source is None or not isinstance(source, ColumnSource):
        return frozenset()
    columns = contract_of(database, asked.pipeline.name, asked.source, source) or {}
    return frozenset(column for column, kind in columns.items() if kind == TEXT)


def _erase_key(work: _Work, pipeline: Pipeline, row_key: RowKey, masking: MaskingPolicy) -> None:
    for table in row_tables(work.connection, pipeline):
        mine = match_key(work.connection, table, row_key)
        if not work.dry_run:
            keep_seals(work.connection, table, pipeline.key, mine, work.open_seal_keys)
        work.delete(table.name, table, *mine)
    is_mine = row_key.matcher(masking)
    for refused in (quarantine, releases):
        kept = sa.select(refused.c.key).where(refused.c.pipeline == pipeline.name).distinct()
        theirs = [k for k in work.connection.execute(kept).scalars() if is_mine(json.loads(k))]
        for key in theirs:
            work.delete(refused.name, refused, refused.c.pipeline == pipeline.name, refused.c.key == key)
    keys = possible_keys(row_key, masking)
    work.served_keys.update(keys)
    for some in chunks(keys):
        work.delete(labels.name, labels, labels.c.pipeline == pipeline.name, labels.c.key.in_(some))
    _count_served(work, *erase_served(work.connection, pipeline, row_key, masking, dry_run=work.dry_run))
    if delivered := count_delivered(work.connection, pipeline, row_key, masking):
        work.counts[delivered_keys.name] += delivered
    if unreachable := count_unreachable(work.connection, pipeline, row_key, masking):
        work.counts[BY_HAND] += unreachable
    if not work.dry_run:
        erase_delivered(work.connection, pipeline, row_key, masking, work.now)
    _erase_refused_lines(work, pipeline, pipeline.primary, [row_key.typed(column) for column in row_key.values])
    _forget_extremes(work, pipeline, row_key)


def _erase_spooled(work: _Work, pipeline: Pipeline, spool: Spool) -> None:
    if number := spool.erase(pipeline.name, work.served_keys, work.served_requests, dry_run=work.dry_run):
        work.counts[SPOOLED] += number


def _count_served(work: _Work, counts: Counter[str], requests: set[str]) -> None:
    work.counts.update(counts)
    work.served_requests |= requests


def _erase_where(work: _Work, pipeline: Pipeline, name: str, row_key: RowKey, masking: MaskingPolicy) -> None:
    [column] = row_key.values
    typed = row_key.typed(column)
    is_mine = typed.matcher(masking)
    rows = sa.select(quarantine.c.run_id, quarantine.c.partition, quarantine.c.number, quarantine.c.row)
    mine = (quarantine.c.pipeline == pipeline.name, quarantine.c.source == name)
    places = (quarantine.c.run_id, quarantine.c.partition, quarantine.c.number)
    for *place, row in work.connection.execute(rows.where(*mine)).all():
        if is_mine(json.loads(row).get(column)):
            work.delete(quarantine.name, quarantine, *(c == v for c, v in zip(places, place, strict=True)))
    _erase_refused_lines(work, pipeline, name, [typed])
    _count_served(work, *erase_served_where(work.connection, pipeline, name, column, is_mine, dry_run=work.dry_run))
    source = pipeline.sources[name]
    if isinstance(source, LogSource):
        for key in _forget_lines(work, pipeline, name, source, column, typed):
            if name == pipeline.primary:
                row = RowKey({c: text for c, text, _ in key}, frozenset(c for c, _, is_text in key if is_text))
                _erase_key(work, pipeline, find_texts(work.connection, pipeline, row), masking)


def _erase_refused_lines(work: _Work, pipeline: Pipeline, name: str, typed: Sequence[TypedValue]) -> None:
    """Delete refused lines of text files that contain all values as words, since their columns are unknown."""
    if not isinstance(pipeline.sources[name], FilesSource):
        return
    mine = (quarantine.c.pipeline == pipeline.name, quarantine.c.source == name)
    rows = sa.select(quarantine.c.run_id, quarantine.c.partition, quarantine.c.number, quarantine.c.row).where(*mine)
    for run_id, partition, number, row in work.connection.execute(rows).all():
        kept = json.loads(row)
        if not {"file", "text"} <= set(kept) <= {"file", "line", "text"}:
            continue
        if all(_is_word_of(value, str(kept["text"])) for value in typed):
            place = (quarantine.c.run_id == run_id, quarantine.c.partition == partition, quarantine.c.number == number)
            work.delete(quarantine.name, quarantine, *place)


def _is_word_of(typed: TypedValue, line: str) -> bool:
    forms = "|".join(map(re.escape, typed.written))
    return re.search(rf"(?<!\w)(?:{forms})(?!\w)", line) is not None


_Key = tuple[tuple[str, str, bool], ...]
"""The columns and values of a row's key, and whether they are text."""


def _forget_lines(
    work: _Work, pipeline: Pipeline, name: str, source: LogSource, column: str, typed: TypedValue
) -> list[_Key]:
    """Delete the landed lines where the column has the value. Return the keys of the rows that were made of them."""
    table = landed_table(pipeline.name, name)
    if not sa.inspect(work.connection).has_table(table.name):
        return []
    found = list(_find_lines(work.connection, table, name, source, column, typed))
    for file_id, offset, _ in found:
        work.delete(table.name, table, table.c.file_id == file_id, table.c.offset == offset)
    _forget_unreadable(work, pipeline, name, typed)
    return list(dict.fromkeys(key for *_, key in found if key))


def _times(lines: Sequence[Any]) -> Any:
    return pa.array([line.time for line in lines], TIMESTAMP)


def _find_lines(
    connection: sa.Connection, table: sa.Table, name: str, source: LogSource, column: str, typed: TypedValue
) -> Iterator[tuple[str, int, _Key]]:
    parser, after, is_mine = compile_format(source), ("", -1), typed.matcher(NO_MASKING)
    while True:
        beyond = sa.or_(table.c.file_id > after[0], sa.and_(table.c.file_id == after[0], table.c.offset > after[1]))
        query = sa.select(table).where(beyond).order_by(table.c.file_id, table.c.offset).limit(PAGE)
        page = connection.execute(query).all()
        if not page:
            return
        parsed = parser.parse(pa.array([r.line for r in page]), _times(page))
        if column not in parsed.column_names:
            known = ", ".join(f"`{c}`" for c in parsed.column_names)
            raise SettingsError(f"its lines have no column `{column}`", f"Use one of {known}.")
        keys = read_keys(name, parsed, source.group).to_pylist() if source.group else repeat({})
        for row, value, key in zip(page, parsed[column].to_pylist(), keys, strict=bool(source.group)):
            if is_mine(value):
                yield row.file_id, row.offset, _key_of(key or {ROW_ID: f"{row.file_id}:{row.offset}"})
        after = (page[-1].file_id, page[-1].offset)


def _key_of(values: dict[str, Any]) -> _Key:
    """Return the key of the row that a line is in. Empty if a part of it is NULL, for such a row has no score."""
    key = tuple((column, str(value), isinstance(value, str)) for column, value in values.items() if value is not None)
    return key if len(key) == len(values) else ()


def _forget_unreadable(work: _Work, pipeline: Pipeline, name: str, typed: TypedValue) -> None:
    """Delete unreadable lines that contain the value as a word, since its column is unknown."""
    mine = (log_lines.c.pipeline == pipeline.name, log_lines.c.source == name)
    contains = sa.or_(*(log_lines.c.line.contains(form, autoescape=True) for form in typed.written))
    near = sa.select(log_lines.c.file_id, log_lines.c.offset, log_lines.c.line).where(*mine, contains)
    for file_id, offset, line in work.connection.execute(near).all():
        if _is_word_of(typed, line):
            work.delete(log_lines.name, log_lines, *mine, log_lines.c.file_id == file_id, log_lines.c.offset == offset)


def _forget_extremes(work: _Work, pipeline: Pipeline, row_key: RowKey) -> None:
    """Blank partition bounds and source fingerprints that contain the key as smallest or largest of a run."""
    mine = sa.select(runs.c.run_id).where(runs.c.pipeline == pipeline.name)
    if work.dry_run:
        return
    typed = [row_key.typed(column) for column in row_key.values]
    written = {form for each in typed for form in (*each.written, *([] if each.is_text else with_zeros(each.text)))}
    for bound in (partitions.c.lower_bound, partitions.c.upper_bound):
        matches = (bound.in_(written), partitions.c.run_id.in_(mine))
        work.connection.execute(sa.update(partitions).where(*matches).values({bound.name: None}))
    marks = sa.select(runs.c.run_id, runs.c.source_fingerprint).where(
        runs.c.pipeline == pipeline.name, runs.c.source_fingerprint.is_not(None)
    )
    for run_id, fingerprint in work.connection.execute(marks).all():
        if written & {str(mark) for mark in _marks(fingerprint)[1:]}:
            work.connection.execute(
                sa.update(runs).where(runs.c.run_id == run_id).values(source_fingerprint="forgotten")
            )


def _marks(fingerprint: str) -> list[Any]:
    try:
        marks = json.loads(fingerprint)
    except ValueError:
        return []
    return marks if isinstance(marks, list) else []


def _record(database: Database, work: _Work, asked: ErasureRequest, secret: bytes) -> None:
    values: Mapping[str, Any] = {
        "forgotten_id": uuid.uuid4().hex,
        "pipeline": asked.pipeline.name,
        "source": asked.source,
        "subject_hash": MaskingPolicy(secret=secret).hash(asked.canonical),
        "forgotten_at": database.now(work.connection),
        "counts": json.dumps(work.counts, sort_keys=True),
    }
    work.connection.execute(forgotten.insert().values(**values))


def count_forgotten(connection: sa.Connection, table: str) -> int:
    """Return how many rows of a table `penstock forget` has removed."""
    counted = map(json.loads, connection.execute(sa.select(forgotten.c.counts)).scalars())
    return sum(int(counts.get(table, 0)) for counts in counted)
