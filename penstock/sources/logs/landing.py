"""Land log lines in the warehouse, each once.

Landing appends raw lines and moves the file's offset in one transaction, so a line is landed once or not yet. Processes
that land one log at once take turns, and each reads the offsets anew that another has moved.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import BulkTransaction, bulk_transaction
from penstock.database.connections import Database
from penstock.database.types import TIMESTAMP, compute
from penstock.errors import BrokenArchive, NoFiles
from penstock.ledger.migrations import migrate
from penstock.ledger.tables import log_files, log_lines
from penstock.privacy.masking import HIDDEN
from penstock.sources.logs.declared_columns import DeclaredColumns
from penstock.sources.logs.files import KnownFile, LineBatch, read_new_lines
from penstock.sources.logs.formats import compile_format, compile_layout
from penstock.sources.logs.landed import landed_table
from penstock.sources.logs.landing_lock import count_landing, create_counter, lock_landings, select_landings
from penstock.sources.logs.plausible import read_times
from penstock.sources.logs.reappeared import LandedBefore
from penstock.sources.logs.set_aside import SetAside, is_read, record_set_aside
from penstock.spec.sources import LogSource


@dataclass(frozen=True)
class Landing:
    """The counts of one landing."""

    lines: int = 0
    malformed: int = 0
    files: int = 0
    set_aside: tuple[SetAside, ...] = ()
    """Archives that cannot be unpacked. Their lines are missing until they are replaced."""
    waiting: int = 0
    """Files whose last line or record waits for its end."""


def land_lines(
    pipeline: str,
    name: str,
    source: LogSource,
    database: Database,
    roots: tuple[str, ...],
    now: datetime | None = None,
) -> Landing:
    """Append the lines that are new since the committed offsets. Repeating it adds nothing.

    Args:
        roots: the folders that may be read; empty: no limit.
        now: the present, by which files are growing or finished.

    Raises:
        NoFiles: no file matches the path, and nothing was ever landed.
        BrokenFile: a file may not be read.
        ImplausibleTimes: the times of a file cannot be right. No line of the batch is landed.
        MissingColumns: a declared column exists in none of the lines.
    """
    migrate(database)
    log = _Log(pipeline, name, source, database)
    total, files, overtaken = Landing(), set[str](), True
    while overtaken:
        overtaken = False
        log.create_tables()
        log.set_aside.clear()
        for file_id, landed in _land_batches(log, roots, now or datetime.now(UTC)):
            if landed is None:  # another process has landed lines since the offsets were read, so read them again
                overtaken = True
                break
            files.add(file_id)
            total = Landing(total.lines + landed.lines, total.malformed + landed.malformed, len(files))
    log.declared.find_landed(database, log.table)
    log.declared.refuse_unseen()
    record_set_aside(database, pipeline, name, log.set_aside)
    waiting = sum(file.has_rest for file in log.read_state()[1])
    return replace(total, set_aside=tuple(log.set_aside), waiting=waiting)


def _land_batches(log: "_Log", roots: tuple[str, ...], now: datetime) -> Iterator[tuple[str, Landing | None]]:
    """Land the new lines. Yield each batch's file and counts, or None if another landing came before the batch."""
    landings, known = log.read_state()
    if landings is None:  # the pipeline was renamed in between
        return
    before = LandedBefore(log.database, log.table, log.pipeline, log.name, known)
    layout = compile_layout(log.source)
    batches = read_new_lines(log.name, log.source.path, known, roots, now=now, layout=layout, set_aside=log.note_broken)
    try:
        for batch in batches:
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
        self.set_aside: list[SetAside] = []
        self._parser = compile_format(source)
        self.declared = DeclaredColumns(name, tuple(source.columns), self._parser)

    def note_broken(self, error: BrokenArchive) -> None:
        """Set an archive aside, so that the other files are read."""
        self.set_aside.append(SetAside(error.file, error.reason))

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
        query = query.where(is_read())
        with self.database.reading() as connection:
            landings = connection.execute(select_landings(self.pipeline, self.name)).scalar()
            return landings, [KnownFile(**row) for row in connection.execute(query).mappings()]

    def land(self, batch: LineBatch, landings: int) -> Landing | None:
        """Append a batch's lines and move its file's offset, in one transaction.

        Returns None, and changes nothing, if there were other than `landings` landings before: the batch was read by
        offsets that are no longer the last ones, so its lines may be landed already.
        """
        times = read_times(self.name, self.source, self._parser, batch, self._last_time(batch))
        good = compute.is_valid(times)
        self.declared.see(batch.lines.filter(good))
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

    def _last_time(self, batch: LineBatch) -> datetime | None:
        """Return the time of the file's line before the batch, if the years of lines depend on it."""
        if not batch.start or not self._parser.may_lack_years:
            return None
        query = sa.select(self.table.c.time).where(
            self.table.c.file_id == batch.file.file_id, self.table.c.offset < batch.start
        )
        with self.database.reading() as connection:
            found: datetime | None = connection.execute(query.order_by(self.table.c.offset.desc()).limit(1)).scalar()
        return found

    def _append_owned(self, transaction: BulkTransaction, table: sa.Table, rows: pa.Table) -> None:
        count = rows.num_rows
        owned = rows.append_column("pipeline", pa.array([self.pipeline] * count, pa.string()))
        transaction.append(table, owned.append_column("source", pa.array([self.name] * count, pa.string())))
