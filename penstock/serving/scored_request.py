"""What one request scored. Answers are made of it, and so is all that is recorded of a request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from penstock.run_types import Pins, Refusal, ScoredRows
from penstock.serving.source_snapshot import SourceSnapshot
from penstock.spec.pipeline import Pipeline

if TYPE_CHECKING:
    from penstock.models.booster import ModelVersion

RowStatus = Literal["scored", "refused", "excluded"]


@dataclass(frozen=True)
class RequestRows:
    """The rows that a request brings."""

    request_id: str
    primary: pa.Table
    others: Mapping[str, pa.Table]
    """The rows of each other source, which may have none."""

    @property
    def rows(self) -> int:
        return self.primary.num_rows

    @property
    def is_alone(self) -> bool:
        """Whether it is scored by itself, because it brings rows of other sources."""
        return any(table.num_rows for table in self.others.values())


@dataclass(frozen=True)
class RowOutcome:
    """What became of one row of a request."""

    status: RowStatus
    """excluded: the features query leaves the row out."""
    place: int | None = None
    """Position among the scored rows. None: it is not one of them."""
    refusal: Refusal | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the row has no score."""
        if self.refusal is not None:
            return tuple(reason.text for reason in self.refusal.reasons)
        return ("`features` leaves the row out",) if self.status == "excluded" else ()


@dataclass(frozen=True)
class ScoredRequest:
    """One request with its scores, in the order of its rows."""

    request: RequestRows
    pipeline: Pipeline
    models: Pins
    """The version of each step. The last one decides."""
    deciding: "ModelVersion"
    """That of the last step, which explains the scores."""
    partition: ScoredRows
    """What its partition gave. Rows of other requests may be among these."""
    outcomes: tuple[RowOutcome, ...]
    """One for each row."""
    left_out: tuple[Refusal, ...] = ()
    """Refused rows of the other sources."""
    snapshot: SourceSnapshot | None = None
    """The rows of the other sources, if the server holds them."""

    @property
    def scored(self) -> pa.Table:
        """Key, outputs, decisions and kept columns of the scored rows."""
        return self.partition.table.take(self._places)

    @property
    def features(self) -> pa.Table:
        """The features of the scored rows, in the same order."""
        return self.partition.features.table.take(self._places)

    @property
    def features_and_scores(self) -> pa.Table:
        """The features of the scored rows, beside their outputs and decisions."""
        rows, scored = self.features, self.scored
        for name in scored.column_names:
            if name not in rows.column_names:
                rows = rows.append_column(name, scored[name])
        return rows

    @property
    def outputs(self) -> pa.Table:
        """The outputs and decisions of the scored rows."""
        beside = {*self.pipeline.key, *self.pipeline.destination.keep} - set(self.pipeline.decide)
        scored = self.scored
        return scored.select([name for name in scored.column_names if name not in beside])

    @property
    def _places(self) -> "pa.Array[Any]":
        return pa.array([each.place for each in self.outcomes if each.place is not None], pa.int64())

    @property
    def refused(self) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """Position and reasons of each row without a score."""
        return tuple((at, each.reasons) for at, each in enumerate(self.outcomes) if each.status != "scored")
