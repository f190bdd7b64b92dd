"""The values that the steps of a run exchange. Rows are Arrow tables, all others are frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import pyarrow as pa

from penstock.interval import DataInterval
from penstock.resources.memory import MemoryPlan
from penstock.resources.usage import Spent
from penstock.spec.expectation_types import Outcome, Severity
from penstock.spec.pipeline import KEY_IS_NULL, Pipeline


@dataclass(frozen=True)
class ModelPin:
    """The one model version that a run scores with. Resolved once."""

    name: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


Pins = Mapping[str, ModelPin]
"""Each step's version, in the order that they run. The last one decides."""


def deciding_model(pins: Pins) -> ModelPin:
    """Return the version that decides."""
    return pins[next(reversed(list(pins)))]


@dataclass(frozen=True)
class ScoringRun:
    """One try to score one data interval with one version of each model: the input of every step of the run."""

    run_id: str
    pipeline: Pipeline
    interval: DataInterval | None
    """None for a snapshot."""
    model: ModelPin
    """The version that decides: of several steps, that of the last."""
    lease_token: str
    variant: str = "live"
    flow_run_id: str | None = None
    steps: Pins = field(default_factory=dict)
    """Every step's version, where the pipeline has `models`."""

    @property
    def interval_key(self) -> str:
        return interval_key(self.interval)

    @property
    def label(self) -> str:
        return f"{self.pipeline.name} {interval_label(self.interval)}"


def interval_key(interval: DataInterval | None) -> str:
    """The interval's name in the ledger. A snapshot has one name for ever, so that the newest supersedes."""
    return interval.key if interval else "snapshot"


def interval_label(interval: DataInterval | None) -> str:
    return interval.label if interval else "snapshot"


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


Unit = Literal["rows", "lines", "values"]
"""What a validation counts: rows, lines of a log, or the values of a whole column."""


@dataclass(frozen=True)
class Validation:
    """The result of one expectation on one stage of one partition, or of the whole interval (`partition` -1)."""

    stage: str
    expectation: str
    severity: Severity
    evaluated: int
    unexpected: int
    outcome: Outcome
    observed: str = ""
    """Details of a validation beyond its counts: sample values, a figure, a share and its limit."""
    partition: int = -1
    unit: Unit = "rows"
    released: int = 0
    """Of the unexpected rows, those that were released from quarantine before, and so stay."""

    @property
    def note(self) -> str:
        """The details as text, and how many rows a release lets through."""
        released = f"{self.released:,} of them released before" if self.released else ""
        return "; ".join(filter(None, (self.observed, released)))

    @property
    def detail(self) -> str:
        """The counts and the note in one line: `5 of 6 rows, e.g. 'b'`. The note alone describes a whole column."""
        counted = self.unexpected and self.unit != "values"
        counts = f"{self.unexpected:,} of {self.evaluated:,} {self.unit}" if counted else ""
        return ", ".join(filter(None, (counts, self.note)))


@dataclass(frozen=True)
class Verdict:
    """What the expectations of one stage found in one batch. The caller decides how to react."""

    validations: tuple[Validation, ...]
    refused: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Position of each row to quarantine, with the labels of the expectations that it failed."""

    @property
    def halts(self) -> tuple[str, ...]:
        """One line for each critical expectation that failed."""
        failed = [v for v in self.validations if v.outcome == "halted"]
        return tuple(f"{v.stage}: {v.expectation}{f' ({v.detail})' if v.detail else ''}" for v in failed)


@dataclass(frozen=True)
class Misfit:
    """A value that its row cannot be scored or stored with."""

    feature: str
    """The model's feature, or the column, that has the value."""
    why: str
    """What is wrong with the value, without the value itself."""
    value: str | None = None
    """The value as text. None if `why` needs no example."""
    column: str | None = None
    """The column that the feature was read from, where a step's `inputs` name another one."""
    step: str | None = None
    """The step of `models` that cannot take the value."""
    masked: bool = False
    """Whether `value` is the mask of a private value."""

    @property
    def text(self) -> str:
        """The reason as the quarantine stores it."""
        shown = "" if self.value is None else f" {self.value}" if self.masked else f" '{self.value}'"
        return f"{'' if self.step is None else f'step {self.step}: '}`{self.feature}`: {self.why}{shown}"


@dataclass(frozen=True)
class NullKey:
    """A row without a key."""

    @property
    def text(self) -> str:
        """The reason as the quarantine stores it."""
        return KEY_IS_NULL


