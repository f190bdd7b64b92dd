"""How a run of the scoring flow ends, concluded from how its intervals ended."""

from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from penstock.run.planning import Plan, PlannedInterval


def conclude(plan: Plan, ended: Sequence[tuple[PlannedInterval, State[Any]]]) -> State[Any]:
    """Return the flow run's state; its message says which intervals failed, and what the first of them says to do.

    `Halted` where gates refused every one that failed, `Failed` where something else broke, `Skipped` where there was
    nothing to do.
    """
    failed = [(planned, state) for planned, state in ended if state.is_failed() or state.is_crashed()]
    if failed:
        name = "Halted" if all(state.name == "Halted" for _, state in failed) else "Failed"
        return Failed(name=name, message=f"{len(failed)} of {len(ended)} intervals: {_told(*failed[0])}{_rest(failed)}")
    waiting = f"; {plan.stall}" if plan.stall else ""
    published = [planned for planned, state in ended if state.name != "Skipped"]
    if not published:
        why = ended[0][1].message if ended else f"{plan.settled} intervals are published already"
        return Completed(name="Skipped", message=f"nothing to do: {why}{waiting}")
    skipped = f", {len(ended) - len(published)} skipped" if len(published) < len(ended) else ""
    return Completed(message=f"{len(published)} intervals published{skipped}{waiting}")


def _told(planned: PlannedInterval, state: State[Any]) -> str:
    message = state.message or state.name or ""
    return message if planned.label in message else f"{planned.label}: {message}"


def _rest(failed: Sequence[tuple[PlannedInterval, State[Any]]]) -> str:
    others = ", ".join(planned.label for planned, _ in failed[1:6])
    more = f" and {len(failed) - 6} more" if len(failed) > 6 else ""
    return f" Likewise: {others}{more}." if others else ""
