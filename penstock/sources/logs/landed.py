"""Read the landed lines of a log by event time.

The table of landed lines always has the columns `(file_id, offset, time, line)`. Reading parses the lines into columns.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.types import UtcDateTime, compute
from penstock.errors import LinesPruned, MissingColumns
from penstock.interval import DataInterval, iso
from penstock.ledger.log_retention import read_cutoff
from penstock.ledger.tables import log_lines
from penstock.run_types import LogNotes, Partition, SourcePlan
from penstock.sources.groups import pack_groups
from penstock.sources.logs.formats import compile_format
from penstock.sources.logs.line_groups import count_lines, group_lines, read_key_texts
from penstock.sources.logs.set_aside import list_set_aside
from penstock.sources.logs.zones import LocalZone
from penstock.sources.relation import Relation
from penstock.sources.sql import declared_types, without_types
from penstock.spec.expression import read_expression
from penstock.spec.named_columns import find_named_columns
from penstock.spec.parts import MAX_NAME, twin_names
from penstock.spec.sources import ROW_ID, LogGroup, LogSource

_PIECE_ROWS = 50_000
"""Lines that are parsed at once where a partition needs all lines of an interval."""


def landed_table(pipeline: str, source: str) -> sa.Table:
    """Return the table of a log source's lines."""
    name = f"{pipeline.replace('-', '_')}__{source}"
    table = sa.Table(
        name,
        sa.MetaData(),
        sa.Column("file_id", sa.Text, primary_key=True),
        sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time", UtcDateTime, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
    )
    sa.Index(_index_name(name), table.c.time)
    return table


def _index_name(table: str) -> str:
    """Name the index of a table's times. A name that is too long for a database ends in a digest."""
    name = f"{table}_time"
    return name if len(name) <= MAX_NAME else f"{table[: MAX_NAME - 9]}_{sha256(table.encode()).hexdigest()[:8]}"


def _of_partition(group: Any, table: pa.Table, partition: Partition) -> pa.Table:
    """Return the rows whose group is in the partition. The first partition has those without a value too."""
    inside: Any = compute.is_null(group) if partition.lower is None else compute.is_valid(group)
    after = compute.greater_equal(group, pa.scalar(str(partition.lower or "")))
    before = compute.less(group, pa.scalar(str(partition.upper))) if partition.upper is not None else True
    bounded = compute.fill_null(compute.and_(after, before), fill_value=False)
    inside = compute.or_(inside, bounded) if partition.lower is None else compute.and_(inside, bounded)
    return table.filter(inside)


def _choose(columns: Sequence[str], named: frozenset[str] | None) -> frozenset[str] | None:
    """Return the columns to read, `time` among them. None: all, also where two have one name in DuckDB."""
    if named is None or twin_names(columns):
        return None
    return frozenset(column for column in columns if column == "time" or column.casefold() in named)


def is_landed(database: Database, pipeline: str, name: str) -> bool:
    """Whether a run has landed lines of a log source."""
    with database.reading() as connection:
        return sa.inspect(connection).has_table(landed_table(pipeline, name).name)


