"""Land log lines in the warehouse, each once, and read them there by event time.

Landing appends raw lines and moves the file's offset in one transaction, so a line is landed once or not yet. Processes
that land one log at once take turns, and each reads the offsets anew that another has moved. The table of landed lines
always has the columns `(file_id, offset, time, line)`. Reading parses the lines into columns.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import BulkTransaction, bulk_transaction
from penstock.database.connections import Database
from penstock.database.types import TIMESTAMP, UtcDateTime, compute
from penstock.errors import LinesPruned, MissingColumns, NoFiles
from penstock.interval import DataInterval, iso
from penstock.ledger.log_retention import read_cutoff
from penstock.ledger.migrations import migrate
from penstock.ledger.tables import log_files, log_lines
from penstock.privacy.masking import HIDDEN
from penstock.run_types import Partition, SourcePlan
from penstock.sources.groups import pack_groups
from penstock.sources.logs.files import KnownFile, LineBatch, read_new_lines
from penstock.sources.logs.formats import compile_format
from penstock.sources.logs.landing_lock import count_landing, create_counter, lock_landings, select_landings
from penstock.sources.logs.reappeared import LandedBefore
from penstock.sources.relation import Relation
from penstock.spec.parts import MAX_NAME
from penstock.spec.pipeline import ROW_ID, LogSource

_PIECE_ROWS = 50_000
"""Lines that are parsed at once where a partition needs all lines of an interval."""


@dataclass(frozen=True)
class Landing:
    """The counts of one landing."""

    lines: int = 0
    malformed: int = 0
    files: int = 0


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


def land_lines(pipeline: str, name: str, source: LogSource, database: Database, roots: tuple[str, ...]) -> Landing:
    """Append the lines that are new since the committed offsets. Repeating it adds nothing.

    Args:
        roots: the folders that may be read; empty: no limit.

    Raises:
        NoFiles: no file matches the path, and nothing was ever landed.
        BrokenFile: a compressed file is truncated or corrupt. None of its lines is landed.
    """
    migrate(database)
    log = _Log(pipeline, name, source, database)
    total, files, overtaken = Landing(), set[str](), True
    while overtaken:
        overtaken = False
        log.create_tables()
        for file_id, landed in _land_batches(log, roots):
            if landed is None:  # another process has landed lines since the offsets were read, so read them again
                overtaken = True
                break
            files.add(file_id)
            total = Landing(total.lines + landed.lines, total.malformed + landed.malformed, len(files))
    return total


def _land_batches(log: "_Log", roots: tuple[str, ...]) -> Iterator[tuple[str, Landing | None]]:
    """Land the new lines. Yield each batch's file and counts, or None if another landing came before the batch."""
    landings, known = log.read_state()
    if landings is None:  # the pipeline was renamed in between
        return
    before = LandedBefore(log.database, log.table, log.pipeline, log.name, known)
    try:
        for batch in read_new_lines(log.name, log.source.path, known, roots):
            yield batch.file.file_id, log.land(before.drop_again(batch), landings)
            landings += 1
    except NoFiles:
        if not known:
            raise


