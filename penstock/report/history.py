"""What the ledger has recorded of one run, as dated events, for when Prefect has no log of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from penstock.report.document import RunDocument, partition_seconds
from penstock.wording import plural

Kind = Literal["started", "partition", "validation", "refused", "error", "ended", "published", "retired", "pruned"]


@dataclass(frozen=True)
class RunEvent:
    """One fact about a run. `time` is None where the ledger keeps no time; the events are in their order."""

    time: datetime | None
    kind: Kind
    text: str


def list_events(document: RunDocument) -> list[RunEvent]:
    """Return the events of a run, in the order that they happened. Private values are masked in the ledger already."""
    return [*_of_start(document), *_of_partitions(document), *_of_validations(document), *_of_end(document)]


def _of_start(document: RunDocument) -> Iterator[RunEvent]:
    run = document.run
    models = ", ".join(map(str, document.run.pins.values()))
    yield RunEvent(run.started_at, "started", f"started: {run.reason}, model {models}, by {run.lease_owner}")
    for other in document.replaced:
        what = f"took over from run {other.run_id}" if other.state == "abandoned" else f"supersedes run {other.run_id}"
        yield RunEvent(run.started_at if other.state == "abandoned" else None, "started", what)
    if run.rows_planned is not None:
        yield RunEvent(None, "started", f"planned {plural(run.rows_planned, 'row')} in {run.partitions} partitions")


def _of_partitions(document: RunDocument) -> Iterator[RunEvent]:
    for part in document.partitions:
        counts = f"{part.rows_extracted:,} read, {part.rows_scored:,} scored, {part.rows_quarantined:,} refused"
        steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in part.seconds.items())
        tries = f", {part.attempts} attempts" if part.attempts > 1 else ""
        text = f"partition {part.partition + 1}: {counts}, {partition_seconds(part):.2f} s ({steps}){tries}"
        yield RunEvent(None, "partition", text)


def _of_validations(document: RunDocument) -> Iterator[RunEvent]:
    for v in document.validations:
        text = f"{v.stage}: {v.expectation}: {v.outcome}, {v.unexpected:,} of {v.evaluated:,} unexpected"
        yield RunEvent(None, "validation", f"{text} ({v.note})" if v.note else text)
    for refusal in document.refusals:
        text = f"refused {plural(refusal.rows, 'row')} of {refusal.stage}: {', '.join(refusal.reasons)}"
        yield RunEvent(None, "refused", text)


def _of_end(document: RunDocument) -> Iterator[RunEvent]:
    run = document.run
    if run.error:
        yield RunEvent(run.finished_at, "error", run.error)
    if run.published_at:
        yield RunEvent(run.published_at, "published", f"published {plural(run.rows_scored or 0, 'score')}")
    if run.state == "running":
        yield RunEvent(run.lease_until, "ended", "running: its lease ends then")
    elif run.finished_at and not run.published_at:
        yield RunEvent(run.finished_at, "ended", run.state)
    if run.retired_at:
        by = f" by run {run.replaced_by_run_id}" if run.replaced_by_run_id else ""
        yield RunEvent(run.retired_at, "retired", f"{run.state}{by}")
    if run.rows_pruned_at:
        yield RunEvent(run.rows_pruned_at, "pruned", "its rows were pruned")
