"""Lay out what is known of one score, for the renderers of run documents."""

import json
from collections.abc import Sequence
from typing import Any

from penstock.explain.promotions import Promotion
from penstock.explain.scores import OTHER_SCORES, KeyRecord, KeyScore, StoredReason
from penstock.labels.stored import Label
from penstock.ledger.destinations import LIVE
from penstock.ledger.quarantine import QuarantinedRow
from penstock.report.blocks import (
    Bar,
    Block,
    Code,
    Column,
    Inline,
    Items,
    Line,
    Paragraph,
    RunName,
    Section,
    Status,
    Table,
)
from penstock.report.drift import RunDrift, name_baseline
from penstock.report.sections import DIGEST, describe_models, describe_move
from penstock.run.reasons_table import BUDGET, NONE, NOT_SCORED
from penstock.run_types import interval_label
from penstock.spec.pipeline import Pipeline
from penstock.timezones import describe_moment
from penstock.wording import plural

_WHY_NONE = {
    BUDGET: "The budget of `reasons` left this row without.",
    NONE: "No feature moves the score in the direction that `reasons` asks for.",
    NOT_SCORED: "The last step of `models` left this row out, so its model has no reasons.",
}


def build_sections(
    pipeline: Pipeline,
    record: KeyRecord,
    promotions: Sequence[Promotion],
    origin: str,
    absence: str,
    zone: str = "UTC",
) -> list[Section]:
    """Lay a record out. A section without content is left out.

    Args:
        promotions: Moves of aliases to the models of the run.
        origin: Where the reasons come from, or why there are none.
        absence: Why no run has the key. Empty if one has.
        zone: Time zone of the times.
    """
    head = ", ".join(f"{column} {text}" for column, text in record.row_key.values.items())
    sections = [Section((f"{pipeline.name}: {head}",), _describe_run(pipeline, record, promotions, absence, zone))]
    if record.shown:
        sections.append(Section(("Score",), [Items(_list_columns(record.shown))]))
        sections.append(Section((f"Reasons: {origin}",), _list_reasons(record.reasons)))
    if record.labels:
        sections.append(Section(("Labels",), [Items([_describe_label(label, zone) for label in record.labels])]))
    if record.drift.baseline:
        title = ("Drift of its run against ", Code(name_baseline(record.drift.baseline)))
        sections.append(Section(title, [Items(_list_drift(record.drift))]))
    if record.refusals:
        sections.append(Section(("Refused",), [Items([_describe_refusal(row, zone) for row in record.refusals])]))
    if record.notes:
        sections.append(Section(("Notes of its partition and run",), [Items([(note,) for note in record.notes])]))
    if record.others:
        sections.append(Section((f"Other scores of this key: {len(record.others)}",), [_list_others(record, zone)]))
    if record.served:
        sections.append(Section(("Served to requests, the newest first",), [_list_served(record, zone)]))
    return sections


def _describe_run(
    pipeline: Pipeline, record: KeyRecord, promotions: Sequence[Promotion], absence: str, zone: str
) -> list[Block]:
    gone: list[Line] = [
        (f"Rows of this key were forgotten {describe_moment(at, zone)}.",) for at in record.forgotten_at
    ]
    if record.shown is None:
        return [Items([*gone, *([(absence,)] if absence else [])])]
    run = record.shown.run
    same = (pipeline.fingerprint, pipeline.for_challengers.fingerprint)
    changed = "" if run.spec_fingerprint in same else ", which has changed since"
    lines: list[Line] = [
        (
            "Run ",
            RunName(run.run_id, run.flow_run_id),
            f" of {interval_label(run.interval)}: ",
            Status(run.state),
            "" if run.variant == LIVE else f", variant {run.variant}",
            f", partition {record.shown.partition + 1} of {run.partitions or '–'}",
        ),
        (*describe_models(run.pins), ", spec ", Code(run.spec_fingerprint[:DIGEST]), changed),
    ]
    if run.published_at:
        lines.append((f"Published {describe_moment(run.published_at, zone)}",))
    if record.seal:
        lines.append((f"Seal {record.seal}",))
    lines += [_describe_promotion(promotion, zone) for promotion in promotions]
    lines += [describe_move(run, move, zone) for move in record.moves]
    return [Items([*gone, *lines])]


