"""What expectations and models found in rows: validations, refused rows, and the reasons of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from penstock.spec.expectation_types import Outcome, Severity
from penstock.spec.stages import KEY_IS_NULL

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
