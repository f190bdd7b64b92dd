"""The primary source in one interval as planning saw it, and the slices that it is cut into."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from penstock.interval import DataInterval
from penstock.resources.memory import MemoryPlan


@dataclass(frozen=True)
class FileState:
    """A file as a run was planned with it."""

    path: str
    size: int
    written_ns: int
    digest: str
    """Of samples of its content."""
    machine: str
    """The host that saw it so."""
    changed_ns: int
    """When its content or its name changed last, as the host's system says."""


@dataclass(frozen=True)
class TableVersion:
    """The version of a table in a lake that a run reads."""

    kind: Literal["delta", "iceberg"]
    table: str
    """Path of a Delta table, namespace and name of an Iceberg table."""
    version: str
    """Number of a Delta version, ID of an Iceberg snapshot. Empty: the Iceberg table has no snapshot."""
    location: str
    """Folder of a Delta table. Of an Iceberg table the file of its metadata, which has schema and snapshot."""

    @property
    def text(self) -> str:
        """The version for people."""
        if self.kind == "delta":
            return f"version {self.version} of {self.table}"
        return f"snapshot {self.version} of {self.table}" if self.version else f"{self.table}, which has no snapshot"


Bound = int | float | str | datetime


PLACES = 2048
"""More than the most rows of a block of a Postgres table."""


@dataclass(frozen=True)
class TablePlaces:
    """The places of a Postgres table from `first` to before `end`, in the file that it had at planning.

    A place is the number of a block times `PLACES`, plus the number of the row in the block.
    """

    file: int
    first: int
    end: int

    @property
    def blocks(self) -> int:
        return (self.end - self.first) // PLACES


@dataclass(frozen=True)
class Partition:
    """A slice of the primary source's rows of one interval.

    Of the interval, or of the part of it in `span`, it has the rows `[lower, upper)` on the partition column. `None`
    means unbounded; a slice without a lower bound also has the rows whose partition column is NULL.
    """

    index: int
    of: int
    lower: Bound | None
    upper: Bound | None
    rows: int
    snapshots: dict[str, str] = field(default_factory=dict)
    """By connection: the snapshot in which all slices of the interval are read, if the database has one."""
    compare_cut: bool = False
    """Whether the features query is tried on its first rows, whole and cut."""
    files: Mapping[str, tuple[FileState, ...]] = field(default_factory=dict)
    """By source of files: those that all slices of the interval are read from."""
    versions: Mapping[str, TableVersion] = field(default_factory=dict)
    """By source of a table in a lake: the version that all slices of the interval are read from."""
    stray: int = 0
    """Rows of these files whose event time is outside the interval of their file. Only the first partition counts."""
    span: DataInterval | None = None
    """The part of the interval that the rows are in. None: the whole interval."""
    places: TablePlaces | None = None
    """The places of the table that the rows are read from. None: all."""

    @property
    def label(self) -> str:
        return f"{self.index + 1}/{self.of}"

    @property
    def bounds(self) -> tuple[str | None, str | None]:
        """The bounds for people: of the partition column, else of the event time, else of the table's places."""
        edges: tuple[Bound | None, Bound | None] = (self.lower, self.upper)
        if edges == (None, None) and self.span is not None:
            edges = self.span.start, self.span.end
        if edges == (None, None) and self.places is not None:
            first, end = (f"block {n // PLACES}, row {n % PLACES}" for n in (self.places.first, self.places.end))
            edges = first, end
        lower, upper = (None if edge is None else str(edge) for edge in edges)
        return lower, upper


@dataclass(frozen=True)
class RowGroup:
    """The rows of the primary source with one value of `partition_by`."""

    value: str
    rows: int


@dataclass(frozen=True)
class SourcePlan:
    """The primary source in one interval, as seen by planning."""

    rows: int
    fingerprint: str
    """Changes when rows of the interval were added, removed or (with `updated_column`) changed."""
    partitions: tuple[Partition, ...]
    fit: MemoryPlan | None = None
    """The plan that keeps a run within its memory limit. None without a limit."""
    largest_group: RowGroup | None = None
    """With `partition_by`: the value with the most rows."""
    stray: int = 0
    """Rows of the interval's files whose event time is outside the interval of their file."""


@dataclass(frozen=True)
class LogNotes:
    """What a person should know of the lines of a log source in one interval."""

    set_aside: tuple[str, ...] = ()
    """Archives that cannot be unpacked, each with the reason. Their lines are missing."""
    repeated: int = 0
    """Lines with a local time that occurs twice in autumn."""
    timezone: str = ""


@dataclass(frozen=True)
class Horizon:
    """The time up to which a source is complete, and the transaction that blocks the rest."""

    until: datetime
    blocker: str
    """A text that names the session, without its SQL."""

    def covers(self, moment: datetime) -> bool:
        """Whether all transactions that began before the moment have ended, so that none can add rows there."""
        return moment <= self.until
