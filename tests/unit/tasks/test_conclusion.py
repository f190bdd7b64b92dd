"""The state and the message that a run of the scoring flow ends with."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from penstock.errors import Halted, OverBudget
from penstock.interval import Grid
from penstock.run.planning import Limits, Plan, PlannedInterval
from penstock.tasks.conclusion import conclude
from penstock.tasks.outcome import failed, find_outcome, halted, published, skipped

DAYS = [
    PlannedInterval(day, "due")
    for day in Grid(datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)).split(datetime(2026, 1, 9, tzinfo=UTC))
]
DISK_FULL = failed(OSError("the disk is full"))


def halt(day: PlannedInterval, kind: type[Halted] = Halted) -> State[Any]:
    error = kind("card-risk", day.label, ("150 of 250 rows refused",))
    return halted(f"{day.label}: {error.describe_reasons()}", error)


def ending(plan: Plan, *states: State[Any]) -> tuple[str, str | None, str | None]:
    state = conclude(plan, list(zip(DAYS, states, strict=False)))
    return find_outcome(state), state.name, state.message


def test_a_run_of_one_interval_ends_with_its_message() -> None:
    assert ending(Plan(tuple(DAYS[:1])), halt(DAYS[0])) == (
        "halted",
        "Failed",
        "Halted: 2026-01-01 → 01-02: 150 of 250 rows refused. Nothing was published. "
        "Correct the data or the expectation. The next run tries the interval again.",
    )


def test_a_budget_that_is_exceeded_halts_too_and_says_so() -> None:
    outcome, _, message = ending(Plan(tuple(DAYS[:1])), halt(DAYS[0], OverBudget))

    assert outcome == "halted"
    assert message is not None
    assert message.startswith("Halted: 2026-01-01 → 01-02: over budget: 150 of 250 rows refused. No row was read.")


def test_a_run_of_several_intervals_begins_with_the_reason_and_names_those_that_failed() -> None:
    outcome, name, message = ending(Plan(tuple(DAYS)), published("250 scores"), *map(halt, DAYS[1:]))

    assert (outcome, name) == ("halted", "Failed")
    assert message == (
        "Halted: 7 of 8 intervals; first: 2026-01-02 → 01-03: 150 of 250 rows refused. Nothing was published. "
        "Correct the data or the expectation. The next run tries the interval again. "
        "The others: 2026-01-03 → 01-04, 2026-01-04 → 01-05, 2026-01-05 → 01-06, 2026-01-06 → 01-07, "
        "2026-01-07 → 01-08 and 1 more."
    )


def test_a_run_fails_if_one_interval_broke_and_others_were_halted() -> None:
    outcome, name, message = ending(Plan(tuple(DAYS[:2])), halt(DAYS[0]), DISK_FULL)

    assert (outcome, name) == ("failed", "Failed")
    assert message == (
        "1 of 2 intervals failed, 1 halted; first: 2026-01-02 → 01-03: the disk is full. "
        "The others: 2026-01-01 → 01-02."
    )


def test_a_cancelled_interval_is_not_counted_as_published() -> None:
    outcome, name, message = ending(Plan(tuple(DAYS[:2])), published("250 scores"), Cancelled(message="by a person"))

    assert (outcome, name) == ("cancelled", "Cancelled")
    assert message == "1 of 2 intervals published; cancelled: 2026-01-02 → 01-03"


def test_a_message_that_begins_as_a_halt_does_not_make_one() -> None:
    assert ending(Plan(tuple(DAYS[:1])), failed(OSError("Halted: by the disk")))[0] == "failed"


def test_a_run_without_intervals_is_skipped_and_says_why() -> None:
    assert ending(Plan((), published=1)) == (
        "skipped",
        "Completed",
        "Skipped: nothing to do: 1 interval is published already",
    )
    assert ending(Plan((), published=2))[2] == "Skipped: nothing to do: 2 intervals are published already"


def test_intervals_that_others_score_are_skipped_and_counted() -> None:
    busy = skipped("2026-01-01 → 01-02 is published already")

    assert ending(Plan(tuple(DAYS[:1])), busy)[::2] == ("skipped", "Skipped: 2026-01-01 → 01-02 is published already")
    assert ending(Plan(tuple(DAYS[:2])), busy, busy)[2] == (
        "Skipped: 2026-01-01 → 01-02 is published already; 1 other interval likewise"
    )
    assert ending(Plan(tuple(DAYS[:2])), busy, published("")) == (
        "published",
        "Completed",
        "1 interval published, 1 skipped",
    )


def test_a_range_that_was_cut_is_named_in_the_message() -> None:
    start, over = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 9, tzinfo=UTC)
    limits = Limits(start, over, start - timedelta(days=9), over + timedelta(days=9), "UTC")

    assert ending(Plan(tuple(DAYS[:1]), limits=limits), published(""))[2] == (
        "1 interval published; the pipeline starts at 2026-01-01T00:00:00Z, so the range begins there; "
        "no interval after 2026-01-09T00:00:00Z is over yet, so the range ends there"
    )
