"""The sections of a run's document: their order and all of their texts, for every renderer."""

from collections.abc import Sequence

from penstock.ledger.acceptance import HALTED, accept_command
from penstock.ledger.destinations import LIVE
from penstock.ledger.pointer_moves import MoveRecord
from penstock.ledger.reader import RunRecord
from penstock.monitor.score_shift import ScoreShift
from penstock.report.blocks import (
    SHORT_ID,
    Alert,
    Block,
    Code,
    Column,
    Command,
    FlowRunPage,
    Histogram,
    Inline,
    Items,
    Line,
    Paragraph,
    RunName,
    Section,
    Status,
    Strong,
    Table,
)
from penstock.report.delivery import describe_failing, list_deliveries
from penstock.report.document import RunDocument, partition_seconds, shift_between
from penstock.report.drift import describe_drift
from penstock.resources.memory import read_fit
from penstock.resources.usage import format_bytes
from penstock.run_types import Pins, Validation, interval_label
from penstock.spec.parts import SANDBOX
from penstock.timezones import describe_moment

DIGEST = 12
"""Characters of a digest that are shown."""
_CHALLENGER_COUNTS = ("scored", "refused", "PSI to the champion")


def build_sections(document: RunDocument, zone: str = "UTC") -> list[Section]:
    """Lay a document out. The first section is the run itself. A section without content is left out.

    Args:
        zone: Time zone of the times. An interval is named in its pipeline's own zone.
    """
    run, earlier = document.run, document.earlier
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in document.outcomes.items())
    head: Line = (f"{run.pipeline} {interval_label(run.interval)}: ", Status(run.state))
    sections = [Section(head, [*_describe_run(document, zone), *_count_rows(document)])]
    if document.validations:
        sections.append(Section((f"Validations: {outcomes}",), [_list_validations(document)]))
    if document.refusals:
        sections.append(Section(("Quarantine",), _list_refusals(document)))
    if run.score_quantiles:
        sections.append(Section(("Scores",), _describe_scores(document)))
    drift = describe_drift(run, document.drift, document.partitions, document.drift_answers, zone)
    if drift:
        sections.append(drift)
    if document.challengers:
        sections.append(Section(("Challengers",), [_list_challengers(document)]))
    if document.deliveries:
        sections.append(Section(("Deliveries",), _list_deliveries(document, zone)))
    if document.steps:
        sections.append(Section(("Seconds by step, all partitions added up",), _list_steps(document)))
    if earlier:
        sections.append(Section(("Earlier runs of this interval",), _list_runs(document, zone)))
    return sections


def _list_deliveries(document: RunDocument, zone: str) -> list[Block]:
    """List the deliveries, and say which targets fail, each with the reason."""
    alerts = [Alert(describe_failing(target, zone)) for target in document.failing]
    commands = [Command(f"penstock deliver list {document.run.pipeline}")] if alerts else []
    return [list_deliveries(document.deliveries), *alerts, *commands]


def describe_models(pins: Pins) -> Line:
    """Name each step's model version and digest. A single step is not named."""
    several = len(pins) > 1
    line: list[Inline] = ["Models " if several else "Model "]
    for number, (step, pin) in enumerate(pins.items()):
        line += [f"{', ' if number else ''}{f'{step} ' if several else ''}", Strong(str(pin)), " "]
        line.append(Code(pin.digest[:DIGEST]))
    return tuple(line)


def _describe_run(document: RunDocument, zone: str) -> list[Block]:
    run = document.run
    lines: list[Line] = [("Run ", Code(run.run_id), f", {run.reason}, by {run.lease_owner}")]
    if run.flow_run_id:
        lines.append((FlowRunPage(run.flow_run_id),))
    lines += [
        (*describe_models(run.pins), ", spec ", Code(run.spec_fingerprint[:DIGEST])),
        (_describe_times(run, zone),),
    ]
    if run.champion_run_id:
        share = "all rows" if run.share is None else f"{run.share:.1%} of the rows"
        lines.append((Strong("Challenger"), " of run ", Code(run.champion_run_id[:SHORT_ID]), f", scores {share}"))
    if run.variant.startswith(SANDBOX):
        lines.append((Strong("Sandbox"), " ", Code(run.variant.removeprefix(SANDBOX)), _beside(run)))
    lines += [_describe_replaced(replaced, zone) for replaced in document.replaced]
    lines += [describe_move(run, move, zone) for move in document.moves]
    if document.successor:
        replaced_by = "Taken over by run" if run.state == "abandoned" else "Superseded by run"
        lines.append((Strong(replaced_by), " ", _name(document.successor)))
    blocks: list[Block] = [*([Alert(run.error)] if run.error else []), Items(lines)]
    if document.acceptable:
        what = "All of its rows are scored. If the data are right, publish it as it is:"
        blocks += [Paragraph((what,)), Command(accept_command(run.run_id))]
    return blocks


