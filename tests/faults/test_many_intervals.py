"""Ledgers of very many short intervals: planning, reading, pruning and verifying them stay quick and small."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Connector, Database, close_engines, open_database
from penstock.deployments.doctor.ledger import check_ledger
from penstock.interval import DataInterval
from penstock.ledger.lineage import previous_published
from penstock.ledger.migrations import migrate
from penstock.ledger.reader import find_run, list_runs
from penstock.ledger.tables import runs
from penstock.models.registry import Registry
from penstock.privacy.masking import NO_MASKING
from penstock.report.document import read_document
from penstock.run.estimate import newest_memory_profile, past_runs
from penstock.run.planning import Plan
from penstock.scoring_steps import ScoringSteps
from penstock.settings import Settings
from penstock.spec.yaml_file import parse_pipeline
from penstock.upkeep.prune import Pruned, count_prune
from penstock.upkeep.prune_plan import plan_prune
from penstock.upkeep.verify import verify_ledger
from penstock.upkeep.violations import Violation
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.large_ledger import A_YEAR, TEN_YEARS, Cost, fill_ledger, interval_of, measure, moment_after, run_id_of
from tests.shop import SPEC, START

SHORT = SPEC.replace("grain: 1d", "grain: 15m").replace("lookback: 3", "lookback: 0")
PIPELINE = parse_pipeline(f"{SHORT}\nretention: {{keep_runs: 0, quarantine: 30d}}".encode(), "x")
COUNT = 10_000
GAPS = 50
GRAIN = timedelta(minutes=15)
MEMORY = 100 * 2**20
PLANNING_SECONDS, READING_SECONDS = 0.5, 0.5
"""CPU of the process, in which SQLite works, too."""
UPKEEP_SECONDS = {COUNT: 3.0, TEN_YEARS: 30.0}
BUSY = 20
"""How many times its limit an operation may wait for the database or for the machine."""


@pytest.fixture(params=DIALECTS)
def url(request: Any, empty_database: Callable[[str, str], str]) -> str:
    return empty_database(request.param, "warehouse")


@pytest.mark.parametrize("done", [0, COUNT - 40])
def test_ten_thousand_intervals_are_planned_quickly(url: str, done: int, tell: Tell) -> None:
    fill_ledger(open_warehouse(url), PIPELINE, done, parts=False)

    cost = measure_all(url, COUNT, {"plan": plan_due})["plan"]

    plan: Plan = cost.result
    assert len(plan.intervals) == 32
    assert plan.left_over == COUNT - done - 32
    assert plan.published == done
    assert plan.intervals[0].interval == DataInterval(START + done * GRAIN, START + (done + 1) * GRAIN)
    assert cost.cpu_seconds < PLANNING_SECONDS
    database = url.partition(":")[0]
    tell(f"10,000 intervals, {done:,} of them published", database, f"planned in {cost.cpu_seconds:.2f} s; 32 taken")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_year_of_short_intervals_is_planned_quickly(
    dialect: str, empty_database: Callable[[str, str], str], tell: Tell
) -> None:
    check_idle_plan(empty_database(dialect, "warehouse"), A_YEAR, tell, parts=False)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_ten_years_of_short_intervals_are_planned_read_pruned_and_verified(
    dialect: str, empty_database: Callable[[str, str], str], tell: Tell
) -> None:
    url = empty_database(dialect, "warehouse")
    check_idle_plan(url, TEN_YEARS, tell, parts=True)
    check_reading(url, TEN_YEARS, tell, GAPS)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_ledger_of_many_runs_is_read_pruned_and_verified_quickly(
    dialect: str, empty_database: Callable[[str, str], str], tell: Tell
) -> None:
    url = empty_database(dialect, "warehouse")
    fill_ledger(open_warehouse(url), PIPELINE, COUNT)
    check_reading(url, COUNT, tell)


def check_idle_plan(url: str, count: int, tell: Tell, *, parts: bool) -> None:
    """Fill a ledger, and plan when nothing is due: without a gap, then with some withdrawn runs."""
    warehouse = open_warehouse(url)
    fill_ledger(warehouse, PIPELINE, count, parts=parts)

    costs = measure_all(url, count, {"plan": plan_due, "estimates": read_estimates})

    plan: Plan = costs["plan"].result
    assert (plan.intervals, plan.published, plan.withdrawn) == ((), count, 0)
    assert costs["estimates"].result == (20, None)
    check_costs(costs, PLANNING_SECONDS)
    withdraw_some(url, count, GAPS)
    after = measure_all(url, count, {"plan": plan_due})
    plan = after["plan"].result
    assert (plan.intervals, plan.published, plan.withdrawn) == ((), count - GAPS, GAPS)
    check_costs(after, PLANNING_SECONDS)
    what = f"{costs['plan'].cpu_seconds:.2f} s, {costs['plan'].peak_bytes / 2**20:.0f} MiB"
    tell(f"{count:,} intervals, all published", warehouse.dialect, f"nothing is due, planned in {what}")


def withdraw_some(url: str, count: int, number: int) -> None:
    chosen = [run_id_of(count // number * each + 1) for each in range(number)]
    with open_warehouse(url).writing() as connection:
        connection.execute(sa.update(runs).where(runs.c.run_id.in_(chosen)).values(state="withdrawn"))


def check_reading(url: str, count: int, tell: Tell, withdrawn: int = 0) -> None:
    warehouse = open_warehouse(url)
    fill_ledger(warehouse, PIPELINE, 100, state="superseded")
    fill_ledger(warehouse, PIPELINE, 50, state="failed", published_at=None)
    reading = {"runs": read_runs, "halted": read_halted, "show": show_run}
    upkeep = {"prune": count_prunable, "verify": verify, "doctor": ask_doctor}

    costs = measure_all(url, count, reading | upkeep)

    assert costs["runs"].result == (30, 30)
    assert costs["halted"].result == 0
    assert costs["show"].result == interval_of(count // 2 - 1).key
    pruned: tuple[Pruned, ...] = costs["prune"].result
    assert {each.kind: each.rows for each in pruned} == {"unpublished rows": 50, "replaced rows": 100 + withdrawn}
    violations: tuple[Violation, ...] = costs["verify"].result
    assert violations == ()
    assert "every invariant of the ledger holds" in costs["doctor"].result
    check_costs({name: costs[name] for name in reading}, READING_SECONDS)
    check_costs({name: costs[name] for name in upkeep}, UPKEEP_SECONDS[count])
    took = ", ".join(f"{name} {cost.cpu_seconds:.2f}/{cost.wall_seconds:.2f} s" for name, cost in costs.items())
    tell(f"{count:,} published runs", warehouse.dialect, took)


def check_costs(costs: dict[str, Cost], seconds: float) -> None:
    assert {name: cost.cpu_seconds for name, cost in costs.items() if cost.cpu_seconds > seconds} == {}
    assert {name: cost.wall_seconds for name, cost in costs.items() if cost.wall_seconds > BUSY * seconds} == {}
    assert {name: cost.peak_bytes for name, cost in costs.items() if cost.peak_bytes > MEMORY} == {}


def measure_all(url: str, count: int, operations: dict[str, Callable[..., Any]]) -> dict[str, Cost]:
    close_engines()  # a DuckDB file belongs to one process
    return measure({"open": open_ledger} | operations, url, count)


def open_warehouse(url: str) -> Database:
    database = open_database(settings_of(url), "warehouse")
    migrate(database)
    return database


def settings_of(url: str) -> Settings:
    return Settings(connections={"warehouse": url, "shop": url})


# What is measured. Each function gets the warehouse's URL and the number of published intervals.


def open_ledger(url: str, _count: int) -> int:
    """Load what a process loads once."""
    return len(list_runs(open_warehouse(url), limit=1))


def plan_due(url: str, count: int) -> Plan:
    settings = settings_of(url)
    connect = Connector(lambda name: open_database(settings, name), ())
    steps = ScoringSteps(PIPELINE, settings, connect, Registry(settings.models_folder), NO_MASKING)
    return steps.plan(moment_after(count), "due", None, None)


def read_estimates(url: str, _count: int) -> tuple[int, object]:
    warehouse = open_warehouse(url)
    return len(past_runs(warehouse, PIPELINE.name)), newest_memory_profile(warehouse, PIPELINE.name)


def read_runs(url: str, _count: int) -> tuple[int, int]:
    warehouse = open_warehouse(url)
    newest = list_runs(warehouse, PIPELINE.name, 30)
    assert list_runs(warehouse, None, 30) == newest
    return len(newest), len([run for run in newest if previous_published(warehouse, run)])


def read_halted(url: str, _count: int) -> int:
    return len(list_runs(open_warehouse(url), PIPELINE.name, 30, ("halted",)))


def show_run(url: str, count: int) -> str | None:
    """Return the interval before a run in the middle."""
    warehouse = open_warehouse(url)
    before = read_document(warehouse, find_run(warehouse, run_id_of(count // 2))).before
    return before and before.interval_key


def count_prunable(url: str, count: int) -> tuple[Pruned, ...]:
    warehouse = open_warehouse(url)
    return count_prune(warehouse, plan_prune(warehouse, PIPELINE, moment_after(count) + timedelta(days=8)))


def verify(url: str, _count: int) -> tuple[Violation, ...]:
    return verify_ledger(open_warehouse(url))


def ask_doctor(url: str, _count: int) -> list[str]:
    return [finding.what for finding in check_ledger(open_warehouse(url), Settings(_env_file=None))]
