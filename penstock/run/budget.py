"""Check a run against its `budget:` before it reads a row."""

from collections.abc import Callable

from penstock.database.connections import Database
from penstock.errors import OverBudget, SettingsError
from penstock.resources.usage import NO_PRICES, Prices
from penstock.run.estimate import Estimate, describe_seconds, estimate_run, past_runs
from penstock.run_types import ScoringRun, interval_label
from penstock.spec.parts import Budget
from penstock.spec.pipeline import Pipeline
from penstock.wording import plural


def make_estimator(pipeline: Pipeline, warehouse: Database, prices: Prices) -> Callable[[int], Estimate]:
    """Read the past runs once. Return a function that estimates a run over so many rows.

    Raises:
        SettingsError: the budget limits the cost, and no price is set.
    """
    if pipeline.budget.cost is not None and prices == NO_PRICES:
        raise SettingsError(
            f"the budget of `{pipeline.name}` limits the cost, and there is no price to estimate it with",
            "Set PENSTOCK_PRICE_CPU_HOUR or PENSTOCK_PRICE_GB_HOUR, or take `cost` out of `budget:`.",
        )
    past = past_runs(warehouse, pipeline.name)
    return lambda rows: estimate_run(rows, past, prices)


def over_budget(pipeline: Pipeline, estimate: Estimate) -> tuple[str, ...]:
    """Return one line for each limit of the budget that an estimate exceeds. An unknown figure exceeds none."""
    budget, exceeded = pipeline.budget, []
    if budget.rows is not None and estimate.rows > budget.rows:
        exceeded.append(f"{plural(estimate.rows, 'row is', 'rows are')} more than the {budget.rows:,} of `budget.rows`")
    runs = f"{plural(estimate.past_runs, 'past run')}"
    if budget.minutes is not None and estimate.seconds is not None and estimate.seconds > 60 * budget.minutes:
        exceeded.append(
            f"it would take {describe_seconds(estimate.seconds)}, by {runs}, and `budget.minutes` is {budget.minutes:g}"
        )
    if budget.cost is not None and estimate.cost is not None and estimate.cost > budget.cost:
        exceeded.append(f"it would cost {estimate.cost:.4g}, by {runs}, and `budget.cost` is {budget.cost:g}")
    return tuple(exceeded)


def keep_budget(run: ScoringRun, rows: int, warehouse: Database, prices: Prices) -> None:
    """Refuse a run whose estimate exceeds its budget.

    Raises:
        OverBudget: it does.
        SettingsError: the budget limits the cost, and no price is set.
    """
    pipeline = run.pipeline
    if pipeline.budget == Budget():
        return
    reasons = over_budget(pipeline, make_estimator(pipeline, warehouse, prices)(rows))
    if reasons:
        raise OverBudget(pipeline.name, interval_label(run.interval), reasons)
