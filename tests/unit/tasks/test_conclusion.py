"""The state and the message that a run of the scoring flow ends with."""

from datetime import UTC, datetime, timedelta

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from penstock.interval import Grid
from penstock.run.planning import Plan, PlannedInterval
from penstock.tasks.conclusion import conclude

DAYS = [
    PlannedInterval(day, "due")
    for day in Grid(datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)).split(datetime(2026, 1, 9, tzinfo=UTC))
]
HALTED: State[None] = Failed(name="Halted", message="too many rows were refused")


def test_a_run_of_one_interval_ends_with_its_message() -> None:
    state = conclude(Plan(tuple(DAYS[:1])), [(DAYS[0], HALTED)])

    assert (state.name, state.message) == ("Halted", "2026-01-01 → 01-02: too many rows were refused")


def test_a_run_of_several_intervals_counts_and_names_those_that_failed() -> None:
    ended = [(DAYS[0], Completed()), *((day, HALTED) for day in DAYS[1:])]

    state = conclude(Plan(tuple(DAYS)), ended)

    assert state.message == (
        "7 of 8 intervals: 2026-01-02 → 01-03: too many rows were refused Also failed: 2026-01-03 → 01-04, "
        "2026-01-04 → 01-05, 2026-01-05 → 01-06, 2026-01-06 → 01-07, 2026-01-07 → 01-08 and 1 more."
    )


def test_a_run_fails_if_one_interval_broke_and_others_were_halted() -> None:
    state = conclude(Plan(tuple(DAYS[:2])), [(DAYS[0], HALTED), (DAYS[1], Failed(message="the disk is full"))])

    assert state.name == "Failed"
