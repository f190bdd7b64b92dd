"""The ledger's queries that read a part of its runs return what all runs together would."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.errors import RunNotFound
from penstock.interval import merge
from penstock.ledger.coverage import read_coverage
from penstock.ledger.destinations import destination_name, find_dispute
from penstock.ledger.lineage import earlier_runs, previous_published, replaced_runs
from penstock.ledger.reader import RunRecord, find_run, list_runs
from penstock.ledger.tables import runs
from penstock.run import estimate
from penstock.run.estimate import newest_memory_profile, past_runs
from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.backfill import find_busy
from tests.conftest import DIALECTS
from tests.large_ledger import GRAIN, fill_ledger, interval_of
from tests.shop import SPEC

PIPELINE = parse_pipeline(SPEC.replace("grain: 1d", "grain: 15m").encode(), "x")
COUNT = 60


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    """A ledger with sixty published intervals."""
    url = database_url(request.param, "warehouse")
    database = open_database(use_settings(warehouse=url, shop=url), "warehouse")
    fill_ledger(database, PIPELINE, COUNT, parts=False)
    return database


def change(database: Database, numbers: list[int], **values: Any) -> None:
    """Change the runs of these intervals."""
    with database.writing() as connection:
        chosen = runs.c.interval_start.in_([interval_of(number).start for number in numbers])
        connection.execute(sa.update(runs).where(chosen).values(**values))


def run_of(database: Database, number: int) -> RunRecord:
    [found] = [run for run in list_runs(database, limit=COUNT) if run.interval == interval_of(number)]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_spans_are_the_merged_intervals_of_published_runs(warehouse: Database, seed: int) -> None:
    draw = random.Random(seed)
    gone = draw.sample(range(COUNT), 10 * seed)
    withdrawn = draw.sample(gone, len(gone) // 2)
    change(warehouse, gone, state="failed")
    change(warehouse, withdrawn, state="withdrawn")

    coverage = read_coverage(warehouse, PIPELINE)

    assert list(coverage.published) == merge(interval_of(n) for n in range(COUNT) if n not in gone)
    assert list(coverage.withdrawn) == sorted(interval_of(n) for n in withdrawn)


def test_spans_of_a_ledger_without_runs_are_none(warehouse: Database) -> None:
    change(warehouse, list(range(COUNT)), state="failed")
    assert read_coverage(warehouse, PIPELINE).published == ()


def test_a_withdrawn_interval_inside_a_published_one_is_done(warehouse: Database) -> None:
    change(warehouse, [5, 6], state="withdrawn")
    change(warehouse, [4], interval_end=interval_of(5).end)

    coverage = read_coverage(warehouse, PIPELINE)

    assert coverage.withdrawn == (interval_of(6),)
    assert len(coverage.published) == 2


@pytest.mark.parametrize("seed", range(4))
def test_spans_of_an_old_ledger_whose_runs_overlap_claim_nothing_that_no_run_scored(
    warehouse: Database, seed: int
) -> None:
    draw = random.Random(seed)
    change(warehouse, draw.sample(range(COUNT), 25), state="failed")
    for number in draw.sample(range(COUNT), 6):
        change(warehouse, [number], interval_end=interval_of(number).end + draw.randrange(1, 9) * GRAIN / 2)
    published = [run.interval for run in list_runs(warehouse, limit=COUNT, states=("published",)) if run.interval]
    scored = merge(published)

    for span in read_coverage(warehouse, PIPELINE).published:
        assert any(whole.covers(span) for whole in scored)


def test_overlapping_live_runs_and_snapshots_are_found(warehouse: Database) -> None:
    with warehouse.reading() as connection:
        place = destination_name(connection, PIPELINE.destination)
        assert find_dispute(connection, place) is None
    change(warehouse, [10], interval_end=interval_of(12).end)
    change(warehouse, [30], interval_end=interval_of(30).end + GRAIN / 2)

    with warehouse.reading() as connection:
        found = find_dispute(connection, place)
        first = find_dispute(connection, place, 2)

    assert found is not None
    pairs = [tuple(run.interval.start for run in pair if run.interval) for pair in found.overlaps]
    starts = [(interval_of(a).start, interval_of(b).start) for a, b in ((10, 11), (10, 12), (30, 31))]
    assert pairs == starts
    assert first is not None
    assert len(first.overlaps) == 2

    change(warehouse, list(range(3, COUNT)), state="failed")
    change(warehouse, [1], interval_start=None, interval_end=None)
    with warehouse.reading() as connection:
        beside = find_dispute(connection, place)
    assert beside is not None
    assert [(one.interval, two.interval) for one, two in beside.overlaps] == [
        (None, interval_of(0)),
        (None, interval_of(2)),
    ]


def test_two_live_runs_of_the_same_start_overlap(warehouse: Database) -> None:
    change(warehouse, [7], interval_start=interval_of(6).start)
    with warehouse.reading() as connection:
        found = find_dispute(connection, destination_name(connection, PIPELINE.destination))
    assert found is not None
    assert len(found.overlaps) == 1


def test_the_published_run_before_is_the_newest_of_published_and_superseded_ones(warehouse: Database) -> None:
    middle = run_of(warehouse, 20)
    assert previous_published(warehouse, middle) == run_of(warehouse, 19)
    change(warehouse, [19], state="superseded")
    assert previous_published(warehouse, middle) == run_of(warehouse, 19)
    change(warehouse, [19], state="withdrawn")
    assert previous_published(warehouse, middle) == run_of(warehouse, 18)
    change(warehouse, [18], started_at=middle.started_at + timedelta(days=1))
    assert previous_published(warehouse, middle) == run_of(warehouse, 17)
    assert previous_published(warehouse, run_of(warehouse, 0)) is None


def test_a_run_is_found_by_the_beginning_of_its_id(warehouse: Database) -> None:
    run = run_of(warehouse, 20)
    assert find_run(warehouse, run.run_id) == run
    with pytest.raises(RunNotFound, match=run_of(warehouse, 0).run_id):
        find_run(warehouse, run.run_id[:8])
    for nothing in ("%", "_", "7_", "80", f"{run.run_id}0"):
        with pytest.raises(RunNotFound):
            find_run(warehouse, nothing)


def test_past_runs_are_looked_for_among_the_newest_runs(warehouse: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "RECENT_RUNS", 10)
    change(warehouse, list(range(55, 60)), rows_extracted=0)
    assert [run.interval for run in past_runs(warehouse, PIPELINE.name)] == [interval_of(n) for n in range(54, 49, -1)]
    assert newest_memory_profile(warehouse, PIPELINE.name) is None


def test_busy_runs_are_those_of_the_destination_under_a_lease(warehouse: Database) -> None:
    later, name = datetime.now(UTC) + timedelta(hours=1), "former-name"
    change(warehouse, [1, 2, 3], state="running")
    change(warehouse, [1, 2], lease_until=later)
    change(warehouse, [2], pipeline=name)
    change(warehouse, [4], state="running", lease_until=later, destination="main.other")

    assert [run.interval for run in find_busy(PIPELINE)] == [interval_of(1), interval_of(2)]
    half = replace(interval_of(2), start=interval_of(2).start + GRAIN / 2)
    assert [run.overlaps(half) for run in find_busy(PIPELINE)] == [False, True]


def read_plans(database: Database, operation: Callable[[], Any]) -> list[str]:
    """Return SQLite's query plans of the operation's reads of runs."""
    queries: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and "penstock_runs" in statement:
            queries.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", keep)
    operation()
    sa.event.remove(database.engine, "before_cursor_execute", keep)
    assert queries
    with database.reading() as connection:
        return [
            str(row[3])
            for statement, parameters in queries
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


BY_DESTINATION, BY_START, NEWEST, OF_INTERVAL = (
    f"penstock_runs_{name}" for name in ("by_destination", "by_start", "newest", "of_interval")
)


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("operation", "index"),
    [
        pytest.param(list_runs, NEWEST, id="runs"),
        pytest.param(lambda database: list_runs(database, None, 30, ("halted",)), NEWEST, id="halted runs"),
        pytest.param(lambda database: list_runs(database, PIPELINE.name), BY_START, id="runs of a pipeline"),
        pytest.param(lambda database: list_runs(database, PIPELINE.name, 30, ("halted",)), BY_START, id="halted ones"),
        pytest.param(lambda database: past_runs(database, PIPELINE.name), BY_START, id="estimates"),
        pytest.param(lambda database: newest_memory_profile(database, PIPELINE.name), BY_START, id="memory"),
        pytest.param(lambda database: read_coverage(database, PIPELINE), BY_DESTINATION, id="plan"),
        pytest.param(lambda database: previous_published(database, run_of(database, 20)), BY_DESTINATION, id="shift"),
        pytest.param(lambda database: earlier_runs(database, run_of(database, 20)), OF_INTERVAL, id="earlier runs"),
        pytest.param(lambda database: replaced_runs(database, run_of(database, 20)), OF_INTERVAL, id="replaced runs"),
        pytest.param(lambda _database: find_busy(PIPELINE), BY_DESTINATION, id="busy runs"),
    ],
)
def test_the_queries_of_every_day_read_runs_by_an_index(
    warehouse: Database, operation: Callable[[Database], Any], index: str
) -> None:
    plan = read_plans(warehouse, lambda: operation(warehouse))
    assert [
        step for step in plan if step.startswith(("SCAN penstock_runs", "SCAN recent")) and "INDEX" not in step
    ] == []
    assert any(f"INDEX {index}" in step for step in plan), plan
