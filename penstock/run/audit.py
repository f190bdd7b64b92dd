"""The last check before publishing: reconcile the counts, and judge the interval as a whole. Writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from penstock.errors import ReconciliationFailed
from penstock.ledger.writer import Totals
from penstock.privacy.masking import MaskingPolicy
from penstock.quality import columns_needed, judge_shares, judge_whole
from penstock.run.file_refusals import count_unread
from penstock.run_types import LogNotes, Receipt, ScoringRun, Validation, Verdict, interval_label
from penstock.spec.expectation_types import Outcome
from penstock.spec.sources import LogSource
from penstock.spec.stages import FEATURES, SCORES
from penstock.wording import plural

VOLUME = "volume"
REASONS = "reasons"


@dataclass(frozen=True)
class AuditResult:
    """What the audit found. Without `halts` the run may be published."""

    totals: Totals
    validations: tuple[Validation, ...]
    halts: tuple[str, ...]
    score_quantiles: tuple[float, ...]
    new_alarms: tuple[Validation, ...] = ()
    """The alarms of drift that the run before did not have."""


def sum_counts(receipts: Sequence[Receipt]) -> Totals:
    """Sum the partitions' counts."""
    return Totals(
        extracted=sum(r.extracted for r in receipts),
        scored=sum(r.scored for r in receipts),
        quarantined=sum(r.quarantined for r in receipts),
        excluded=sum(r.excluded for r in receipts),
    )


def reconcile(
    run: ScoringRun, receipts: Sequence[Receipt], rows_in_database: int, planned: int | None = None
) -> Totals:
    """Check that every row is accounted for: `extracted = scored + quarantined + excluded`, and the database agrees.

    If all partitions read one snapshot, they must also have read as many rows as were counted in it: a table that is
    emptied or rewritten (TRUNCATE, ALTER TABLE) is empty in older snapshots.

    Raises:
        ReconciliationFailed: figures differ; the message names them.
    """
    totals = sum_counts(receipts)
    accounted = totals.scored + totals.quarantined + totals.excluded
    if totals.extracted != accounted:
        difference = (
            f"extracted {totals.extracted:,}, but scored {totals.scored:,} + quarantined {totals.quarantined:,} "
            f"+ excluded {totals.excluded:,} = {accounted:,}"
        )
        raise ReconciliationFailed(run.pipeline.name, interval_label(run.interval), difference)
    if totals.scored != rows_in_database:
        difference = f"scored {totals.scored:,}, but the history table has {plural(rows_in_database, 'row')} of the run"
        raise ReconciliationFailed(run.pipeline.name, interval_label(run.interval), difference)
    if planned not in (None, totals.extracted) and any(receipt.partition.snapshots for receipt in receipts):
        counted = plural(planned, "row was", "rows were")
        difference = (
            f"{counted} counted, but {totals.extracted:,} extracted in the same snapshot, "
            "because the table was emptied or rewritten meanwhile"
        )
        raise ReconciliationFailed(run.pipeline.name, interval_label(run.interval), difference)
    return totals