@dataclass(frozen=True)
class FailedExpectation:
    """An expectation that the row did not meet."""

    label: str

    @property
    def text(self) -> str:
        """The reason as the quarantine stores it."""
        return self.label


@dataclass(frozen=True)
class BrokenRecord:
    """Lines of a text file that are no row."""

    why: str
    """What is wrong with the lines, without a value of theirs."""

    @property
    def text(self) -> str:
        """The reason as the quarantine stores it."""
        return self.why


Reason = Misfit | NullKey | FailedExpectation | BrokenRecord
"""Why a row is refused. Its `text` is made when the refusal is written or shown. Releases compare stored texts."""


@dataclass(frozen=True)
class Refusal:
    """One quarantined row: where it was refused, why, and the row as it was read."""

    stage: str
    source: str
    key: str
    """The key columns' values as JSON."""
    reasons: tuple[Reason, ...]
    """Private values are masked."""
    row: str
    """The row as JSON, private columns masked."""
    digest: str
    """Identifies the row to a release."""


@dataclass(frozen=True)
class RefusedRow:
    """A row of a text file, or a document, that cannot be read."""

    file: str
    line: int
    """0: the row is the file, which is a document."""
    reason: Misfit | BrokenRecord
    text: str | None
    """The lines as they are in the file. None if the source has private columns."""


@dataclass(frozen=True)
class RefusedRows:
    """The rows of a source's text files that cannot be read, of one run's interval."""

    rows: tuple[RefusedRow, ...] = ()
    of: int = 0
    """The number of all rows of the files."""
    limit: float = 1.0
    """The largest share that does not halt the run."""
    without_text: int = 0
    """The number of documents that can be read and have pages and no text."""


Waivers = Mapping[str, frozenset[str]]
"""By a refused row's digest: the texts of the reasons that a release waives."""


@dataclass(frozen=True)
class ExtractedRows:
    """The rows of one partition as read: the primary slice, and the other sources whole."""

    primary: pa.Table
    others: dict[str, pa.Table]
    waivers: Waivers = field(default_factory=dict)
    refused: Mapping[str, RefusedRows] = field(default_factory=dict)
    """By source of text files: the rows that cannot be read. Only the first partition has them."""
    stray: pa.Table | None = None
    """Rows of the primary source's files whose event time is outside the interval of their file. Only the first
    partition has them, and only with `stray: quarantine`."""

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in Arrow's form."""
        return sum(table.nbytes for table in (self.primary, *self.others.values()))


@dataclass(frozen=True)
class Features:
    """The rows that passed the gates, one per key, ready for the model."""

    table: pa.Table
    """Key columns, feature columns, kept columns."""
    extracted: int
    """Primary rows that were read."""
    excluded: int
    """Primary rows that the features query dropped."""
    refusals: tuple[Refusal, ...]
    validations: tuple[Validation, ...]
    halts: tuple[str, ...] = ()
    audit: dict[str, pa.Table] = field(default_factory=dict)
    """By stage: the columns that aggregate expectations need, sampled beyond `audit_rows`."""
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By stage: the columns there are, for expectations about the schema."""
    waivers: Waivers = field(default_factory=dict)
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By step of `models`, in their order: the columns of the table that it has added."""

    @property
    def output_columns(self) -> list[str]:
        """All columns that steps have added."""
        return [column for columns in self.outputs.values() for column in columns]


@dataclass(frozen=True)
class ScoredRows:
    """Key, score and kept columns of one partition, and all that was found on the way."""

    table: pa.Table
    features: Features
    refusals: tuple[Refusal, ...]
    validations: tuple[Validation, ...]
    halts: tuple[str, ...]
    audit: dict[str, pa.Table] = field(default_factory=dict)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    quantiles: tuple[float, ...] = ()
    """The first score column's values at 0 %, 1 % … 100 %."""


@dataclass(frozen=True)
class Receipt:
    """The result of a partition: counts, and no rows except the few columns that the audit needs."""

    partition: Partition
    extracted: int
    scored: int
    quarantined: int
    excluded: int
    refused_at_source: int
    """Of the quarantined rows, those that never became features."""
    validations: tuple[Validation, ...]
    halts: tuple[str, ...]
    seconds: dict[str, float]
    """Wall seconds by step."""
    spent: Spent | None = None
    score_quantiles: tuple[float, ...] = ()
    """The first score column's values at 0 %, 1 % … 100 %."""
    audit: dict[str, pa.Table] = field(default_factory=dict)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    first_reason: str = ""
    """Why the first quarantined row was refused, private values masked. Empty: no row was."""
