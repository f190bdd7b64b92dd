"""Conclude the final state of a scoring flow from the states of its intervals."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Failed

from penstock.errors import Halted
from penstock.run.plan_notes import describe_idle, describe_range
from penstock.run.planning import Plan, PlannedInterval
from penstock.tasks.artifacts import Ended
from penstock.tasks.outcome import (
    FlowOutcome,
    describe_outcome,
    failed,
    find_error,
    find_outcome,
    halted,
    published,
    skipped,
)
from penstock.wording import plural

NAMED = 5
"""Most further intervals that a failure names."""
_UNPUBLISHED: tuple[FlowOutcome, ...] = ("failed", "halted", "cancelled")
"""The outcomes of intervals that were not published, the one that decides first."""


def conclude(plan: Plan, ended: Sequence[Ended]) -> State[Any]:
    """Return the flow run's state. Its message begins with the reason, and quotes the first failure.

    The outcome is `failed` if there was an error, else `halted` if a gate halted an interval, else `cancelled` if
    intervals were cancelled or not begun, and `skipped` if there was nothing to do. A flow run of one interval ends
    with that interval's own message.
    """
    by_outcome: dict[FlowOutcome, list[Ended]] = {}
    for each in ended:
        by_outcome.setdefault(find_outcome(each[1]), []).append(each)
    for outcome in ("failed", "halted"):
        if outcome in by_outcome:
            return _conclude_unpublished(outcome, by_outcome, len(ended))
    if "cancelled" in by_outcome or len(ended) < len(plan.intervals):
        return Cancelled(message=_describe_cancelled(by_outcome, len(ended), len(plan.intervals)))
    waiting = "".join(f"; {note}" for note in (plan.stall, describe_range(plan)) if note)
    if not ended:
        return skipped(describe_idle(plan))
    left = by_outcome.get("skipped", [])
    if len(left) == len(ended):
        others = f"; {plural(len(left) - 1, 'other interval')} likewise" if len(left) > 1 else ""
        return skipped(f"{describe_outcome(left[0][1])}{others}{waiting}")
    also = f", {len(left):,} skipped" if left else ""
    return published(f"{plural(len(ended) - len(left), 'interval')} published{also}{waiting}")


def _conclude_unpublished(outcome: FlowOutcome, found: dict[FlowOutcome, list[Ended]], total: int) -> State[Any]:
    """Return the state of a flow run with intervals that were not published: `outcome` is the one that decides."""
    undone = [each for kind in _UNPUBLISHED for each in found.get(kind, [])]
    first = _describe_failure(*undone[0])
    if total > 1:
        counts = Counter({kind: len(found.get(kind, [])) for kind in _UNPUBLISHED})
        decides = "" if outcome == "halted" else f" {outcome}"
        also = "".join(f", {counts[kind]:,} {kind}" for kind in _UNPUBLISHED if counts[kind] and kind != outcome)
        of = plural(total, "interval")
        first = f"{counts[outcome]:,} of {of}{decides}{also}; first: {first}"
        others = _list_others(undone)
        first = f"{first.removesuffix('.')}. {others}" if others else first
    error = find_error(undone[0][1])
    if isinstance(error, Halted):
        return halted(first, error)
    return failed(error, first) if error else Failed(message=first)


def _describe_cancelled(found: dict[FlowOutcome, list[Ended]], ended: int, total: int) -> str:
    cancelled = [planned.label for planned, _ in found.get("cancelled", [])]
    more = f" and {len(cancelled) - NAMED:,} more" if len(cancelled) > NAMED else ""
    names = f"; cancelled: {', '.join(cancelled[:NAMED])}{more}" if cancelled else ""
    waiting = f"; {total - ended:,} not begun" if ended < total else ""
    return f"{len(found.get('published', [])):,} of {plural(total, 'interval')} published{names}{waiting}"


def _describe_failure(planned: PlannedInterval, state: State[Any]) -> str:
    message = describe_outcome(state)
    return message if planned.label in message else f"{planned.label}: {message}"


def _list_others(undone: Sequence[Ended]) -> str:
    others = ", ".join(planned.label for planned, _ in undone[1 : 1 + NAMED])
    more = f" and {len(undone) - 1 - NAMED:,} more" if len(undone) > 1 + NAMED else ""
    return f"The others: {others}{more}." if others else ""
