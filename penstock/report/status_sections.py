"""The status of pipelines as sections, for the terminal and for an artifact: all of their texts."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from penstock.ledger.sandboxes import Sandbox
from penstock.report.blocks import (
    SHORT_ID,
    Alert,
    Block,
    Code,
    Column,
    Command,
    Inline,
    Items,
    Line,
    Paragraph,
    Section,
    Strong,
    Table,
    Trend,
)
from penstock.report.drift import describe_answer
from penstock.report.needs import Need, Pause
from penstock.report.status import DAYS, Mark, PipelineStatus
from penstock.run_types import interval_label
from penstock.spec.parts import write_duration
from penstock.timezones import describe_moment
from penstock.wording import plural

SIGNS: dict[Mark, str] = {
    "published": "✓",
    "halted": "✗",
    "failed": "F",
    "missing": "!",
    "running": "…",
    "withdrawn": "w",
    "none": "·",
}
LEGEND = ", ".join(f"{SIGNS[mark]} {mark if mark != 'none' else 'nothing due'}" for mark in SIGNS)
SHOWN_NEEDS = 5
"""Needs of one pipeline that are listed."""
_LONGEST_REASON = 200


def build_status(found: Sequence[PipelineStatus], now: datetime, zone: str = "UTC") -> list[Section]:
    """Lay out how pipelines stand: a table, what needs a person, and the pauses."""
    sections = [
        Section((f"Pipelines at {describe_moment(now, zone)}",), [_list_pipelines(found, zone), *_explain(found)])
    ]
    needs: list[Block] = []
    for status in found:
        for need in status.needs[:SHOWN_NEEDS]:
            needs += [Paragraph(_describe_need(status.pipeline, need, now, zone)), Command(need.command)]
            if need.accept:
                needs += [Paragraph(("If its data are right, publish it as it is:",)), Command(need.accept)]
        more = len(status.needs) - SHOWN_NEEDS
        if more > 0:
            listed = Command(f"penstock status {status.pipeline} --json")
            needs += [Paragraph((Strong(status.pipeline), f": {more:,} more")), listed]
    title = f"{plural(sum(len(status.needs) for status in found), 'thing')} to do for a person"
    sections.append(
        Section((title,), needs) if needs else Section(("To do",), [Paragraph(("Nothing needs a person.",))])
    )
    paused: list[Block] = []
    for status in found:
        if status.pause:
            what = f": {describe_pause(status.pause, zone)}"
            paused += [Paragraph((Strong(status.pipeline), what)), Command(f"penstock resume {status.pipeline}")]
    sections += [Section(("Paused",), paused)] if paused else []
    drifting: list[Line] = [line for status in found for line in _list_drift(status, now, zone)]
    sections += [Section(("Drift",), [Items(drifting)])] if drifting else []
    measured = [block for status in found if status.performance for block in _show_performance(status)]
    return [*sections, Section(("Performance",), measured)] if measured else sections


def _list_drift(status: PipelineStatus, now: datetime, zone: str) -> list[Line]:
    """List the alarms of a pipeline that last, with what people answered."""
    return [
        (
            f"{status.pipeline}: ",
            Code(each.column),
            f" {each.severity} since {interval_label(each.interval)}, ",
            describe_answer(each.answer, zone) if each.answer and each.is_answered(now) else "not acknowledged",
        )
        for each in status.drift
    ]


def _show_performance(status: PipelineStatus) -> list[Block]:
    """Lay out how a pipeline's scores turned out: the total, its alerts and the trend."""
    trend = status.performance
    assert trend is not None
    total, count = trend.total, plural(len(trend.points), "interval")
    what = f": {trend.metric} {total.value:.4f} ({total.describe_range()}) over {count}"
    covered = f", {trend.coverage:.0%} labelled{', provisional' if trend.provisional else ''}"
    alerts = [Alert(f"{status.pipeline}: {message}") for message in trend.alerts]
    return [Paragraph((Strong(status.pipeline), what + covered)), *alerts, Trend(trend.metric, trend.points)]


