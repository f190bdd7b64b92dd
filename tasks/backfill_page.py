"""Show a backfill in the UI: a progress bar, a table of its intervals, and its final message.

Errors are logged and never fail a backfill, because the scores matter more.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.states import Failed

from penstock.errors import Halted
from penstock.interval import iso
from penstock.ledger.backfills import PinnedBackfill
from penstock.run.plan_notes import describe_idle
from penstock.run.planning import Plan, PlannedInterval
from penstock.tasks.backfill import Backfill
from penstock.tasks.fan_out import FanOut, IntervalRun
from penstock.tasks.outcome import halted
from penstock.wording import plural

logger = logging.getLogger(__name__)

SHOW_SECONDS = 2.0
"""Least seconds between two versions of the page."""
ROWS = 400
"""Most intervals in the table, because the UI loads an artifact as a whole."""
LISTED = 10
"""Most intervals in a message."""


class BackfillPage:
    """The backfill's artifacts. They are written again only if they have changed."""

    def __init__(self, asked: Backfill, pinned: PinnedBackfill, intervals: Sequence[PlannedInterval]) -> None:
        self._asked = asked
        self._pinned = pinned
        self._intervals = intervals
        self._shown: tuple[str, str] | None = None
        self._shown_at = -SHOW_SECONDS
        self._ids: tuple[UUID, UUID] | None = None

    def show(self, fan_out: FanOut, obstacle: str = "") -> None:
        """Update the artifacts if anything has changed, every two seconds and at the end."""
        done = sum(1 for each in self._intervals if (run := fan_out.find(each)) and run.ended)
        summary = f"{self._asked.pipeline.name}: {done:,} of {plural(len(self._intervals), 'interval')}"
        summary = f"{summary} · {obstacle}" if obstacle else summary
        content = summary, self._table(fan_out, summary)
        early = time.monotonic() - self._shown_at < SHOW_SECONDS and done < len(self._intervals)
        if content == self._shown or early:
            return
        self._shown_at = time.monotonic()
        try:
            self._write(100.0 * done / len(self._intervals), *content)
            self._shown = content
        except (PrefectException, httpx.HTTPError, OSError) as error:
            logger.warning("could not write the progress of the backfill: %s", error)

    def _write(self, percent: float, summary: str, table: str) -> None:
        if self._ids is None:
            bar: Any = create_progress_artifact(progress=percent, description=summary)
            key = f"backfill-{self._asked.pipeline.name}"
            page: Any = create_markdown_artifact(table, key=key, description=summary)
            self._ids = bar, page  # IDs: the type names coroutines too, which are returned only inside an event loop
            return
        update_progress_artifact(self._ids[0], percent, description=summary)
        with get_client(sync_client=True) as client:
            client.update_artifact(self._ids[1], ArtifactUpdate(data=table, description=summary))

    def _table(self, fan_out: FanOut, summary: str) -> str:
        lines = [
            f"**{summary}**",
            "",
            describe_pins(self._pinned),
            "",
            "| interval | state | flow run | |",
            "|---|---|---|---|",
        ]
        lines += [_write_row(each, fan_out.find(each)) for each in self._intervals[:ROWS]]
        if len(self._intervals) > ROWS:
            lines.append(f"| and {plural(len(self._intervals) - ROWS, 'later one')} | | | |")
        return "\n".join(lines)


def _write_row(planned: PlannedInterval, run: IntervalRun | None) -> str:
    if run is None:
        return f"| {planned.label} | not started | | |"
    message = " ".join(run.message.split()).replace("|", "\\|")
    # Relative, since a worker does not know the UI's address. Pages with artifacts are all two levels deep.
    return f"| {planned.label} | {run.state} | [open](../../runs/flow-run/{run.flow_run_id}) | {message} |"


def describe_pins(pinned: PinnedBackfill) -> str:
    """Say with which model versions every interval is scored, and where they come from."""
    versions = f"scored with {', '.join(map(str, pinned.pins.values()))}"
    if beside := [version.replace("@", "/") for version in pinned.challengers.values() if version]:
        versions += f" and {'the challenger' if len(beside) == 1 else 'the challengers'} {', '.join(beside)}"
    if pinned.continues is None:
        return versions
    return (
        f"{versions}, the versions of the unfinished backfill of {iso(pinned.continues.replace(microsecond=0))}; "
        "a restate of the range takes those of now"
    )


def describe_nothing_to_do(asked: Backfill, plan: Plan) -> str:
    """Say why there is nothing to score."""
    if asked.restate_since is not None and plan.published:
        have = "has" if plan.published == 1 else "have"
        return f"{plural(plan.published, 'interval')} {have} been scored again since this backfill first started"
    again = "it" if plan.published == 1 else "them"
    return describe_idle(plan) + (f"; a restate scores {again} again" if plan.published and not plan.stall else "")


def conclude_unpublished(asked: Backfill, undone: Sequence[PlannedInterval], total: int, fan_out: FanOut) -> State[Any]:
    """Return the final state of a backfill that left intervals unpublished: which they are, why, and what to do."""
    message = _describe_unpublished(asked, undone, total, fan_out)
    if not all(fan_out.was_halted(each) for each in undone):
        return Failed(message=message)
    return halted(message, Halted(asked.pipeline.name, undone[0].label, (message,)))


def _describe_unpublished(asked: Backfill, undone: Sequence[PlannedInterval], total: int, fan_out: FanOut) -> str:
    lines = [_describe_interval(each, fan_out.find(each)) for each in undone[:LISTED]]
    if len(undone) > LISTED:
        lines.append(f"… and {len(undone) - LISTED:,} more, see the artifact backfill-{asked.pipeline.name}")
    again = (
        "start the same backfill again: it scores only what is missing"
        if asked.restate_since is None
        else "retry this flow run: it scores only these; a new restate would score the whole range"
    )
    listed = "\n".join(f"- {line}" for line in lines)
    of = plural(total, "interval")
    return f"{len(undone):,} of {of} not published:\n{listed}\nFix the causes above, then {again}."


def _describe_interval(planned: PlannedInterval, run: IntervalRun | None) -> str:
    if run is None:
        return f"{planned.label}: not started"
    message = run.message or f"{run.state}. See its flow run."
    return message if planned.label in message else f"{planned.label}: {message}"
