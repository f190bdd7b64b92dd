"""Play a pack from its first run to its last: score, break, repair, and look at the labels that come later."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import sqlalchemy as sa

from penstock import Pipeline, Project, RunRecord
from penstock.examples.pack import FollowUp, Incident, Pack, Size

LIVE = "live"
"""The variant of the runs that readers see."""
LOWER_IS_BETTER = ("mae", "rmse", "log_loss", "brier")


@dataclass(frozen=True)
class Measured:
    """How well one model did, by the labels."""

    model: str
    """As in card-risk/3."""
    variant: str
    metrics: Mapping[str, float]


class Operator(Protocol):
    """Who runs the commands of a scenario. The caller says how."""

    def run(self, pipeline: str, end: datetime, incident: Incident | None) -> object:
        """Score what is due up to a moment, after an incident or after none."""

    def accept(self, run_id: str, reason: str) -> object:
        """Publish a run that was halted."""

    def collect_labels(self, pipeline: str, now: datetime) -> object:
        """Collect the labels that were seen until then, and measure the runs."""

    def show_performance(self, pipeline: str, now: datetime) -> object:
        """Show how well the models did, by the labels that were seen until then."""

    def list_alerts(self, pipeline: str) -> Mapping[str, str]:
        """Return the message of each metric whose alert lasts."""

    def measure(self, pipeline: str) -> list[Measured]:
        """Return how well each model of the published runs did."""

    def promote(self, pipeline: str, model: str, reason: str) -> object:
        """Make a version's past runs live, and the version the champion."""


@dataclass(frozen=True)
class Seen:
    """What readers of a destination see."""

    rows: int
    digest: str
    """sha256 over all values, in the order of the keys."""


@dataclass(frozen=True)
class Act:
    """What one call of a pipeline did."""

    pipeline: str
    incident: Incident | None
    """The incident before it. None if there was none, or all are repaired."""
    runs: tuple[RunRecord, ...]
    """Oldest first."""
    notes: tuple[str, ...]
    """Expectations that failed as a note in these runs."""
    before: Seen
    after: Seen
    accepted: Seen | None = None
    """After the operator has accepted the halted run. None if nothing was accepted."""


@dataclass(frozen=True)
class Followed:
    """What came of a follow-up."""

    follow_up: FollowUp
    measured: tuple[Measured, ...]
    alerts: Mapping[str, str]
    promoted: str
    """The version that became the champion. Empty if none did."""
    before: Seen
    after: Seen


def play(project: Project, pack: Pack, size: Size, operator: Operator) -> Iterator[Act]:
    """Score all intervals except the newest, play each incident on that one, repair it, and score it."""
    for name in pack.pipelines:
        yield _act(project, name, _newest_start(project.load_pipeline(name), size), None, operator)
    for incident in pack.incidents:
        incident.strike(project, size)
        pipeline = project.load_pipeline(incident.pipeline)
        act = _act(project, incident.pipeline, _newest_end(pipeline, size), incident, operator)
        if incident.outcome == "accepted" and departure(act) is None:
            operator.accept(act.runs[-1].run_id, incident.remedy)
            act = replace(act, accepted=see(project, pipeline))
        yield act
        incident.mend(project, size)
    for name in pack.pipelines:
        yield _act(project, name, _newest_end(project.load_pipeline(name), size), None, operator)


def follow_labels(project: Project, pack: Pack, size: Size, operator: Operator) -> Iterator[Followed]:
    """Deliver the labels, collect them as time passes, and do what they ask for."""
    pack.deliver_labels(project, size)
    judged = [name for name in pack.pipelines if project.load_pipeline(name).labels]
    for after in pack.labels_after:
        for name in judged:
            operator.collect_labels(name, size.until + after)
    for name in judged:
        operator.show_performance(name, size.until + pack.labels_after[-1])
    for follow_up in pack.follow_ups:
        yield _follow(project, follow_up, operator)