@dataclass(frozen=True)
class LogReader:
    """Reads the landed lines of one source by event time."""

    pipeline: str
    name: str
    source: LogSource
    database: Database
    primary: bool
    partition_by: str | None = None
    """The column whose values partitions keep whole. It is inside the lines, so each partition parses all lines."""
    features: str | None = None
    """The features query, if only it uses the rows. Then the columns that it cannot see are not read."""

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        span = self._span(interval)
        if self.source.group is not None:
            source_plan = self._plan_line_groups(span, partition_rows)
        elif self.partition_by is None:
            source_plan = self._relation().plan(span, partition_rows)
        else:
            source_plan = self._plan_groups(span, partition_rows)
        self._refuse_pruned(interval)
        return source_plan

    def fingerprint(self, interval: DataInterval | None) -> str:
        return self._relation().count_and_fingerprint(self._span(interval))[1]

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        span = self._span(interval)
        if self.source.group is not None:
            parsed = self._read_groups(span, partition)
            parsed = parsed if limit is None else parsed.slice(0, limit)
        elif self.partition_by is not None and partition is not None:
            tables = [_of_partition(self._group_of(t), t, partition) for t in self._read_pieces(span)]
            parsed = pa.concat_tables(tables, promote_options="default") if tables else self._parse(span, None, 0)
        else:
            named = None if self.features is None else find_named_columns(self.features, self.name)
            parsed = self._parse(span, partition, limit, named)
        self._refuse_pruned(interval)
        return parsed

    def _read_groups(self, span: DataInterval | None, partition: Partition | None) -> pa.Table:
        """Return the rows of `group` that are in the partition, or all of them."""
        group = self.source.group
        assert group is not None
        named = self._known(
            *map(read_expression, group.key.values()),
            *(read_expression(expression, aggregate=True) for expression in group.columns.values()),
        )
        pieces = self._read_pieces(span, named)
        if partition is not None:
            pieces = (_of_partition(self._group_of(piece), piece, partition) for piece in pieces)
        tables = list(pieces) or [self._parse(span, None, 0, named)]
        return group_lines(self.name, pa.concat_tables(tables, promote_options="default"), group)

    def _parse(
        self,
        span: DataInterval | None,
        partition: Partition | None,
        limit: int | None,
        named: frozenset[str] | None = None,
    ) -> pa.Table:
        """Read lines and parse them.

        Args:
            named: names in lower case, among them all that the columns in use have. None: all are in use.
        """
        parser = compile_format(self.source)
        used = _choose([*parser.schema.names, ROW_ID], named)
        has_id = used is None or ROW_ID in used
        relation = self._relation() if has_id else replace(self._relation(), only=frozenset({"time", "line"}))
        rows = relation.read(span, partition, limit)
        parsed = parser.parse(rows["line"], rows["time"], used)
        if not has_id:
            return parsed
        row_id = compute.binary_join_element_wise(rows["file_id"], rows["offset"].cast(pa.string()), ":")
        return parsed.append_column(ROW_ID, row_id)

    def _known(self, *names: Set[str]) -> frozenset[str] | None:
        """Return the names together. None if one is no column, so that the error shows all columns there are."""
        columns = {column.casefold() for column in compile_format(self.source).schema.names}
        together = frozenset[str]().union(*names)
        return together if together <= columns else None

    def _plan_groups(self, span: DataInterval | None, partition_rows: int) -> SourcePlan:
        """Count the rows of each value of `partition_by`, and fill partitions with them."""
        rows, fingerprint = self._relation().count_and_fingerprint(span)
        counts: Counter[str | None] = Counter()
        for table in self._read_pieces(span, self._known({str(self.partition_by).casefold()})):
            counts.update(self._group_of(table).to_pylist())
        nulls = counts.pop(None, 0)
        known = sorted((value, count) for value, count in counts.items() if value is not None)
        partitions, largest = pack_groups(known, nulls, partition_rows)
        return SourcePlan(rows, fingerprint, partitions, largest_group=largest)

    def _plan_line_groups(self, span: DataInterval | None, partition_rows: int) -> SourcePlan:
        """Count the rows that `group` makes, and fill partitions with up to `partition_rows` lines of whole rows."""
        assert self.source.group is not None
        _, fingerprint = self._relation().count_and_fingerprint(span)
        named = self._known(*map(read_expression, self.source.group.key.values()))
        lines: Counter[str | None] = Counter()
        keys: defaultdict[str | None, set[Any]] = defaultdict(set)
        for table in self._read_pieces(span, named):
            for value, count, key in count_lines(
                self.name, table, self.source.group, self._key_column(self.source.group)
            ):
                lines[value] += count
                keys[value].add(key)
        known = sorted((value, count) for value, count in lines.items() if value is not None)
        partitions, _ = pack_groups(known, lines[None], partition_rows)
        sizes = [0] * len(partitions)
        lowest = [str(p.lower) for p in partitions[1:]]
        for value, found in keys.items():
            sizes[0 if value is None else bisect_right(lowest, value)] += len(found)
        counted = tuple(replace(p, rows=size) for p, size in zip(partitions, sizes, strict=True))
        return SourcePlan(sum(sizes), fingerprint, counted)

    def _read_pieces(self, span: DataInterval | None, named: frozenset[str] | None = None) -> Iterator[pa.Table]:
        """Yield the parsed lines, some thousands at a time."""
        for piece in self._relation().plan(span, _PIECE_ROWS).partitions:
            yield self._parse(span, piece, None, named)

    def _group_of(self, table: pa.Table) -> "pa.ChunkedArray[Any]":
        """Return the values that partitions keep whole, as text: those of `partition_by`, or of `group`.

        Raises:
            MissingColumns: the lines, or the key of the group, have no such column.
        """
        if self.source.group is not None:
            return read_key_texts(self.name, table, self.source.group, self._key_column(self.source.group))
        assert self.partition_by is not None
        if self.partition_by not in table.column_names:
            raise MissingColumns(f"source `{self.name}`", (self.partition_by,), tuple(table.column_names))
        return table[self.partition_by].cast(pa.string())

    def _key_column(self, group: LogGroup) -> str:
        """Return the column of a group's key that partitions keep whole."""
        if self.partition_by is None:
            return next(iter(group.key))
        if self.partition_by not in group.key:
            raise MissingColumns(
                f"source `{self.name}`: the key of its `group`", (self.partition_by,), tuple(group.key)
            )
        return self.partition_by

    def count_without_time(self, interval: DataInterval | None) -> int:
        return 0  # a line without a time is malformed and counted as such

    def count_malformed(self, interval: DataInterval | None) -> tuple[int, int]:
        """Return how many lines of the interval could not be read, and how many there are.

        An unreadable line has no time. It counts at the time of the neighbouring lines in the file.
        """
        span = self._span(interval)
        owner = (log_lines.c.pipeline == self.pipeline, log_lines.c.source == self.name)
        inside = () if span is None else (log_lines.c.time >= span.start, log_lines.c.time < span.end)
        with self.database.reading() as connection:
            bad = connection.execute(
                sa.select(sa.func.count()).select_from(log_lines).where(*owner, *inside)
            ).scalar_one()
        return bad, bad + self._relation().count_and_fingerprint(span)[0]

    def describe(self, interval: DataInterval | None) -> LogNotes:
        """Return what a person should know of the interval's lines."""
        aside = list_set_aside(self.database, self.pipeline, self.name)
        repeated, zone = self._count_repeated(interval), self.source.timezone or ""
        return LogNotes(tuple(f"{file.path}: {file.reason}" for file in aside), repeated, zone)

    def _count_repeated(self, interval: DataInterval | None) -> int:
        """Count the lines whose local time occurs twice. They were read as its first occurrence."""
        if self.source.timezone is None:
            return 0
        first, second = compile_format(self.source), compile_format(self.source, second=True)
        count, table = 0, landed_table(self.pipeline, self.name)
        span = self._span(interval) or self._reach()
        for begin, end in LocalZone(self.source.timezone).repeated(span) if span else ():
            inside = sa.select(table.c.line).where(table.c.time >= begin, table.c.time < end)
            with self.database.reading() as connection:
                lines: Any = pa.array(connection.execute(inside).scalars().all(), pa.string())
            times = (parser.times(lines, end + timedelta(days=1), begin) for parser in (first, second))
            count += compute.sum(compute.not_equal(*times)).as_py() or 0
        return count

    def _reach(self) -> DataInterval | None:
        """Return the span of all landed lines."""
        table = landed_table(self.pipeline, self.name)
        with self.database.reading() as connection:
            first, last = connection.execute(sa.select(sa.func.min(table.c.time), sa.func.max(table.c.time))).one()
        return DataInterval(first, last + timedelta(seconds=1)) if first and last else None

    def _refuse_pruned(self, interval: DataInterval | None) -> None:
        """Raise LinesPruned if lines of the interval may be gone.

        Call this after reading. Pruning moves the cutoff before it deletes lines, so if the cutoff has not moved,
        the read was complete.
        """
        span = self._span(interval)
        cutoff = read_cutoff(self.database, self.pipeline, self.name) if span else None
        if span and cutoff and span.start < cutoff:
            raise LinesPruned(self.name, iso(span.start), iso(cutoff))

    def _span(self, interval: DataInterval | None) -> DataInterval | None:
        reach = timedelta(0) if self.primary else self.source.lookback
        return DataInterval(interval.start - reach, interval.end) if interval else None

    def _relation(self) -> Relation:
        rows: sa.FromClause = landed_table(self.pipeline, self.name)
        declared = None
        if not self.database.sql.values_as_declared:  # SQLAlchemy would make a datetime of each text
            declared, rows = declared_types(rows), without_types(rows)
        return Relation(self.name, self.database, rows, ("file_id", "offset"), "time", "time", declared=declared)
