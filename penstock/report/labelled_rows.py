"""The performance of two scorings on the same rows: those that both scored, and whose labels count."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.database.connections import Database
from penstock.database.types import ExactNumber
from penstock.errors import NotMeasured
from penstock.labels.judged_rows import Question, SliceSums, floats_of, has_lost_labels, judge_scores, score_column
from penstock.labels.key_text import write_key_forms
from penstock.labels.performance import PrunedLabels, find_pruned
from penstock.ledger.label_sources import read_label_source
from penstock.ledger.paired_runs import RunPair
from penstock.monitor.estimates import Estimate
from penstock.monitor.performance_sums import SURVIVAL
from penstock.report.paired_rows import PairedRows


@dataclass(frozen=True)
class LabelledAgreement:
    """The metrics of both scorings of one column, on the same labelled rows."""

    column: str
    rows: int
    """Rows that have both scores."""
    judged: int
    """Those of them that are in the metrics."""
    metrics_a: dict[str, Estimate]
    metrics_b: dict[str, Estimate]
    pruned: PrunedLabels | None = None
    """Runs of A whose rows are left out, for their labels were pruned."""


def measure_labelled(database: Database, rows: PairedRows, question: Question) -> LabelledAgreement | None:
    """Measure both scorings on the rows that both scored.

    None where no label that counts was collected, where no score is in both, for rankings and survival models, whose
    rows are not judged one by one, and for models with several classes.

    Raises:
        LabelValue: a label of a binary model is neither 0 nor 1.
        NotMeasured: the scores are no probabilities, or the two models solve unlike problems.
    """
    column = score_column(question.pipeline)
    source = read_label_source(database, question.pipeline.name)
    if column not in rows.columns.scores or source is None or question.upto == 0:
        return None
    others = ("ranking", "multiclass", *SURVIVAL)
    if any(question.problem_of(run) in others for pair in rows.paired.pairs for run in (pair.a, pair.b)):
        return None
    sums: list[SliceSums | None] = [None, None]
    for pair, values in rows.read_scores(column):
        if has_lost_labels(pair.a, source):
            continue
        for side, part in enumerate(_sum_up(database, rows, question, pair, values)):
            known = sums[side]
            sums[side] = part if known is None else known + part
    one, other = sums
    pruned = find_pruned(database, [pair.a for pair in rows.paired.pairs])
    if one is None or other is None:
        return LabelledAgreement(column, 0, 0, {}, {}, pruned) if pruned else None
    return LabelledAgreement(column, one.scored, one.judged, one.sums.metrics(), other.sums.metrics(), pruned)


def _sum_up(
    database: Database, rows: PairedRows, question: Question, pair: RunPair, values: Sequence[tuple[Any, ...]]
) -> tuple[SliceSums, SliceSums]:
    """Return the sums of both sides over some rows of a pair.

    Raises:
        NotMeasured: the two models solve unlike problems.
    """
    problem, other = (question.problem_of(run) for run in (pair.a, pair.b))
    if problem != other:
        what = f"`{pair.a.model}` and `{pair.b.model}` on the same rows"
        raise NotMeasured(what, f"one is a {problem}, the other a {other}", "Compare models of one kind.")
    *key, a, b = zip(*values, strict=True)
    keys = write_key_forms(_key_table(rows, key), question.pipeline.key, question.masking)
    scores = floats_of(a), floats_of(b)
    both = ~np.isnan(scores[0]) & ~np.isnan(scores[1])
    judged = [judge_scores(database, run, question, keys, s) for run, s in zip((pair.a, pair.b), scores, strict=True)]
    one, two = (part.sum_up(problem, both, question.labels.quantiles) for part in judged)
    return one, two


def _key_table(rows: PairedRows, key: Sequence[Sequence[Any]]) -> pa.Table:
    """Return the columns of the key. Exact numbers come as text."""
    kinds = rows.columns.key
    columns = {
        name: [Decimal(value) for value in values] if isinstance(kind, ExactNumber) else list(values)
        for (name, kind), values in zip(kinds.items(), key, strict=True)
    }
    return pa.table(columns)
