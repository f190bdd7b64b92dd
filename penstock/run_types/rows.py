"""The rows of one partition from step to step, and its receipt."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from penstock.resources.usage import Spent
from penstock.run_types.chosen_rows import ChosenRows
from penstock.run_types.findings import Refusal, RefusedRows, Validation, Waivers
from penstock.run_types.profiles import Profile, SlicedProfile
from penstock.run_types.source_plan import Partition


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
    profile: Profile = field(default_factory=dict)
    """With `drift` and `models`: the features of the rows that each step has seen."""
    slices: SlicedProfile = field(default_factory=dict)
    """With `drift.slices`: the same by slice."""

    @property
    def output_columns(self) -> list[str]:
        """All columns that steps have added."""
        return [column for columns in self.outputs.values() for column in columns]


@dataclass(frozen=True)
class ReasonRows:
    """What a partition has for the reasons of its scores, which are made when all partitions are loaded."""

    stated: pa.Table
    """Key columns, then `rank`, `feature`, `contribution`, `value`, `text`: one line for each row that `when` chooses.

    It says `budget` until the row is explained, or `not scored`.
    """
    chosen: ChosenRows


@dataclass(frozen=True)
class ScoredRows:
    """Key, score and kept columns of one partition, and all that was found on the way."""

    table: pa.Table
    features: Features
    """The features of these rows, in the same order."""
    refusals: tuple[Refusal, ...]
    validations: tuple[Validation, ...]
    halts: tuple[str, ...]
    audit: dict[str, pa.Table] = field(default_factory=dict)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    quantiles: tuple[float, ...] = ()
    """The first score column's values at 0 %, 1 % … 100 %."""
    reasons: ReasonRows | None = None
    """None: the pipeline asks for none."""
    profile: Profile = field(default_factory=dict)
    """With `drift`: the features of all rows that reached the model, and the scores of the rows above."""
    slices: SlicedProfile = field(default_factory=dict)
    """With `drift.slices`: the same by slice."""


@dataclass(frozen=True)
class Receipt:
    """The result of a partition: counts, the few columns that the audit needs, and rows that may get reasons."""

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
    chosen: ChosenRows | None = None
    """Rows to explain. None: the pipeline asks for no reasons, or the run has added them to those of others."""
    profile: Profile = field(default_factory=dict)
    """With `drift`: the counts of its features and scores."""
    slices: SlicedProfile = field(default_factory=dict)
    """With `drift.slices`: the same by slice."""
    first_reason: str = ""
    """Why the first quarantined row was refused, private values masked. Empty: no row was."""
    challengers: "tuple[ChallengerResult, ...]" = ()
    """What the challengers made of the same rows."""

    @property
    def all_spent(self) -> tuple[Spent, ...]:
        """What the partition cost with its challengers. Bytes are the champion's."""
        others = (each.receipt.spent for each in self.challengers if each.receipt)
        mine = (self.spent,) if self.spent else ()
        return (*mine, *(replace(spent, bytes_written=0) for spent in others if spent))

    @property
    def lost_challengers(self) -> frozenset[str]:
        """IDs of the challengers' runs that have failed or were halted."""
        return frozenset(each.run_id for each in self.challengers if each.receipt is None or each.receipt.halts)


@dataclass(frozen=True)
class ChallengerResult:
    """What a challenger made of one partition: a receipt, or an error."""

    run_id: str
    receipt: Receipt | None = None
    error: str = ""
    halted: bool = False
    """Whether the error is that of a gate."""


def gather_receipts(receipts: Iterable[Receipt]) -> tuple[list[Receipt], ChosenRows]:
    """Take the rows to explain out of each receipt as it comes, so that no more are held than the budget explains.

    Returns:
        The receipts without these rows, and the rows of all partitions.
    """
    gathered, chosen = [], ChosenRows()
    for receipt in receipts:
        chosen = chosen.add(receipt.chosen)
        gathered.append(replace(receipt, chosen=None))
    return gathered, chosen