def describe_pause(pause: Pause, zone: str = "UTC") -> str:
    """Write who paused a schedule, when and why."""
    if pause.in_spec:
        return "paused by `active: false` in its file"
    if not pause.reason or pause.since is None:
        return "paused in Prefect, without a reason"
    return f"paused by {pause.by} since {describe_moment(pause.since, zone)}: {pause.reason}"


def _list_pipelines(found: Sequence[PipelineStatus], zone: str) -> Table:
    names = ("pipeline", f"{DAYS} days", "last published", "missing", "halted", "failed", "refused", "next run")
    rows: list[list[Inline]] = []
    for s in found:
        rows.append(
            [
                s.pipeline,
                Code("".join(SIGNS[day.mark] for day in s.week)),
                s.last_interval or "–",
                f"{s.missing:,}",
                f"{s.halted:,}",
                f"{s.failed:,}",
                f"{s.quarantined_rows:,}",
                _describe_next(s, zone),
                f"at {describe_moment(s.last_published_at, zone)}" if s.last_published_at else "",
            ]
        )
    columns = [Column(name, number=name in ("missing", "halted", "failed", "refused")) for name in names]
    return Table([*columns, Column("at", below="last published")], rows)


def _describe_next(status: PipelineStatus, zone: str) -> str:
    if status.pause:
        return "paused"
    if status.next_run is None:
        return "not planned yet" if status.next_run_from else "no schedule"
    return f"{'~' if status.next_run_from == 'schedule' else ''}{describe_moment(status.next_run, zone)}"


def _explain(found: Sequence[PipelineStatus]) -> list[Block]:
    lines: list[Line] = [(f"Days, the last one is today: {LEGEND}. A day shows the worst of what became due on it.",)]
    if any(status.next_run_from == "schedule" for status in found):
        lines.append(("~ computed from the file's schedule: no Prefect server has planned the run.",))
    lines += [
        (f"{status.pipeline}: {plural(status.released_rows, 'released row')} for the next run",)
        for status in found
        if status.released_rows
    ]
    lines += [_describe_sandbox(sandbox) for status in found for sandbox in status.sandboxes]
    return [Items(lines)]


def _describe_sandbox(sandbox: Sandbox) -> Line:
    """Say which scores of a sandbox stand beside those of its pipeline."""
    intervals, scores = plural(sandbox.intervals, "interval"), plural(sandbox.rows, "score")
    works = f", {plural(sandbox.running, 'run')} at work" if sandbox.running else ""
    return f"{sandbox.pipeline}: sandbox ", Strong(sandbox.name), f" has {scores} of {intervals}{works}"


def _describe_need(pipeline: str, need: Need, now: datetime, zone: str) -> Line:
    since = describe_moment(need.since, zone) if need.since else ""
    run = f" (run {need.run_id[:SHORT_ID]}, {since})" if need.run_id else ""
    match need.kind:
        case "halted" | "failed":
            why = need.why.removeprefix(f"`{pipeline}` {need.interval} {need.kind}: ")
            what = f"{need.interval} {need.kind}{run}: {_shorten(why)}"
        case "restate":
            what = f"the restate of {need.interval} did not finish{run}, and the earlier scores stand"
        case "late":
            many = f"{plural(need.number, 'interval')} from {need.interval} on" if need.interval else "the next run"
            what = f"{many} should have been scored by a run at {since}, {_describe_age(need, now)} ago"
        case "no schedule":
            many = f"{plural(need.number, 'interval')} from {need.interval} on" if need.interval else "the first run"
            what = f"{many} must be started by hand: the pipeline has no schedule"
        case "not started":
            what = f"the run of {since} has not started: no worker takes it"
        case "overlap":
            what = f"no run can be planned: {_shorten(need.why)}"
        case "answer":
            what = need.why
        case "released":
            what = f"{plural(need.number, 'released row')} must be scored by a run that somebody starts"
        case "delivery":
            what = f"a target does not get its rows since {since}: {_shorten(need.why)}"
        case "drift":
            what = f"{need.why} drifted since {need.interval}{run}, and nobody has acknowledged it"
    return Strong(pipeline), f": {what}"


def _describe_age(need: Need, now: datetime) -> str:
    age = now - (need.since or now)
    days = timedelta(days=1)
    return write_duration(age - age % days if age >= 2 * days else age)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"
