"""What a run would take, from past runs that were quick and slow, small and large, measured and not."""

from dataclasses import dataclass

import pytest

from penstock.resources.usage import GB, NO_PRICES, Prices
from penstock.run.budget import over_budget
from penstock.run.estimate import Estimate, describe_seconds, estimate_run, sum_estimates
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC


@dataclass(frozen=True)
class Past:
    """As much of a run's record as an estimate looks at."""

    rows_extracted: int
    seconds: float | None
    cpu_seconds: float | None = None
    peak_bytes: int | None = None


def line(rows: int, *, fixed: float = 2.0, per_row: float = 1e-5) -> Past:
    return Past(rows, fixed + per_row * rows, 2 * (fixed + per_row * rows), GB)


def test_without_past_runs_there_is_no_estimate() -> None:
    estimate = estimate_run(1_000, [], NO_PRICES)
    assert estimate == Estimate(1_000, 0)
    assert estimate.describe() == "no estimate: no past run"


def test_past_runs_of_many_sizes_tell_what_is_fixed_from_what_goes_with_the_rows() -> None:
    past = [line(rows) for rows in (100, 200, 5_000, 20_000, 100_000)]
    estimate = estimate_run(10_000_000, past, Prices(3600.0, 3600.0))
    assert estimate.seconds == pytest.approx(102)
    assert estimate.cpu_seconds == pytest.approx(204)
    assert estimate.cost == pytest.approx(204 + 102)
    assert estimate.describe() == "102.0 s, 3 min CPU, 1.0 GiB memory, cost 306 (from 5 past runs)"


def test_past_runs_of_one_size_are_taken_to_go_with_the_rows() -> None:
    past = [Past(1_000, 2.0), Past(1_100, 2.2), Past(1_050, 2.1)]
    assert estimate_run(3_000, past, NO_PRICES).seconds == pytest.approx(6.0)


def test_one_odd_run_does_not_move_the_estimate() -> None:
    usual = [line(rows) for rows in (1_000, 50_000, 100_000, 200_000, 400_000, 800_000)]
    odd = Past(100_000, 7_200.0, 3.0, GB)  # it waited two hours for a lock
    assert estimate_run(300_000, [*usual, odd], NO_PRICES).seconds == pytest.approx(5.0, rel=0.1)


def test_more_rows_never_take_less() -> None:
    past = [Past(100, 9.0), Past(1_000, 5.0), Past(10_000, 4.0)]
    assert estimate_run(1_000_000, past, NO_PRICES).seconds >= estimate_run(10, past, NO_PRICES).seconds >= 0


def test_runs_from_before_cpu_was_measured_tell_the_time_alone() -> None:
    estimate = estimate_run(2_000, [Past(1_000, 1.0)], Prices(1.0, 1.0))
    assert (estimate.seconds, estimate.cpu_seconds, estimate.cost) == (2.0, None, None)
    assert estimate.describe() == "2.0 s (from 1 past run)"


def test_intervals_are_added_up_and_one_unknown_leaves_the_sum_unknown() -> None:
    first, second = Estimate(10, 3, 2.0, 1.0, 5, 0.5), Estimate(20, 3, 4.0, 1.5, 7, 0.25)
    assert sum_estimates([first, second]) == Estimate(30, 3, 6.0, 2.5, 7, 0.75)
    assert sum_estimates([first, Estimate(20, 3, 4.0)]).cost is None
    assert sum_estimates([]).describe() == "no estimate: no past run"


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ("{rows: 999}", "1,000 rows are more than the 999 of `budget.rows`"),
        ("{minutes: 1.5}", "it would take 2 min, by 4 past runs, and `budget.minutes` is 1.5"),
        ("{cost: 0.2}", "it would cost 0.25, by 4 past runs, and `budget.cost` is 0.2"),
    ],
)
def test_what_exceeds_the_budget_is_told_with_both_figures(budget: str, told: str) -> None:
    pipeline = parse_pipeline(f"{SPEC}budget: {budget}\n".encode(), "x")
    assert over_budget(pipeline, Estimate(1_000, 4, 120.0, 60.0, GB, 0.25)) == (told,)


def test_what_is_within_the_budget_or_cannot_be_told_exceeds_nothing() -> None:
    pipeline = parse_pipeline(f"{SPEC}budget: {{rows: 1000, minutes: 2, cost: 0.25}}\n".encode(), "x")
    assert over_budget(pipeline, Estimate(1_000, 4, 120.0, 60.0, GB, 0.25)) == ()
    assert over_budget(pipeline, Estimate(1_000, 0)) == ()


@pytest.mark.parametrize(("seconds", "told"), [(4.23, "4.2 s"), (2_100, "35 min"), (9_000, "2.5 h")])
def test_spans_are_told_as_people_read_them(seconds: float, told: str) -> None:
    assert describe_seconds(seconds) == told