def audit_interval(
    run: ScoringRun,
    receipts: Sequence[Receipt],
    rows_in_database: int,
    malformed: Mapping[str, tuple[int, int]],
    planned: int | None = None,
    notes: Mapping[str, LogNotes] = MappingProxyType({}),
    reasons: tuple[int | None, int | None] = (None, None),
) -> AuditResult:
    """Judge the interval as a whole.

    Args:
        malformed: by log source, the numbers of unreadable lines and of all lines.
        planned: the number of rows that planning counted.
        notes: by log source, what a person should know of its lines.
        reasons: the numbers of rows with reasons and of those over the budget. None: no reasons were made.

    Raises:
        ReconciliationFailed: the counts do not add up.
    """
    pipeline = run.pipeline
    halted = tuple(dict.fromkeys(halt for receipt in receipts for halt in receipt.halts))
    totals = sum_counts(receipts) if halted else reconcile(run, receipts, rows_in_database, planned)
    totals = replace(totals, explained=reasons[0], over_budget=reasons[1])
    if not halted and pipeline.reasons is not None and totals.explained is None:
        raise ReconciliationFailed(pipeline.name, interval_label(run.interval), "no reasons were made of its scores")
    reason = next((receipt.first_reason for receipt in receipts if receipt.first_reason), "")
    counted = totals.extracted if halted or planned is None else planned
    volume = _judge_volume(run, totals, counted, reason, notes.get(pipeline.primary))
    found = [*volume, *(_judge_malformed(run, name, *counts) for name, counts in malformed.items())]
    found += [note for name, each in notes.items() for note in _describe_lines(name, each)]
    found += _judge_reasons(run, totals)
    if not halted:
        found += judge_shares(pipeline.expectations, [v for r in receipts for v in r.validations])
        rows = {
            pipeline.primary: totals.extracted - count_unread(pipeline.primary, receipts),
            FEATURES: totals.extracted - _refused_early(run, receipts),
            SCORES: totals.scored,
        }
        for stage, count in rows.items():
            found += _judge_stage(run, stage, count, receipts).validations
    verdict = Verdict(tuple(found))
    return AuditResult(totals, verdict.validations, halted + verdict.halts, merge_quantiles(receipts))


def _judge_reasons(run: ScoringRun, totals: Totals) -> list[Validation]:
    """Note the rows that the budget of `reasons` left without, or halt."""
    reasons, beyond = run.pipeline.reasons, totals.over_budget
    if reasons is None or not beyond:
        return []
    observed = "`penstock explain` makes the reasons of one row; or raise `budget` of `reasons`"
    chosen = (totals.explained or 0) + beyond
    if reasons.over_budget == "halt":
        return [Validation(REASONS, "within the budget", "critical", chosen, beyond, "halted", observed)]
    return [Validation(REASONS, "within the budget", "info", chosen, beyond, "noted", observed)]


def audit_challenger(run: ScoringRun, receipts: Sequence[Receipt], rows_in_database: int) -> AuditResult:
    """Judge a challenger's scores of an interval. Its rows are judged with the champion's.

    Raises:
        ReconciliationFailed: the counts do not add up.
    """
    halted = tuple(dict.fromkeys(halt for receipt in receipts for halt in receipt.halts))
    totals = sum_counts(receipts) if halted else reconcile(run, receipts, rows_in_database)
    considered = replace(totals, extracted=totals.scored + totals.quarantined)  # excluded: also beyond its share
    reason = next((receipt.first_reason for receipt in receipts if receipt.first_reason), "")
    found = _judge_volume(run, considered, considered.extracted, reason, None) if considered.extracted else []
    if not halted:
        expectations = {SCORES: run.pipeline.expectations_of(SCORES)}
        found += judge_shares(expectations, [v for r in receipts for v in r.validations])
        found += _judge_stage(run, SCORES, totals.scored, receipts).validations
    verdict = Verdict(tuple(found))
    return AuditResult(totals, verdict.validations, halted + verdict.halts, merge_quantiles(receipts))


def _refused_early(run: ScoringRun, receipts: Sequence[Receipt]) -> int:
    """Count the rows without features: refused at the source, or excluded by the query."""
    return sum(r.refused_at_source + r.excluded for r in receipts)


def _judge_volume(
    run: ScoringRun, totals: Totals, planned: int, reason: str, lines: LogNotes | None
) -> list[Validation]:
    limit, empty = run.pipeline.quarantine_limit, run.pipeline.empty
    found = []
    if planned != totals.extracted:
        counted = plural(planned, "row was", "rows were")
        observed = f"{counted} counted and {totals.extracted:,} read: the source changed while it was read"
        found.append(Validation(VOLUME, "rows as counted", "info", planned, 0, "noted", observed))
    if totals.extracted == 0 and empty == "halt":
        observed = f"source `{run.pipeline.primary}` has no rows; if that is normal, set `empty: publish`"
        if lines and lines.set_aside:
            observed = f"source `{run.pipeline.primary}` has no rows, and {_describe_set_aside(lines)}"
        found.append(Validation(VOLUME, "rows in the interval", "critical", 0, 0, "halted", observed))
    if totals.quarantined:
        found.append(judge_refused(totals.extracted, totals.quarantined, limit, reason))
    return found


