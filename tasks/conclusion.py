"""Conclude the final state of a scoring flow from the states of its intervals."""

from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from penstock.run.planning import Plan, PlannedInterval

NAMED = 5
"""Most further intervals that a failure names."""


def conclude(plan: Plan, ended: Sequence[tuple[PlannedInterval, State[Any]]]) -> State[Any]:
    """Return the flow run's state. Its message names the intervals that failed, and quotes the first failure.

    `Halted` if gates halted every interval that failed, `Failed` if there was another error, `Cancelled` if intervals
    were cancelled and none failed, `Skipped` if nothing was published. A flow run of one interval ends with that
    interval's own message.
    """
    failed = [(planned, state) for planned, state in ended if state.is_failed() or state.is_crashed()]
    if failed:
        name = "Halted" if all(state.name == "Halted" for _, state in failed) else "Failed"
        count = f"{len(failed)} of {len(ended)} intervals: " if len(ended) > 1 else ""
        return Failed(name=name, message=f"{count}{_describe_failure(*failed[0])}{_list_others(failed)}")
    cancelled = [planned.label for planned, state in ended if state.is_cancelled()]
    if cancelled or len(ended) < len(plan.intervals):
        return Cancelled(message=_describe_cancelled(cancelled, len(plan.intervals), ended))
    waiting = f"; {plan.stall}" if plan.stall else ""
    published = [planned for planned, state in ended if state.name != "Skipped"]
    if not published:
        why = ended[0][1].message if ended else f"{plan.published} intervals are published already"
        return Completed(name="Skipped", message=f"nothing to do: {why}{waiting}")
    skipped = f", {len(ended) - len(published)} skipped" if len(published) < len(ended) else ""
    return Completed(message=f"{len(published)} intervals published{skipped}{waiting}")


def _describe_cancelled(
    cancelled: Sequence[str], planned: int, ended: Sequence[tuple[PlannedInterval, State[Any]]]
) -> str:
    published = sum(state.is_completed() and state.name != "Skipped" for _, state in ended)
    more = f" and {len(cancelled) - NAMED} more" if len(cancelled) > NAMED else ""
    names = f"; cancelled: {', '.join(cancelled[:NAMED])}{more}" if cancelled else ""
    waiting = f"; {planned - len(ended)} not begun" if len(ended) < planned else ""
    return f"{published} of {planned} intervals published{names}{waiting}"


def _describe_failure(planned: PlannedInterval, state: State[Any]) -> str:
    message = state.message or state.name or ""
    return message if planned.label in message else f"{planned.label}: {message}"


def _list_others(failed: Sequence[tuple[PlannedInterval, State[Any]]]) -> str:
    others = ", ".join(planned.label for planned, _ in failed[1 : 1 + NAMED])
    more = f" and {len(failed) - 1 - NAMED} more" if len(failed) > 1 + NAMED else ""
    return f" Also failed: {others}{more}." if others else ""
