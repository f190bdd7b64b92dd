"""Play a pack from its first run to its last: score, break, repair. The caller says how to start a run."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from penstock import Pipeline, Project, RunRecord
from penstock.examples.pack import Incident, Pack, Size

Run = Callable[[str, datetime, Incident | None], object]
"""Scores what is due of a pipeline up to a moment, after an incident or after none."""


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


def play(project: Project, pack: Pack, size: Size, run: Run) -> Iterator[Act]:
    """Score all intervals except the newest, play each incident on that one, repair it, and score it."""
    for name in pack.pipelines:
        yield _act(project, name, _newest_start(project.load_pipeline(name), size), None, run)
    for incident in pack.incidents:
        incident.strike(project, size)
        yield _act(
            project, incident.pipeline, _newest_end(project.load_pipeline(incident.pipeline), size), incident, run
        )
        incident.mend(project, size)
    for name in pack.pipelines:
        yield _act(project, name, _newest_end(project.load_pipeline(name), size), None, run)


def departure(act: Act) -> str | None:
    """Return how an act differs from what its incident announces. None if it does not."""
    states, incident = {run.state for run in act.runs}, act.incident
    wanted = incident.outcome if incident else "published"
    messages = " ".join((*(run.error or "" for run in act.runs), *act.notes))
    match wanted:
        case "halted":
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


def _act(project: Project, name: str, end: datetime, incident: Incident | None, run: Run) -> Act:
    pipeline = project.load_pipeline(name)
    known = {record.run_id for record in project.list_runs(pipeline, limit=1000)}
    before = see(project, pipeline)
    run(name, end, incident)
    new = [record for record in project.list_runs(pipeline, limit=1000) if record.run_id not in known][::-1]
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
