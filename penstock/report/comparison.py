"""Two sides of a pipeline as one document: their pairs, scores, decisions and flips."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from penstock.database.connections import Database
from penstock.ledger.paired_runs import PairedRuns
from penstock.ledger.reader import RunRecord
from penstock.monitor.agreement import DecisionAgreement, RankAgreement, ScoreAgreement
from penstock.privacy.masking import MaskingPolicy
from penstock.report.flips import mask_flips
from penstock.report.labelled_rows import LabelledAgreement
from penstock.report.paired_figures import compare_decision, compare_ranks, compare_score
from penstock.report.paired_rows import OutputColumns, PairedRows, PairRows
from penstock.run_types import interval_label
from penstock.spec.pipeline import Pipeline

FIRST_FLIPS = 10
"""Flips that a comparison shows by itself."""


@dataclass(frozen=True)
class Comparison:
    """How far two sides of a pipeline agree on the rows of the same intervals."""

    pipeline: str
    paired: PairedRuns
    pairs: tuple[PairRows, ...]
    columns: OutputColumns
    scores: tuple[ScoreAgreement, ...]
    ranks: tuple[RankAgreement, ...]
    """Of the scores of ranking models."""
    decisions: tuple[DecisionAgreement, ...]
    labelled: LabelledAgreement | None
    """The performance of both on the same rows. None without labels."""
    first_flips: tuple[dict[str, Any], ...]
    """The first rows of which a decision differs, with private keys masked."""

    @property
    def both(self) -> int:
        return sum(pair.both for pair in self.pairs)

    @property
    def only_a(self) -> int:
        return sum(pair.only_a for pair in self.pairs)

    @property
    def only_b(self) -> int:
        return sum(pair.only_b for pair in self.pairs)

    @property
    def flips(self) -> int:
        return sum(pair.flips for pair in self.pairs)


def compare_rows(
    database: Database, pipeline: Pipeline, paired: PairedRuns, groups: Mapping[str, tuple[str, ...]]
) -> PairedRows:
    """Join the rows of paired runs.

    Args:
        groups: By score column of a ranking model: the columns that group its rows.

    Raises:
        CompareRefused: a table is missing, or the two have other keys.
    """
    return PairedRows(database, pipeline.name, paired, pipeline.destination.keep, groups)


def read_comparison(
    rows: PairedRows, pipeline: Pipeline, masking: MaskingPolicy, labelled: LabelledAgreement | None
) -> Comparison:
    """Compute the figures of joined rows."""
    return Comparison(
        pipeline.name,
        rows.paired,
        rows.pairs,
        rows.columns,
        tuple(compare_score(rows, name) for name in rows.columns.scores),
        tuple(compare_ranks(rows, name) for name in rows.columns.scores if name in rows.groups),
        tuple(compare_decision(rows, name) for name in rows.columns.decisions),
        labelled,
        tuple(flip for batch in mask_flips(rows, masking, FIRST_FLIPS) for flip in batch),
    )


def comparison_object(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as an object for `--json`."""
    paired = comparison.paired
    return {
        "pipeline": comparison.pipeline,
        "a": paired.a.name,
        "b": paired.b.name,
        "rows": {name: getattr(comparison, name) for name in ("both", "only_a", "only_b", "flips")},
        "intervals": [_pair_object(pair) for pair in comparison.pairs],
        "intervals_only_a": list_labels(paired.only_a),
        "intervals_only_b": list_labels(paired.only_b),
        "intervals_of_the_same_run": list_labels(paired.same),
        "columns_only_a": comparison.columns.only_a,
        "columns_only_b": comparison.columns.only_b,
        "scores": [
            asdict(score) | {"same_decile": score.same_decile, "stays": score.stays} for score in comparison.scores
        ],
        "ranks": comparison.ranks,
        "decisions": [asdict(decision) | {"share": decision.share} for decision in comparison.decisions],
        "labelled": comparison.labelled,
        "first_flips": comparison.first_flips,
    }


def list_labels(found: tuple[RunRecord, ...]) -> list[str]:
    return [interval_label(run.interval) for run in found]


def _pair_object(rows: PairRows) -> dict[str, Any]:
    counts = {name: getattr(rows, name) for name in ("both", "only_a", "only_b", "flips")}
    a, b = rows.pair.a, rows.pair.b
    times = {"interval_start": a.interval_start, "interval_end": a.interval_end}
    return {"interval": rows.pair.label, **times, "run_a": a.run_id, "run_b": b.run_id, **counts}
