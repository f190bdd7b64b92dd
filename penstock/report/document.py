"""One run as a document, read from the ledger alone. `sections` lays it out, `card` and `penstock show` render it."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from penstock.database.connections import Database
from penstock.ledger.acceptance import is_acceptable
from penstock.ledger.challengers import find_challengers
from penstock.ledger.delivery_records import DeliveryRecord, FailingTarget, list_deliveries, list_failing
from penstock.ledger.drift_answers import DriftAnswer, answers_about
from penstock.ledger.lineage import count_earlier_runs, earlier_runs, previous_published, replaced_by, replaced_runs
from penstock.ledger.pointer_moves import MoveRecord, moves_of
from penstock.ledger.profiles import read_profiles
from penstock.ledger.quarantine import RefusalCount, count_refusals, quarantined_rows
from penstock.ledger.reader import PartitionRecord, RunRecord, partitions_of, validations_of
from penstock.monitor.score_shift import ScoreShift, measure_shift
from penstock.privacy.masking import is_hash
from penstock.report.drift import RunDrift, drift_object, measure_run
from penstock.run_types import Validation

SAMPLE_KEYS = 5
"""Most keys of refused rows that a document shows."""
_READ_KEYS = 50
"""Rows to read for them: a row that was refused at two stages has two."""


@dataclass(frozen=True)
class StepTime:
    """The time of one step in all partitions together."""

    step: str
    seconds: float
    share: float
    """Of the seconds of all steps."""
    rows_per_second: float | None


@dataclass(frozen=True)
class RunDocument:
    """One run, what it found, and the runs around it."""

    run: RunRecord
    partitions: Sequence[PartitionRecord]
    validations: Sequence[Validation]
    """The worst outcome first."""
    refusals: Sequence[RefusalCount]
    """Most frequent first."""
    refused_keys: Sequence[str]
    """Keys of the first refused rows, as text. None if a key column is private."""
    before: RunRecord | None
    """The published run of the interval before, with which the scores are compared."""
    earlier: Sequence[RunRecord]
    """The last runs of the same interval that started before, newest first."""
    earlier_count: int
    """How many there are in all."""
    replaced: Sequence[RunRecord]
    """The runs that this run took over or superseded."""
    successor: RunRecord | None
    """The run that took this one over, or superseded it."""
    drift: RunDrift
    """Its features and scores against earlier rows."""
    drift_answers: Mapping[str, DriftAnswer]
    """By column: what a person answered to its alarm."""
    moves: Sequence[MoveRecord]
    """When a person published the run again, or another run in its place, the oldest first."""
    acceptable: bool
    """Whether the audit halted the run, and `penstock accept` can publish it."""
    challengers: Sequence[RunRecord]
    """The runs of challengers that scored the same rows, by their variants."""
    deliveries: Sequence[DeliveryRecord]
    """Of its rows to other systems, the newest first."""
    failing: Sequence[FailingTarget]
    """The targets that fail, and so have not got all of these rows."""

    @property
    def shift(self) -> ScoreShift | None:
        return shift_between(self.run, self.before)

    @property
    def outcomes(self) -> dict[str, int]:
        """Number of validations by outcome, the worst first."""
        return dict(Counter(v.outcome for v in self.validations))

    @property
    def rows_per_second(self) -> float | None:
        """Extracted rows a second, from claim to end."""
        seconds, rows = self.run.seconds, self.run.rows_extracted
        return rows / seconds if seconds and rows else None

    @property
    def steps(self) -> list[StepTime]:
        """The partitions' steps in order, their seconds added up: more than wall time if partitions overlap."""
        spent: dict[str, float] = defaultdict(float)
        for partition in self.partitions:
            for step, seconds in partition.seconds.items():
                spent[step] += seconds
        rows, total = sum(p.rows_extracted for p in self.partitions), sum(spent.values())
        return [
            StepTime(step, seconds, seconds / total if total else 0.0, rows / seconds if seconds and rows else None)
            for step, seconds in spent.items()
        ]

    @property
    def retried(self) -> list[PartitionRecord]:
        return [partition for partition in self.partitions if partition.attempts > 1]

    @property
    def slowest(self) -> PartitionRecord | None:
        return max(self.partitions, key=partition_seconds, default=None)