def _describe_promotion(promotion: Promotion, zone: str) -> Line:
    by = f" by {promotion.moved_by}" if promotion.moved_by else ""
    note = f": {promotion.note}" if promotion.note else ""
    at = describe_moment(promotion.moved_at, zone)
    return (f"Alias {promotion.alias} moved to {promotion.model} {at}{by}{note}",)


def _list_columns(score: KeyScore) -> list[Line]:
    return [(f"{name} ", Code(write_cell(value))) for name, value in score.columns.items()]


def write_cell(value: Any) -> str:
    """Write a stored value. NULL is a dash."""
    return "–" if value is None else repr(value) if isinstance(value, float) else str(value)


def _shorten(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else write_cell(value)


def _list_reasons(reasons: Sequence[StoredReason]) -> list[Block]:
    stated = [Paragraph((_WHY_NONE.get(reason.text, reason.text),)) for reason in reasons if not reason.rank]
    ranked = [reason for reason in reasons if reason.rank]
    if not ranked:
        return list(stated)
    longest = max(abs(reason.contribution or 0.0) for reason in ranked)
    columns = [Column("", number=True), Column("reason"), Column("feature"), Column("value")]
    columns += [Column("adds", number=True), Column("to the raw score")]
    rows: list[Sequence[Inline]] = [
        (
            str(reason.rank),
            reason.text,
            reason.feature or "",
            write_cell(reason.value),
            f"{reason.contribution or 0.0:+.4f}",
            Bar((reason.contribution or 0.0) / longest if longest else 0.0),
        )
        for reason in ranked
    ]
    return [*stated, Table(columns, rows)]


def _describe_label(label: Label, zone: str) -> Line:
    value = "taken back" if label.value == "null" else str(json.loads(label.value))
    return (Code(value), f", seen {describe_moment(label.seen_at, zone)}")


def _list_drift(drift: RunDrift) -> list[Line]:
    """List the columns that have drifted, or say that none has."""
    found: list[Line] = [
        (Code(each.profile.column), f" {each.profile.alarm}: PSI {each.psi:.2f}, NULLs {each.null_change:+.1%}")
        for each in drift.compared
        if each.profile.alarm
    ]
    return found or [(f"no alarm in {plural(len(drift.compared), 'column')}",)]


def _describe_refusal(row: QuarantinedRow, zone: str) -> Line:
    reasons = "; ".join(row.reasons)
    where = interval_label(row.interval) if row.interval else row.interval_key
    return f"{row.stage} in run ", Code(row.run_id[:8]), f" of {where}: {reasons} ({row.fate})"


def _list_served(record: KeyRecord, zone: str) -> Table:
    columns = [Column(name) for name in ("recorded", "run", "request", "row", "model", "status", "score or reasons")]
    rows: list[Sequence[Inline]] = [
        (
            describe_moment(row.recorded_at, zone),
            RunName(row.run.run_id, None),
            Code(row.request_id),
            str(row.seq),
            str(row.run.model),
            row.status,
            ", ".join(f"{name} {_shorten(value)}" for name, value in list((row.outputs or {}).items())[:2])
            or "; ".join(row.reasons),
        )
        for row in record.served
    ]
    return Table(columns, rows)


def _list_others(record: KeyRecord, zone: str) -> Table:
    columns = [
        Column("run"),
        Column("interval"),
        Column("variant"),
        Column("state"),
        Column("model"),
        Column("started"),
    ]
    columns.append(Column("score"))
    rows: list[Sequence[Inline]] = [
        (
            RunName(other.run.run_id, other.run.flow_run_id),
            interval_label(other.run.interval),
            other.run.variant,
            Status(other.run.state),
            other.run.models,
            describe_moment(other.run.started_at, zone),
            ", ".join(f"{name} {_shorten(value)}" for name, value in list(other.columns.items())[:2]),
        )
        for other in record.others[:OTHER_SCORES]
    ]
    return Table(columns, rows)
