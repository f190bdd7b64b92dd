"""What people see of a backfill: a progress bar, a table of its intervals, and the words that it ends with.

Never fails a backfill: the scores matter more.
"""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException

from penstock.run.planning import Plan, PlannedInterval
from penstock.tasks.backfill import Backfill
from penstock.tasks.fan_out import FanOut, IntervalRun

logger = logging.getLogger(__name__)

ROWS = 400
"""Intervals that the table shows; an artifact is read whole by the page."""
LISTED = 10
"""Intervals that a message names."""


class BackfillPage:
    """The backfill's artifacts; once they could not be written they stay as they are."""

    def __init__(self, asked: Backfill, intervals: Sequence[PlannedInterval]) -> None:
        self._asked = asked
        self._intervals = intervals
        self._shown: tuple[str, str] | None = None
        self._ids: tuple[UUID, UUID] | None = None

    def show(self, fan_out: FanOut, obstacle: str = "") -> None:
        """Show how far it is, where anything has changed."""
        done = sum(1 for each in self._intervals if (run := fan_out.find(each)) and run.ended)
        told = f"{self._asked.pipeline.name}: {done} of {len(self._intervals)} intervals"
        told = f"{told} · {obstacle}" if obstacle else told
        content = told, self._table(fan_out, told)
        if content == self._shown:
            return
        try:
            self._write(100.0 * done / len(self._intervals), *content)
            self._shown = content
        except (PrefectException, httpx.HTTPError, OSError) as error:
            logger.warning("could not write the progress of the backfill: %s", error)

    def _write(self, percent: float, told: str, table: str) -> None:
        if self._ids is None:
            bar: Any = create_progress_artifact(progress=percent, description=told)
            key = f"backfill-{self._asked.pipeline.name}"
            page: Any = create_markdown_artifact(table, key=key, description=told)
            self._ids = bar, page  # ids, though typed as perhaps coroutines: we are not in an event loop
            return
        update_progress_artifact(self._ids[0], percent, description=told)
        with get_client(sync_client=True) as client:
            client.update_artifact(self._ids[1], ArtifactUpdate(data=table, description=told))

    def _table(self, fan_out: FanOut, told: str) -> str:
        lines = [f"**{told}**", "", "| interval | state | flow run | |", "|---|---|---|---|"]
        lines += [_write_row(each, fan_out.find(each)) for each in self._intervals[:ROWS]]
        if len(self._intervals) > ROWS:
            lines.append(f"| and {len(self._intervals) - ROWS} later ones | | | |")
        return "\n".join(lines)


def _write_row(planned: PlannedInterval, run: IntervalRun | None) -> str:
    if run is None:
        return f"| {planned.label} | not begun | | |"
    message = " ".join(run.message.split()).replace("|", "\\|")
    # Relative: a worker knows no address that a browser can use; pages that show artifacts all lie two levels deep.
    return f"| {planned.label} | {run.state} | [open](../../runs/flow-run/{run.flow_run_id}) | {message} |"


def tell_idle(asked: Backfill, plan: Plan) -> str:
    """Say why there is nothing to score."""
    if plan.stall:
        return f"nothing to do yet: {plan.stall}"
    if not plan.settled and not plan.withdrawn:
        return "nothing to do: no interval of the range is over yet, or the pipeline starts later"
    if asked.restate_since is not None:
        return f"nothing to do: {plan.settled} intervals have been scored again since this backfill first started"
    told = f"nothing to do: {plan.settled} intervals are published already"
    told += f", {plan.withdrawn} withdrawn" if plan.withdrawn else ""
    return f"{told}; a restate scores them again"


def tell_undone(asked: Backfill, undone: Sequence[PlannedInterval], total: int, fan_out: FanOut) -> str:
    """Say which intervals are not published, why, and what to do."""
    told = [_tell_interval(each, fan_out.find(each)) for each in undone[:LISTED]]
    if len(undone) > LISTED:
        told.append(f"… and {len(undone) - LISTED} more, see the artifact backfill-{asked.pipeline.name}")
    again = (
        "start the same backfill again: it scores only what is missing"
        if asked.restate_since is None
        else "retry this flow run: it scores only these, where a new restate scores the whole range"
    )
    listed = "\n".join(f"- {line}" for line in told)
    return f"{len(undone)} of {total} intervals not published:\n{listed}\nMend what they say, then {again}."


def _tell_interval(planned: PlannedInterval, run: IntervalRun | None) -> str:
    if run is None:
        return f"{planned.label}: not begun"
    return f"{planned.label}: {run.state}. {run.message or 'Its flow run tells more.'}"