def read_document(database: Database, run: RunRecord) -> RunDocument:
    """Read what the ledger has about a run."""
    with database.reading_together():
        profiles = read_profiles(database, run.run_id)
        delivered = list_deliveries(database, run_id=run.run_id)
        return RunDocument(
            run,
            partitions_of(database, run.run_id),
            validations_of(database, run.run_id),
            count_refusals(database, run.run_id),
            _sample_keys(database, run.run_id),
            previous_published(database, run),
            earlier_runs(database, run),
            count_earlier_runs(database, run),
            replaced_runs(database, run),
            replaced_by(database, run),
            measure_run(profiles),
            answers_about(database, run, profiles),
            moves_of(database, run.run_id),
            is_acceptable(database, run),
            find_challengers(database, run.run_id),
            delivered,
            _find_failing(database, run, delivered),
        )


def _find_failing(database: Database, run: RunRecord, delivered: Sequence[DeliveryRecord]) -> list[FailingTarget]:
    lacking = {each.target for each in delivered if each.is_open}
    return [each for each in list_failing(database, run.pipeline) if each.target in lacking] if lacking else []


def _sample_keys(database: Database, run_id: str) -> list[str]:
    """Return the keys of the first refused rows, each once. A key of several columns is `column=value, …`."""
    found: dict[str, None] = {}
    for row in quarantined_rows(database, run_id=run_id, limit=_READ_KEYS):
        key = json.loads(row.key)
        if any(is_hash(value) for value in key.values()):
            return []
        found[_write_key(key)] = None
    return list(found)[:SAMPLE_KEYS]


def _write_key(key: dict[str, Any]) -> str:
    if len(key) == 1:
        return str(next(iter(key.values())))
    return ", ".join(f"{column}={value}" for column, value in key.items())


def shift_between(run: RunRecord, before: RunRecord | None) -> ScoreShift | None:
    """Compare the scores of two runs. None if there is nothing to compare."""
    if before is None:
        return None
    return measure_shift(run.score_quantiles, run.rows_scored or 0, before.score_quantiles, before.rows_scored or 0)


def partition_seconds(partition: PartitionRecord) -> float:
    return sum(partition.seconds.values())


def run_object(run: RunRecord, shift: ScoreShift | None, link: str | None) -> dict[str, Any]:
    """Return a run as JSON shows it. `link` is the address of its flow run."""
    record = {field.name: getattr(run, field.name) for field in fields(run)}
    record["memory"] = json.loads(run.memory) if run.memory else None
    figures = {"seconds": run.seconds, "cost_per_million": run.cost_per_million, "psi": shift.psi if shift else None}
    return record | figures | {"flow_run_link": link}


def document_object(document: RunDocument, link: str | None) -> dict[str, Any]:
    """Return the document as JSON shows it: the run object, and the sections."""
    shift, successor = document.shift, document.successor
    return (
        run_object(document.run, shift, link)
        | {
            "outcomes": document.outcomes,
            "validations": [asdict(v) | {"detail": v.detail} for v in document.validations],
            "refusals": [asdict(refusal) for refusal in document.refusals],
            "refused_keys": document.refused_keys,
            "steps": [asdict(step) for step in document.steps],
            "loaded_partitions": document.partitions,
            "compared_with": document.before.run_id if document.before else None,
            "score_shift": asdict(shift) | {"reading": shift.reading} if shift else None,
            "drift": [drift_object(each) for each in document.drift.compared],
            "drift_answers": list(document.drift_answers.values()),
            "replaced_runs": [_summary_object(run) for run in document.replaced],
            "replaced_by": _summary_object(successor) if successor else None,
            "moves": [asdict(move) for move in document.moves],
            "acceptable": document.acceptable,
            "challengers": [_challenger_object(challenger, document.run) for challenger in document.challengers],
            "earlier_runs": [_summary_object(run) for run in document.earlier],
        }
        | _deprecated_keys(document)
    )


def _summary_object(run: RunRecord) -> dict[str, Any]:
    names = ("run_id", "state", "reason", "error", "started_at", "published_at", "retired_at", "flow_run_id")
    return {name: getattr(run, name) for name in names}


def _challenger_object(challenger: RunRecord, champion: RunRecord) -> dict[str, Any]:
    shift = shift_between(challenger, champion)
    names = ("model", "variant", "share", "rows_extracted", "rows_scored", "rows_quarantined", "rows_excluded")
    return (
        _summary_object(challenger)
        | {name: getattr(challenger, name) for name in names}
        | {"psi": shift.psi if shift else None}
    )


def _deprecated_keys(document: RunDocument) -> dict[str, Any]:
    """Return the keys of version 0.1 that have another name since 0.2, until 0.3 drops them."""
    return {
        "quarantine": [{"stage": r.stage, "reasons": ", ".join(r.reasons), "rows": r.rows} for r in document.refusals],
        "step_seconds": {step.step: round(step.seconds, 4) for step in document.steps},
    }
