"""The rows of the secondary sources that a server holds in memory. They are read as a run of this moment reads them."""

import hashlib
import io
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from penstock.database.connections import Connector
from penstock.errors import Halted, SnapshotTooLarge
from penstock.interval import DataInterval
from penstock.ledger.schema_contracts import read_contracts
from penstock.privacy.masking import MaskingPolicy
from penstock.quality import judge_shares
from penstock.resources.usage import format_bytes
from penstock.run.extract import extract_secondary
from penstock.run.schema_contract import compare_sources, refuse_breaks
from penstock.run.validate import Quarantiner, judge_stage
from penstock.run_types import Partition, Validation, Verdict
from penstock.serving.source_columns import choose_columns
from penstock.sources import SourceReader, fix_versions
from penstock.spec.pipeline import Pipeline
from penstock.wording import plural

_SAMPLE_ROWS = 1000
"""Rows that are read first to learn how many bytes a row has."""
_SLACK = 2
"""How many times the rows that fit the limit, by the rows read so far, are read next. The others may be narrower."""


@dataclass(frozen=True)
class SourceSnapshot:
    """The accepted rows of all secondary sources, as they were at one time."""

    tables: Mapping[str, pa.Table]
    """By source, with the columns that the features query may take."""
    refused: Mapping[str, int]
    """By source: rows that its expectations refuse, or that cannot be read. They are left out."""
    taken_at: datetime
    digest: str
    """sha256 of the columns and of the rows in the order in which they were read."""

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in Arrow's form."""
        return sum(table.nbytes for table in self.tables.values())

    def age(self, now: datetime) -> float:
        """Seconds since it was taken."""
        return max((now - self.taken_at).total_seconds(), 0.0)

    @property
    def summary(self) -> str:
        """The rows, bytes and digest for people."""
        rows = ", ".join(f"{plural(table.num_rows, 'row')} of {name}" for name, table in self.tables.items())
        left_out = "".join(f", {number:,} of {name} left out" for name, number in self.refused.items() if number)
        return f"{rows}{left_out}, {format_bytes(self.nbytes)}, digest {self.digest[:12]}"


def take_snapshot(
    pipeline: Pipeline, connect: Connector, masking: MaskingPolicy, most_bytes: int, now: datetime
) -> SourceSnapshot:
    """Read and judge the secondary sources as a run does that scores the interval of now.

    Args:
        most_bytes: most bytes of the rows that are read, over all sources, in the columns that are held.

    Raises:
        Halted: a source breaks its contract, or fails a critical expectation.
        SnapshotTooLarge: the rows have more bytes than that.
    """
    interval = interval_of(pipeline, now)
    names = [name for name in pipeline.sources if name != pipeline.primary]
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        connect = replace(fix_versions(pipeline, connect, names), run_folder=Path(folder))
        contracts = read_contracts(connect(pipeline.destination.connection), pipeline.name)
        refuse_breaks(
            pipeline, interval, list(compare_sources(pipeline, interval, connect, (), contracts, names=names))
        )
        reading = _Reading(pipeline, interval, most_bytes)
        extracted = extract_secondary(pipeline, interval, connect, reading.read)
    tables, refused = _judge(pipeline, extracted.tables, masking)
    for name, unread in extracted.unread.items():
        refused[name] += unread
    held = {name: _keep_used(pipeline, name, table) for name, table in tables.items()}
    return SourceSnapshot(held, refused, now, digest_tables(held))


def interval_of(pipeline: Pipeline, now: datetime) -> DataInterval | None:
    """Return the interval of the grid that contains a time, or the first one before it begins. None without a grid."""
    if pipeline.interval is None:
        return None
    grid = pipeline.interval.grid
    moment = max(now, grid.origin)
    return DataInterval(grid.align_down(moment), grid.next(moment), pipeline.timezone)


@dataclass
class _Reading:
    """Reads sources up to a limit over all of them, so that a table which is too large is not read whole first."""

    pipeline: Pipeline
    interval: DataInterval | None
    most_bytes: int
    _held: int = 0
    """Bytes of the sources that were read."""

    def read(self, name: str, reader: SourceReader) -> pa.Table:
        most_rows, left = _SAMPLE_ROWS, self.most_bytes - self._held
        while True:
            table = reader.read(self.interval, limit=most_rows)
            held = _keep_used(self.pipeline, name, table).nbytes
            if held > left:
                raise SnapshotTooLarge(self.pipeline.name, name, table.num_rows, held, self._held, self.most_bytes)
            if table.num_rows < most_rows:
                self._held += held
                return table
            width = max(held / table.num_rows, 1.0)
            most_rows = max(math.ceil(_SLACK * left / width), 2 * most_rows)


def _judge(
    pipeline: Pipeline, tables: Mapping[str, pa.Table], masking: MaskingPolicy
) -> tuple[dict[str, pa.Table], dict[str, int]]:
    """Judge the rows by their sources' expectations. Return the accepted rows, and how many each source has refused."""
    accepted: dict[str, pa.Table] = {}
    halts: tuple[str, ...] = ()
    found: list[Validation] = []
    for name, table in tables.items():
        judge = partial(judge_stage, Quarantiner(pipeline, masking, {}), Partition(0, 1, None, None, table.num_rows))
        accepted[name], _, validations, stops = judge(name, table, {})
        halts += stops
        found += validations
    halts += Verdict(judge_shares({name: pipeline.expectations_of(name) for name in tables}, found)).halts
    if halts:
        raise Halted(pipeline.name, "snapshot", halts)
    return accepted, {name: table.num_rows - accepted[name].num_rows for name, table in tables.items()}


def _keep_used(pipeline: Pipeline, name: str, table: pa.Table) -> pa.Table:
    """Return the columns that the features query may take."""
    types = {field.name: field.type for field in table.schema}
    return table.select(list(choose_columns(pipeline, name, types, ()).types))


def digest_tables(tables: Mapping[str, pa.Table]) -> str:
    """Return the sha256 of tables: their names, columns and rows. How they are cut into chunks makes no difference."""
    digest = hashlib.sha256()
    for name in sorted(tables):
        table = tables[name].combine_chunks().replace_schema_metadata(None)
        digest.update(name.encode() + b"\0")
        with pa.ipc.new_stream(pa.PythonFile(_DigestSink(digest), "w"), table.schema) as stream:
            stream.write_table(table)
    return digest.hexdigest()


class _DigestSink(io.RawIOBase):
    """A file whose bytes only go into a digest."""

    def __init__(self, digest: "hashlib._Hash") -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._digest.update(content)
        return len(content)