def _follow(project: Project, follow_up: FollowUp, operator: Operator) -> Followed:
    name = follow_up.pipeline
    pipeline, measured = project.load_pipeline(name), operator.measure(name)
    before, better = see(project, pipeline), _better_challenger(measured, follow_up.metric)
    promoted = better if follow_up.outcome == "promoted" else ""
    if promoted:
        operator.promote(name, promoted, follow_up.remedy)
    alerts = operator.list_alerts(name)
    return Followed(follow_up, tuple(measured), alerts, promoted, before, see(project, pipeline))


def _better_challenger(measured: list[Measured], metric: str) -> str:
    """Return the best challenger that is better than the champion. Empty if there is none."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    judged = [each for each in measured if metric in each.metrics]
    best = max(judged, key=lambda each: sign * each.metrics[metric], default=None)
    return "" if best is None or best.variant == LIVE else best.model


def missed(followed: Followed) -> str | None:
    """Return how a follow-up differs from what the pack announces. None if it does not."""
    asked = followed.follow_up
    if asked.outcome == "alerted" and asked.metric in followed.alerts:
        return None
    if asked.outcome == "promoted" and followed.promoted and followed.before.rows == followed.after.rows:
        return None
    figures = {each.model: each.metrics.get(asked.metric) for each in followed.measured}
    return f"`{asked.pipeline}` should have been {asked.outcome} by {asked.metric}; it is {figures}"


def departure(act: Act) -> str | None:
    """Return how an act differs from what its incident announces. None if it does not."""
    states, incident = {run.state for run in act.runs}, act.incident
    wanted = incident.outcome if incident else "published"
    messages = " ".join((*(run.error or "" for run in act.runs), *act.notes))
    match wanted:
        case "halted" | "accepted":
            good = states == {"halted"} and act.before == act.after
        case "restated":
            good = states == {"published"} and act.before != act.after
        case _:
            good = states <= {"published"}
    if good and (incident is None or incident.gate in messages):
        return None
    gate = f" by `{incident.gate}`" if incident and incident.gate else ""
    return f"`{act.pipeline}` should have been {wanted}{gate}; its runs are {sorted(states)}: {messages}"


def see(project: Project, pipeline: Pipeline) -> Seen:
    """Read the live rows of a pipeline."""
    warehouse = project.connect(pipeline.destination.connection)
    query = (
        sa.select(sa.text("*"))
        .select_from(sa.table(pipeline.destination.table))
        .order_by(*(sa.column(name) for name in pipeline.key))
    )
    digest, rows = hashlib.sha256(), 0
    with warehouse.reading() as connection:
        if not sa.inspect(connection).has_table(pipeline.destination.table):
            return Seen(0, digest.hexdigest())
        for row in connection.execute(query):
            digest.update(repr(tuple(row)).encode())
            rows += 1
    return Seen(rows, digest.hexdigest())


def list_live(project: Project, pipeline: Pipeline) -> list[RunRecord]:
    """Return the runs that are not of challengers, the newest first."""
    return [run for run in project.list_runs(pipeline, limit=1000) if run.variant == LIVE]


def _act(project: Project, name: str, end: datetime, incident: Incident | None, operator: Operator) -> Act:
    pipeline = project.load_pipeline(name)
    known = {record.run_id for record in list_live(project, pipeline)}
    before = see(project, pipeline)
    operator.run(name, end, incident)
    new = [record for record in list_live(project, pipeline) if record.run_id not in known][::-1]
    found = [validation for record in new for validation in project.read_run(pipeline, record.run_id).validations]
    notes = [validation.expectation for validation in found if validation.outcome == "noted"]
    return Act(name, incident, tuple(new), tuple(dict.fromkeys(notes)), before, see(project, pipeline))


def _newest_start(pipeline: Pipeline, size: Size) -> datetime:
    """Return the start of the newest interval. Of a snapshot, the end of the data."""
    end = _newest_end(pipeline, size)
    return end if pipeline.interval is None else pipeline.interval.grid.previous(end)


def _newest_end(pipeline: Pipeline, size: Size) -> datetime:
    """Return the end of the newest interval that the data fill. A later end would include an incomplete interval."""
    interval = pipeline.interval
    return size.until if interval is None else interval.grid.align_down(size.until)