class _Log:
    """A log source and the tables that its lines are landed in."""

    def __init__(self, pipeline: str, name: str, source: LogSource, database: Database) -> None:
        self.pipeline = pipeline
        self.name = name
        self.source = source
        self.database = database
        self.table = landed_table(pipeline, name)
        self._parser = compile_format(source)

    def create_tables(self) -> None:
        """Create the table of lines and the counter of landings, unless they are there."""
        create_counter(self.database, self.pipeline, self.name)
        with self.database.writing() as connection:
            lock_landings(connection, self.pipeline, self.name)
            self.table.metadata.create_all(connection)

    def read_state(self) -> tuple[int | None, list[KnownFile]]:
        """Return the number of landings so far, and how far each file was read.

        The number is read first: a landing that commits in between is then found by its number.
        """
        columns = [log_files.c[field.name] for field in fields(KnownFile)]
        query = sa.select(*columns).where(log_files.c.pipeline == self.pipeline, log_files.c.source == self.name)
        with self.database.reading() as connection:
            landings = connection.execute(select_landings(self.pipeline, self.name)).scalar()
            return landings, [KnownFile(**row) for row in connection.execute(query).mappings()]

    def land(self, batch: LineBatch, landings: int) -> Landing | None:
        """Append a batch's lines and move its file's offset, in one transaction.

        Returns None, and changes nothing, if there were other than `landings` landings before: the batch was read by
        offsets that are no longer the last ones, so its lines may be landed already.
        """
        times = self._read_times(batch)
        good = compute.is_valid(times)
        count, bad = len(batch.lines), compute.invert(good)
        malformed = count - (compute.sum(good).as_py() or 0)
        ids = pa.array([batch.file.file_id] * count, pa.string())
        landed = pa.table({"file_id": ids, "offset": batch.offsets, "time": times, "line": batch.lines})
        with bulk_transaction(self.database) as transaction:
            lock_landings(transaction, self.pipeline, self.name)
            if transaction.execute(select_landings(self.pipeline, self.name)) != [(landings,)]:
                return None
            transaction.append(self.table, landed.filter(good))
            if malformed:
                near = compute.fill_null(
                    compute.fill_null_backward(compute.fill_null_forward(times)), pa.scalar(batch.seen_at, TIMESTAMP)
                )
                kept = landed.set_column(2, "time", near).filter(bad)
                if self.source.private:  # the private value may be anywhere in the line; keep only file and offset
                    kept = kept.set_column(3, "line", pa.repeat(pa.scalar(HIDDEN), kept.num_rows))
                self._append_owned(transaction, log_lines, kept)
            owner = (log_files.c.pipeline == self.pipeline, log_files.c.source == self.name)
            transaction.execute(sa.delete(log_files).where(*owner, log_files.c.file_id == batch.file.file_id))
            self._append_owned(transaction, log_files, pa.Table.from_pylist([asdict(batch.file)]))
            count_landing(transaction, self.pipeline, self.name)
        return Landing(count - malformed, malformed)

    def _read_times(self, batch: LineBatch) -> pa.TimestampArray:
        times: pa.TimestampArray = compute.if_else(
            batch.oversize, pa.scalar(None, TIMESTAMP), self._parser.times(batch.lines, batch.seen_at)
        )
        return times

    def _append_owned(self, transaction: BulkTransaction, table: sa.Table, rows: pa.Table) -> None:
        count = rows.num_rows
        owned = rows.append_column("pipeline", pa.array([self.pipeline] * count, pa.string()))
        transaction.append(table, owned.append_column("source", pa.array([self.name] * count, pa.string())))


def _of_partition(group: Any, table: pa.Table, partition: Partition) -> pa.Table:
    """Return the rows whose group is in the partition. The first partition has those without a value too."""
    inside: Any = compute.is_null(group) if partition.lower is None else compute.is_valid(group)
    after = compute.greater_equal(group, pa.scalar(str(partition.lower or "")))
    before = compute.less(group, pa.scalar(str(partition.upper))) if partition.upper is not None else True
    bounded = compute.fill_null(compute.and_(after, before), fill_value=False)
    inside = compute.or_(inside, bounded) if partition.lower is None else compute.and_(inside, bounded)
    return table.filter(inside)


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

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        span = self._span(interval)
        if self.partition_by is None:
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
        if self.partition_by is not None and partition is not None:
            tables = [_of_partition(self._group_of(t), t, partition) for t in self._read_pieces(span)]
            parsed = pa.concat_tables(tables, promote_options="default") if tables else self._parse(span, None, 0)
        else:
            parsed = self._parse(span, partition, limit)
        self._refuse_pruned(interval)
        return parsed

    def _parse(self, span: DataInterval | None, partition: Partition | None, limit: int | None) -> pa.Table:
        rows = self._relation().read(span, partition, limit)
        lines: Any = rows["line"]
        times: Any = rows["time"]
        parsed = compile_format(self.source).parse(lines, times)
        row_id = compute.binary_join_element_wise(rows["file_id"], rows["offset"].cast(pa.string()), ":")
        return parsed.append_column(ROW_ID, row_id)

    def _plan_groups(self, span: DataInterval | None, partition_rows: int) -> SourcePlan:
        """Count the rows of each value of `partition_by`, and fill partitions with them."""
        rows, fingerprint = self._relation().count_and_fingerprint(span)
        counts: Counter[str | None] = Counter()
        for table in self._read_pieces(span):
            counts.update(self._group_of(table).to_pylist())
        nulls = counts.pop(None, 0)
        known = sorted((value, count) for value, count in counts.items() if value is not None)
        partitions, largest = pack_groups(known, nulls, partition_rows)
        return SourcePlan(rows, fingerprint, partitions, largest_group=largest)

    def _read_pieces(self, span: DataInterval | None) -> Iterator[pa.Table]:
        """Yield the parsed lines, some thousands at a time."""
        for piece in self._relation().plan(span, _PIECE_ROWS).partitions:
            yield self._parse(span, piece, None)

    def _group_of(self, table: pa.Table) -> "pa.ChunkedArray[Any]":
        """Return the values of `partition_by` as text.

        Raises:
            MissingColumns: the format has no such column.
        """
        assert self.partition_by is not None
        if self.partition_by not in table.column_names:
            raise MissingColumns(f"source `{self.name}`", (self.partition_by,), tuple(table.column_names))
        return table[self.partition_by].cast(pa.string())

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
        table = landed_table(self.pipeline, self.name)
        return Relation(self.name, self.database, table, ("file_id", "offset"), "time", "time")