def _beside(run: RunRecord) -> str:
    return f": its scores stand in `{run.destination_table}`, beside those that readers of `{run.pipeline}` see"


def _describe_times(run: RunRecord, zone: str) -> str:
    times = {
        "Started": run.started_at,
        "lease until": run.lease_until if run.state == "running" else None,
        "ended": run.finished_at,
        run.state: run.retired_at,
        "its rows were pruned": run.rows_pruned_at,
    }
    written = [f"{what} {describe_moment(time, zone, seconds=True)}" for what, time in times.items() if time]
    return ", ".join(written)


def describe_move(run: RunRecord, move: MoveRecord, zone: str) -> Line:
    """Say who made a run live again, or another run in its place, when and why."""
    at = f" {describe_moment(move.moved_at, zone)} by {move.moved_by}: {move.reason}"
    if move.run_id != run.run_id:
        return Strong("Gave way to run"), " ", Code(move.run_id[:SHORT_ID]), at
    if move.state_before == HALTED:
        return Strong("Accepted,"), " although the audit had halted it,", at
    before = move.state_before if move.variant_before == LIVE else f"a run of variant {move.variant_before}"
    return Strong("Published again,"), f" it was {before} before,", at


def _describe_replaced(run: RunRecord, zone: str) -> Line:
    if run.state == "abandoned":
        return Strong("Takes over from run"), " ", _name(run), f" (abandoned: {run.error})"
    published = f" (published {describe_moment(run.published_at, zone)})" if run.published_at else ""
    return Strong("Supersedes run"), " ", _name(run), published


def _count_rows(document: RunDocument) -> list[Block]:
    run = document.run
    counts = {
        "planned": _number(run.rows_planned),
        "extracted": _number(run.rows_extracted),
        "published": _number(run.rows_published),
        "quarantined": _number(run.rows_quarantined),
        "excluded": _number(run.rows_excluded),
        **_count_reasons(run),
        "partitions": f"{len(document.partitions)} of {_number(run.partitions)}",
        "seconds": "–" if run.seconds is None else f"{run.seconds:.2f}",
        "rows/s": _number(document.rows_per_second),
    }
    cost = _describe_cost(run)
    blocks: list[Block] = [_one_row(counts), *([_one_row(cost)] if cost else [])]
    if run.seal_root:
        key_id, _, root = run.seal_root.partition(".")
        blocks.append(Paragraph(("Sealed under the key ", Code(key_id), ", root ", Code(root))))
    if run.memory:
        blocks.append(Paragraph((f"Memory: {read_fit(run.memory).describe()}.",)))
    return blocks


def _count_reasons(run: RunRecord) -> dict[str, str]:
    """Write how many rows have reasons. Empty if the pipeline asks for none."""
    if run.rows_explained is None:
        return {}
    beyond = {"over budget": _number(run.rows_over_budget)} if run.rows_over_budget else {}
    return {"with reasons": _number(run.rows_explained)} | beyond


def _describe_cost(run: RunRecord) -> dict[str, str]:
    """Write what a run cost. Empty if it was not measured."""
    if run.cpu_seconds is None or run.peak_bytes is None:
        return {}
    peak = format_bytes(run.peak_bytes)
    figures = {
        "CPU s": f"{run.cpu_seconds:,.1f}",
        "read": format_bytes(run.bytes_read or 0),
        "written": format_bytes(run.bytes_written or 0),
        "peak memory": peak if run.processes == 1 else f"{peak} in {run.processes} processes",
    }
    if run.cost is not None:
        each = run.cost_per_million
        figures |= {"cost": f"{run.cost:.4g}", "cost per million rows": "–" if each is None else f"{each:.4g}"}
    return figures


def _list_validations(document: RunDocument) -> Table:
    """List the validations. An expectation about whole columns has no unexpected rows: it shows what it observed."""
    rows: list[list[Inline]] = []
    for v in document.validations:
        counts = f"{v.unexpected:,} of {v.evaluated:,}{'' if v.unit == 'rows' else f' {v.unit}'}"
        found, detail = (v.observed, "") if _is_observation(v) else (counts, v.note)
        rows.append([Status(v.outcome), found, f"{v.stage}: {v.expectation}, {v.severity}", detail])
    columns = [
        Column("outcome"),
        Column("found", width=28),
        Column("expectation"),
        Column("detail", below="expectation"),
    ]
    return Table(columns, rows)


def _is_observation(validation: Validation) -> bool:
    """Whether the observed value says more than the count of unexpected rows, which is 0."""
    return bool(validation.observed) and not validation.unexpected and not validation.released