def judge_refused(extracted: int, quarantined: int, limit: float, reason: str = "") -> Validation:
    """Judge how many rows were refused.

    Args:
        limit: the largest share that does not halt the run.
        reason: why the first row was refused.
    """
    share = quarantined / extracted if extracted else 0.0
    outcome: Outcome = "halted" if share > limit else "noted" if quarantined else "passed"
    observed = f"{share:.1%} were refused, the limit is {limit:.1%}" + (f"; the first: {reason}" if reason else "")
    return Validation(VOLUME, "quarantine_limit", "critical", extracted, quarantined, outcome, observed)


def _judge_malformed(run: ScoringRun, name: str, bad: int, lines: int) -> Validation:
    source = run.pipeline.sources[name]
    assert isinstance(source, LogSource)
    share = bad / lines if lines else 0.0
    outcome: Outcome = "halted" if share > source.max_malformed else "noted" if bad else "passed"
    observed = f"{share:.2%} cannot be read, the limit is {source.max_malformed:.2%}" if bad else ""
    return Validation(name, "max_malformed", "critical", lines, bad, outcome, observed, unit="lines")


def _describe_lines(name: str, notes: LogNotes) -> list[Validation]:
    found = []
    if notes.set_aside:
        count = len(notes.set_aside)
        found.append(Validation(name, "archives unpack", "warning", count, 0, "noted", _describe_set_aside(notes)))
    if notes.repeated:
        lines = plural(notes.repeated, "line has", "lines have")
        observed = f"{lines} a time that occurs twice in {notes.timezone}; the first occurrence is taken"
        found.append(Validation(name, "times occur once", "warning", notes.repeated, 0, "noted", observed))
    return found


def _describe_set_aside(notes: LogNotes) -> str:
    count = len(notes.set_aside)
    return f"{plural(count, 'archive is', 'archives are')} set aside: {'; '.join(notes.set_aside[:3])}"


def _judge_stage(run: ScoringRun, stage: str, rows: int, receipts: Sequence[Receipt]) -> Verdict:
    expectations = [e for e in run.pipeline.expectations_of(stage) if not e.is_row]
    if not expectations:
        return Verdict(())
    tables = [r.audit[stage] for r in receipts if stage in r.audit]
    nothing = pa.table({column: pa.array([], pa.float64()) for column in columns_needed(expectations)})
    sample = pa.concat_tables(tables, promote_options="permissive") if tables else nothing
    columns = next((r.columns[stage] for r in receipts if stage in r.columns), ())
    sampled, masking = bool(tables) and sample.num_rows < rows, MaskingPolicy(run.pipeline.private_columns)
    return judge_whole(stage, sample, rows, columns, expectations, sampled, masking)


def merge_quantiles(receipts: Sequence[Receipt]) -> tuple[float, ...]:
    """Merge the partitions' 101 quantiles of the first score column, each weighted by its rows."""
    weighted = [(r.score_quantiles, r.scored) for r in receipts if r.score_quantiles and r.scored]
    if not weighted:
        return ()
    values = np.concatenate([np.asarray(q) for q, _ in weighted])
    weights = np.concatenate([np.full(len(q), n / len(q)) for q, n in weighted])
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    places = (np.cumsum(weights) - weights / 2) / weights.sum()
    merged = np.interp(np.linspace(0, 1, 101), places, values)
    merged[0], merged[-1] = values[0], values[-1]
    return tuple(float(v) for v in merged)
