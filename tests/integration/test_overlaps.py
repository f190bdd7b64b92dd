"""The ledger on real databases: no two live runs of a destination overlap, and a destination has one owner."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.errors import DestinationDisputed, DestinationTaken, IntervalBusy, OverlappingRuns, TransientError
from penstock.interval import DataInterval, merge
from penstock.ledger import writer
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.coverage import read_coverage
from penstock.ledger.destinations import destination_name, find_dispute, refuse_others
from penstock.ledger.reader import find_run, list_runs
from penstock.ledger.tables import destinations, runs
from penstock.ledger.writer import Publication, Totals, publish, withdraw
from penstock.run.planning import PlanRequest, plan_intervals
from penstock.run_types import ModelPin, ScoringRun
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.shop import SPEC

PIPELINE = parse_pipeline(SPEC.encode(), "x")
MODEL = ModelPin("card-risk", "1", "d" * 64)
TOTALS = Totals(10, 9, 1, 0)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def changed(*, interval: dict[str, Any] | None = None, **changes: Any) -> Pipeline:
    data = PIPELINE.model_dump(mode="json", by_alias=True) | changes
    data["interval"] |= interval or {}
    return Pipeline.model_validate(data)


def hours(start: float, end: float) -> DataInterval:
    return DataInterval(FIRST + timedelta(hours=start), FIRST + timedelta(hours=end))


def days(start: int, end: int) -> DataInterval:
    return hours(24 * start, 24 * end)


def begin(
    database: Database, interval: DataInterval | None, reason: str = "due", pipeline: Pipeline = PIPELINE, **rest: Any
) -> ScoringRun:
    request = ClaimRequest(pipeline, interval, MODEL, reason, rest.pop("lease", 60.0), again=reason != "due", **rest)
    run = claim(database, request)
    assert run is not None
    return run


def score(
    database: Database, interval: DataInterval | None, reason: str = "due", pipeline: Pipeline = PIPELINE
) -> tuple[ScoringRun, Publication]:
    run = begin(database, interval, reason, pipeline)
    return run, publish(database, run, TOTALS, [])


def live(database: Database) -> list[DataInterval | None]:
    found = list_runs(database, limit=1000, states=("published",))
    intervals = [run.interval for run in found]
    assert sum((i.end - i.start for i in intervals if i), timedelta()) == sum(
        (i.end - i.start for i in merge(i for i in intervals if i)), timedelta()
    ), f"live runs overlap: {intervals}"
    return sorted(intervals, key=lambda i: (i is not None, i))


def test_an_interval_that_covers_live_ones_supersedes_all_of_them(warehouse: Database) -> None:
    old = [score(warehouse, days(n, n + 1))[0].run_id for n in range(3)]

    wide, publication = score(warehouse, days(0, 4))

    assert sorted(publication.superseded) == sorted(old)
    assert live(warehouse) == [days(0, 4)]
    assert {find_run(warehouse, run_id).replaced_by_run_id for run_id in old} == {wide.run_id}


@pytest.mark.parametrize("interval", [hours(12, 36), hours(-6, 18), hours(3, 4), hours(18, 80)])
def test_a_partial_overlap_is_refused_with_the_run_and_both_ways_out(
    warehouse: Database, interval: DataInterval
) -> None:
    run, _ = score(warehouse, days(0, 1))

    with pytest.raises(OverlappingRuns, match=run.run_id[:8]) as refused:
        begin(warehouse, interval)

    assert f"penstock withdraw {run.run_id[:8]}" in str(refused.value)
    withdraw(warehouse, run.run_id)
    score(warehouse, interval)
    assert live(warehouse) == [interval]


def test_intervals_that_only_touch_are_both_live(warehouse: Database) -> None:
    for interval in (hours(0, 24), hours(24, 25), hours(-1, 0)):
        score(warehouse, interval)
    assert live(warehouse) == [hours(-1, 0), hours(0, 24), hours(24, 25)]


def test_a_run_that_overlaps_one_at_work_is_busy_until_its_lease_ends(warehouse: Database) -> None:
    slow = begin(warehouse, days(0, 1), lease=0.5)
    with pytest.raises(IntervalBusy, match=slow.run_id):
        begin(warehouse, days(0, 4))
    time.sleep(0.7)

    score(warehouse, days(0, 4))

    assert find_run(warehouse, slow.run_id).state == "abandoned"
    assert live(warehouse) == [days(0, 4)]


def test_a_publish_that_meets_a_new_partial_overlap_is_refused(warehouse: Database) -> None:
    """Even a claim that an older process made past the guard cannot publish rows twice."""
    run = begin(warehouse, hours(12, 36))
    with warehouse.writing() as connection:
        row = dict(connection.execute(sa.select(runs)).mappings().one())
        begun, end = FIRST, FIRST + timedelta(days=1)
        other = row | {"run_id": "e" * 32, "state": "published", "published_at": end}
        other |= {"interval_start": begun, "interval_end": end, "interval_key": days(0, 1).key}
        connection.execute(runs.insert().values(**other))

    with pytest.raises(OverlappingRuns, match="eeeeeeee"):
        publish(warehouse, run, TOTALS, [])
    assert live(warehouse) == [days(0, 1)]


def test_a_restate_in_narrower_intervals_replaces_the_wide_one_at_once(warehouse: Database) -> None:
    week, _ = score(warehouse, days(0, 7))

    for day in range(6):
        _, publication = score(warehouse, days(day, day + 1), "restate")
        assert [run.run_id for run in publication.waits_to_cover] == [week.run_id]
        assert live(warehouse) == [days(0, 7)]
    _, last = score(warehouse, days(6, 7), "restate")

    assert last.superseded == (week.run_id,)
    assert len(last.together_with) == 6
    assert live(warehouse) == [days(n, n + 1) for n in range(7)]


def test_a_restate_on_a_moved_grid_replaces_all_that_it_touches_at_once(warehouse: Database) -> None:
    for n in range(3):
        score(warehouse, days(n, n + 1))

    for n in range(4):
        assert len(live(warehouse)) == 3
        score(warehouse, hours(24 * n - 12, 24 * n + 12), "restate")

    assert live(warehouse) == [hours(24 * n - 12, 24 * n + 12) for n in range(4)]


def test_an_audited_run_is_dropped_when_its_interval_is_scored_again(warehouse: Database) -> None:
    score(warehouse, days(0, 2))
    first, _ = score(warehouse, days(0, 1), "restate")
    again, _ = score(warehouse, days(0, 1), "restate")
    score(warehouse, days(1, 2), "restate")

    assert [find_run(warehouse, r.run_id).state for r in (first, again)] == ["abandoned", "published"]
    assert live(warehouse) == [days(0, 1), days(1, 2)]


def test_a_snapshot_takes_the_place_of_all_intervals_and_stops_later_ones(warehouse: Database) -> None:
    for n in range(3):
        score(warehouse, days(n, n + 1))
    snapshot = changed()
    snapshot = Pipeline.model_validate(snapshot.model_dump(mode="json", by_alias=True) | {"interval": None})

    score(warehouse, None, "snapshot", snapshot)

    assert live(warehouse) == [None]
    with pytest.raises(OverlappingRuns, match="overlaps live runs"):
        begin(warehouse, days(3, 4))


def test_of_two_overlapping_publishes_at_once_one_is_live(warehouse: Database) -> None:
    """Both were claimed by processes that do not refuse overlaps; the publish alone must keep them apart."""
    first, second = begin(warehouse, days(0, 1)), None
    with warehouse.writing() as connection:  # hide the first claim, so that the second is not busy
        connection.execute(sa.update(runs).values(state="hidden"))
    second = begin(warehouse, days(0, 4))
    with warehouse.writing() as connection:
        connection.execute(sa.update(runs).where(runs.c.run_id == first.run_id).values(state="running"))
    barrier, outcomes = threading.Barrier(2), {}

    def try_it(name: str, run: ScoringRun) -> None:
        barrier.wait()
        for _ in range(50):
            try:
                publish(warehouse, run, TOTALS, [])
                outcomes[name] = "published"
                return
            except OverlappingRuns:
                outcomes[name] = "refused"
                return
            except TransientError:
                time.sleep(0.02)

    threads = [threading.Thread(target=try_it, args=pair) for pair in (("day", first), ("days", second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes in ({"day": "published", "days": "published"}, {"day": "refused", "days": "published"})
    assert live(warehouse) == [days(0, 4)]


def test_a_lost_answer_to_a_claim_is_adopted_by_the_same_flow_run(warehouse: Database) -> None:
    first = begin(warehouse, days(0, 1), flow_run_id="flow")
    again = begin(warehouse, days(0, 1), flow_run_id="flow")
    assert again == replace(first)
    with pytest.raises(IntervalBusy):
        begin(warehouse, days(0, 1), flow_run_id="another")
    publish(warehouse, again, TOTALS, [])
    assert live(warehouse) == [days(0, 1)]


# --- owners


@pytest.mark.parametrize("table", ["card_risk_scores", "CARD_RISK_scores"])
def test_a_second_pipeline_cannot_write_into_a_table(warehouse: Database, table: str) -> None:
    if warehouse.dialect == "postgresql" and table != "card_risk_scores":
        pytest.skip("Postgres tells the two names apart")
    score(warehouse, days(0, 1))
    other = changed(name="fraud", destination={"table": table})

    with pytest.raises(DestinationTaken, match="penstock rename card-risk fraud"):
        begin(warehouse, days(1, 2), pipeline=other)
    with pytest.raises(DestinationTaken, match="belongs to pipeline `card-risk`"):
        refuse_others(warehouse, other)
    assert live(warehouse) == [days(0, 1)]


def test_the_default_schema_is_the_same_table_under_its_name(warehouse: Database) -> None:
    score(warehouse, days(0, 1))
    schema = {"sqlite": "main", "duckdb": "main", "postgresql": "public"}[warehouse.dialect]
    same = changed(destination={"table": "card_risk_scores", "schema": schema})
    assert read_coverage(warehouse, same).published == (days(0, 1),)
    with pytest.raises(DestinationTaken):
        begin(
            warehouse,
            days(1, 2),
            pipeline=changed(name="fraud", destination=same.destination.model_dump(by_alias=True)),
        )


@pytest.mark.parametrize("table", ["card_risk_scores_latest", "card_risk_scores__history"])
def test_a_table_may_not_be_a_view_of_another_pipeline(warehouse: Database, table: str) -> None:
    score(warehouse, days(0, 1))
    other = changed(name="fraud", destination={"table": table})
    with pytest.raises(DestinationTaken, match="is a view or a table of pipeline `card-risk`"):
        begin(warehouse, days(0, 1), pipeline=other)


def test_a_table_without_live_rows_may_change_hands_and_the_old_owner_cannot_publish(warehouse: Database) -> None:
    dead = begin(warehouse, days(0, 1), lease=0.2)
    time.sleep(0.4)
    other = changed(name="fraud")
    score(warehouse, days(5, 6), pipeline=other)

    with pytest.raises(writer.TakenOver):
        publish(warehouse, dead, TOTALS, [])
    assert live(warehouse) == [days(5, 6)]


def test_what_is_done_is_known_for_each_table(warehouse: Database) -> None:
    for n in range(3):
        score(warehouse, days(n, n + 1))
    moved = changed(destination={"table": "other_scores"})

    plan = plan_intervals(PlanRequest(moved, read_coverage(warehouse, moved), FIRST + timedelta(days=3), lambda _: ""))
    assert [p.interval for p in plan.intervals] == [days(0, 1), days(1, 2), days(2, 3)]
    _, publication = score(warehouse, days(0, 1), "restate", moved)

    assert publication.superseded == ()
    assert read_coverage(warehouse, PIPELINE).published == (days(0, 3),)
    assert read_coverage(warehouse, moved).published == (days(0, 1),)


def test_a_ledger_with_old_overlaps_takes_no_run_until_they_are_withdrawn(warehouse: Database) -> None:
    week, _ = score(warehouse, days(0, 7))
    with warehouse.writing() as connection:
        row = dict(connection.execute(sa.select(runs)).mappings().one())
        day = row | {"run_id": "e" * 32, "interval_key": days(0, 1).key, "interval_end": FIRST + timedelta(days=1)}
        connection.execute(runs.insert().values(**day))
        connection.execute(sa.update(destinations).values(disputed=True))
        place = destination_name(connection, PIPELINE.destination)
        dispute = find_dispute(connection, place)
    assert dispute is not None
    assert [{a.run_id, b.run_id} for a, b in dispute.overlaps] == [{week.run_id, "e" * 32}]

    with pytest.raises(DestinationDisputed, match="penstock withdraw RUN_ID"):
        begin(warehouse, days(7, 14))
    with pytest.raises(DestinationDisputed, match="shows rows twice"):
        refuse_others(warehouse, PIPELINE)

    withdraw(warehouse, "e" * 32)
    score(warehouse, days(7, 14))
    assert live(warehouse) == [days(0, 7), days(7, 14)]