def _list_refusals(document: RunDocument) -> list[Block]:
    """List the counts of refused rows, some of their keys, and the command that shows the rows."""
    rows = [[f"{r.rows:,}", r.stage, ", ".join(r.reasons)] for r in document.refusals]
    blocks: list[Block] = [Table(_columns(("rows", "stage", "reasons"), numbers=("rows",)), rows)]
    if document.refused_keys:
        keys: list[Inline] = []
        for key in document.refused_keys:
            keys += [", " if keys else "", Code(key)]
        left = sum(r.rows for r in document.refusals) - len(document.refused_keys)
        more = f" and {left:,} more." if left > 0 else "."
        blocks.append(Paragraph(("Keys of the rows: ", *keys, more)))
    command = f"penstock quarantine show {document.run.run_id[:SHORT_ID]}"
    return [*blocks, Paragraph(("See the rows in the project's folder with ", Code(command), "."))]


def _describe_scores(document: RunDocument) -> list[Block]:
    run, before, shift = document.run, document.before, document.shift
    low, middle, high = (run.score_quantiles[i] for i in (5, 50, 95))
    blocks: list[Block] = []
    if before and shift:
        compared = f", against the published run before ({interval_label(before.interval)}, run "
        other = f", scored by {before.models}" if before.models != run.models else ""
        blocks.append(Paragraph((Strong(_describe_shift(shift)), compared, _name(before), f"{other}).")))
    blocks.append(Paragraph((f"5 % below {low:.4g}, median {middle:.4g}, 95 % below {high:.4g}.",)))
    histogram = Histogram(run.score_quantiles, before.score_quantiles if before else ())
    note = "Share of the rows in bins of equal width, read from 101 quantiles: exact to about one per cent."
    return [*blocks, histogram, Paragraph((note,))]


def _describe_shift(shift: ScoreShift) -> str:
    readings = {
        "steady": "steady (below 0.1)",
        "within chance": f"not more than chance gives between so few rows (up to {shift.chance:.2g})",
        "moved": "moved (0.1 to 0.25)",
        "shifted": "shifted (above 0.25)",
    }
    return f"PSI {shift.psi:.3f}: {readings[shift.reading]}; median {shift.median_before:.4g} → {shift.median:.4g}"


def _list_challengers(document: RunDocument) -> Table:
    """List the challengers' runs beside the champion's, each with the shift of its scores and its error."""
    rows: list[list[Inline]] = []
    for run in document.challengers:
        shift = shift_between(run, document.run)
        share = "" if run.share is None else f" ({run.share:.1%} of the rows)"
        psi = f"{shift.psi:.3f}" if shift else "–"
        counts = [_number(run.rows_scored), _number(run.rows_quarantined), psi]
        rows.append([f"{run.model}{share}", _name(run), Status(run.state), *counts, run.error or ""])
    columns = _columns(("model", "run", "state", *_CHALLENGER_COUNTS), numbers=_CHALLENGER_COUNTS)
    return Table([*columns, Column("why", below="model")], rows)


def _list_steps(document: RunDocument) -> list[Block]:
    steps, numbers = document.steps, ("seconds", "share", "rows/s")
    rows = [[s.step, f"{s.seconds:.2f}", f"{s.share:.0%}", _number(s.rows_per_second)] for s in steps]
    longest = max(range(len(steps)), key=lambda i: steps[i].seconds)
    blocks: list[Block] = [Table(_columns(("step", *numbers), numbers), rows, strong_row=longest)]
    if document.slowest and len(document.partitions) > 1:
        slowest = document.slowest
        text = f"Slowest partition: {slowest.partition + 1}, {partition_seconds(slowest):.2f} s."
        blocks.append(Paragraph((text,)))
    if document.retried:
        retried = ", ".join(f"{part.partition + 1} ({part.attempts} attempts)" for part in document.retried)
        blocks.append(Paragraph((f"Partitions that needed another try: {retried}.",)))
    return blocks


def _list_runs(document: RunDocument, zone: str) -> list[Block]:
    run, earlier = document.run, document.earlier
    rows: list[list[Inline]] = []
    for other in earlier:
        shift = shift_between(run, other)
        psi, started = f"{shift.psi:.3f}" if shift else "–", describe_moment(other.started_at, zone, seconds=True)
        rows.append([_name(other), started, Status(other.state), other.models, psi, other.error or other.reason])
    columns = _columns(("run", "started", "state", "model", "PSI to it"), numbers=("PSI to it",))
    blocks: list[Block] = [Table([*columns, Column("why", width=40)], rows)]
    if document.earlier_count > len(earlier):
        listed = f"penstock runs {run.pipeline} --limit 1000"
        blocks.append(Paragraph((f"The newest {len(earlier)} of {document.earlier_count:,}; `{listed}` lists more.",)))
    return blocks


def _columns(names: Sequence[str], numbers: Sequence[str] = ()) -> list[Column]:
    return [Column(name, number=name in numbers) for name in names]


def _one_row(cells: dict[str, str]) -> Table:
    return Table(_columns([*cells], numbers=[*cells]), [[*cells.values()]])


def _name(run: RunRecord) -> RunName:
    return RunName(run.run_id, run.flow_run_id)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
