"""Pruning on real databases: what is invisible or old goes, what a reader or a run may need stays."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import Database, open_database
from penstock.errors import DatabaseUnavailable, LinesPruned, TakenOver
from penstock.interval import DataInterval
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.coverage import NOTHING_DONE, Coverage, read_coverage
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import find_run, list_runs
from penstock.ledger.tables import runs
from penstock.ledger.writer import Totals, end_run, publish, withdraw
from penstock.run.load import load_partition
from penstock.run_types import FailedExpectation, Features, ModelPin, Partition, Refusal, ScoredRows, ScoringRun
from penstock.sources.logs.landed import LogReader, landed_table
from penstock.sources.logs.landing import land_lines
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import LogSource
from penstock.spec.yaml_file import parse_pipeline
from penstock.upkeep import prune as pruning
from penstock.upkeep.prune import count_prune, prune
from penstock.upkeep.prune_plan import PrunableRun, needed_from, plan_prune
from tests.conftest import DIALECTS
from tests.shop import SPEC

MODEL = ModelPin("card-risk", "1", "d" * 64)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LATER = timedelta(days=8)


def day(number: int) -> DataInterval:
    return DataInterval(FIRST + timedelta(days=number), FIRST + timedelta(days=number + 1))


def with_retention(**retention: Any) -> Pipeline:
    return parse_pipeline(f"{SPEC}\nretention: {json.dumps(retention)}".encode(), "x")


PIPELINE = with_retention(keep_runs=1)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def take(database: Database, number: int = 0, *, again: bool = False) -> ScoringRun:
    run = claim(database, ClaimRequest(PIPELINE, day(number), MODEL, "due", 60.0, again=again))
    assert run is not None
    return run


def fill(database: Database, run: ScoringRun, keys: list[int]) -> None:
    table = pa.table({"payment_id": pa.array(keys, pa.int64()), "score": pa.array([0.5] * len(keys), pa.float64())})
    refusals = (Refusal("payments", "payments", '{"payment_id": 99}', (FailedExpectation("too bad"),), "{}", "digest"),)
    scored = ScoredRows(table, Features(table, len(keys) + 1, 0, refusals, ()), refusals, (), ())
    load_partition(database, run, Partition(0, 1, None, None, len(keys)), scored, {}, 1)


def publish_rows(database: Database, keys: list[int], number: int = 0, *, again: bool = False) -> ScoringRun:
    run = take(database, number, again=again)
    fill(database, run, keys)
    publish(database, run, Totals(len(keys) + 1, len(keys), 1, 0), [])
    return run


def fail_with_rows(database: Database, keys: list[int], number: int = 0) -> ScoringRun:
    run = take(database, number, again=True)
    fill(database, run, keys)
    end_run(database, run, "failed", "killed")
    return run


def prune_at(
    database: Database, pipeline: Pipeline = PIPELINE, after: timedelta = LATER, **options: Any
) -> dict[str, int]:
    plan = plan_prune(database, pipeline, datetime.now(UTC) + after)
    return {each.kind: each.rows for each in prune(database, plan, **options)}


def held(database: Database, run: ScoringRun) -> int:
    """Count a run's rows in the history table, live or not."""
    record = find_run(database, run.run_id)
    history = PrunableRun(run.run_id, record.destination, record.destination_table).history
    with database.reading() as connection:
        query = sa.select(sa.func.count()).select_from(history).where(history.c.run_id == run.run_id)
        return int(connection.execute(query).scalar_one())


def visible(database: Database) -> list[int]:
    with database.reading() as connection:
        return list(connection.execute(sa.text("select payment_id from card_risk_scores order by 1")).scalars())


def test_rows_of_a_run_that_never_published_go_after_a_week_and_the_run_stays(warehouse: Database) -> None:
    failed = fail_with_rows(warehouse, [1, 2, 3])
    publish_rows(warehouse, [1, 2])

    assert prune_at(warehouse, after=timedelta(days=6)) == {}
    assert prune_at(warehouse) == {"unpublished rows": 3}

    assert held(warehouse, failed) == 0
    record = find_run(warehouse, failed.run_id)
    assert record.state == "failed"
    assert record.rows_pruned_at is not None
    assert visible(warehouse) == [1, 2]


def test_the_newest_replaced_runs_of_each_interval_keep_their_rows(warehouse: Database) -> None:
    ended = [publish_rows(warehouse, list(range(1, 3 + n)), again=True) for n in range(4)]
    other = publish_rows(warehouse, [7], 1)
    withdraw(warehouse, other.run_id)

    assert prune_at(warehouse) == {"replaced rows": 5}

    assert [held(warehouse, run) for run in ended] == [0, 0, 4, 5]
    assert held(warehouse, other) == 1
    assert visible(warehouse) == [1, 2, 3, 4, 5]


def test_a_prune_takes_many_batches_and_goes_on_where_it_was_killed(
    warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = fail_with_rows(warehouse, list(range(1, 24)))
    publish_rows(warehouse, [1])
    whole, done = pruning._delete_batch, []

    def killed_at_the_third(*arguments: Any) -> bool:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pruning, "_delete_batch", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            prune_at(warehouse, batch_rows=5)
    assert held(warehouse, failed) == 13
    assert find_run(warehouse, failed.run_id).rows_pruned_at is None

    assert prune_at(warehouse, batch_rows=5) == {"unpublished rows": 13}
    assert held(warehouse, failed) == 0
    assert prune_at(warehouse) == {}
    assert visible(warehouse) == [1]


def test_running_and_published_runs_lose_nothing_whatever_the_retention(warehouse: Database) -> None:
    nothing = with_retention(keep_runs=0, unpublished="0m")
    publish_rows(warehouse, [1, 2])
    running = take(warehouse, again=True)
    fill(warehouse, running, [1, 2, 3])

    assert prune_at(warehouse, nothing, timedelta(days=999)) == {}
    publish(warehouse, running, Totals(4, 3, 1, 0), [])

    assert visible(warehouse) == [1, 2, 3]


def test_a_plan_that_is_old_removes_no_row_of_a_run_that_is_not_what_it_was(warehouse: Database) -> None:
    running = take(warehouse)
    fill(warehouse, running, [1, 2])
    record = find_run(warehouse, running.run_id)
    failed = PrunableRun(record.run_id, record.destination, record.destination_table)
    plan = replace(plan_prune(warehouse, PIPELINE, datetime.now(UTC)), unpublished=(failed,))

    prune(warehouse, plan)

    publish(warehouse, running, Totals(3, 2, 1, 0), [])
    assert visible(warehouse) == [1, 2]


def test_a_prune_beside_restates_leaves_each_published_run_whole(warehouse: Database) -> None:
    publish_rows(warehouse, [1])
    stop, policy = threading.Event(), with_retention(keep_runs=0, unpublished="0m")

    def keep_pruning() -> None:
        while not stop.is_set():
            try:
                prune_at(warehouse, policy, timedelta(seconds=1), batch_rows=3)
            except DatabaseUnavailable:
                continue

    pruner = threading.Thread(target=keep_pruning)
    pruner.start()
    try:
        for size in range(2, 10):
            while True:
                try:
                    publish_rows(warehouse, list(range(size)), again=True)
                    break
                except (DatabaseUnavailable, TakenOver):
                    with warehouse.writing() as connection:  # what the flow's own retries would do
                        ended = sa.update(runs).where(runs.c.state == "running").values(state="failed")
                        connection.execute(ended)
            assert visible(warehouse) == list(range(size))
    finally:
        stop.set()
        pruner.join()


def test_refused_rows_go_after_their_time_and_those_of_newer_runs_stay(warehouse: Database) -> None:
    policy = with_retention(quarantine="30d")
    publish_rows(warehouse, [1])

    assert prune_at(warehouse, policy, timedelta(days=29)) == {}
    assert prune_at(warehouse, policy, timedelta(days=31)) == {"refused rows": 1}

    assert quarantined_rows(warehouse) == []
    assert find_run(warehouse, list_runs(warehouse)[0].run_id).rows_quarantined == 1


def test_withdrawn_rows_that_were_pruned_come_back_by_a_restate(warehouse: Database) -> None:
    first = publish_rows(warehouse, [1, 2])
    withdraw(warehouse, first.run_id)
    assert prune_at(warehouse, with_retention(keep_runs=0)) == {"replaced rows": 2}
    assert visible(warehouse) == []
    assert read_coverage(warehouse, with_retention()).withdrawn == (day(0),)

    publish_rows(warehouse, [1, 2, 3], again=True)

    assert visible(warehouse) == [1, 2, 3]


def test_a_withdraw_while_a_restate_runs_empties_the_view_until_the_restate_publishes(warehouse: Database) -> None:
    first = publish_rows(warehouse, [1, 2])
    restate = take(warehouse, again=True)
    fill(warehouse, restate, [1, 2, 3])

    withdraw(warehouse, first.run_id)
    assert visible(warehouse) == []
    assert publish(warehouse, restate, Totals(4, 3, 1, 0), []).superseded == ()

    assert visible(warehouse) == [1, 2, 3]
    assert find_run(warehouse, first.run_id).state == "withdrawn"


LOG_SPEC = """
name: visits
interval: {column: time, grain: 1d, start: 2026-01-01T00:00:00Z, lookback: 1}
sources:
  visits: {kind: log, path: access.log, format: combined}
model: card-risk@champion
destination: {table: visit_scores}
retention: {log_lines: 1d}
"""
LOGS = parse_pipeline(LOG_SPEC.encode(), "x")
NOW = FIRST + timedelta(days=10, hours=1)


def land_days(database: Database, days: int) -> LogSource:
    lines = [
        f'10.0.0.1 - ann [{n + 1:02}/Jan/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 12 "-" "-"\nnot a line\n'
        for n in range(days)
    ]
    Path("access.log").write_text("".join(lines))
    source = LOGS.primary_source
    assert isinstance(source, LogSource)
    land_lines("visits", "visits", source, database, ())
    return source


def settle(database: Database, numbers: range) -> None:
    for number in numbers:
        run = claim(database, ClaimRequest(LOGS, day(number), MODEL, "due", 60.0))
        assert run is not None
        publish(database, run, Totals(0, 0, 0, 0), [])


def landed(database: Database) -> int:
    with database.reading() as connection:
        table = landed_table("visits", "visits")
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_lines_stay_that_an_unpublished_or_watched_interval_needs(warehouse: Database) -> None:
    land_days(warehouse, 10)
    settle(warehouse, range(3))
    assert prune(warehouse, plan_prune(warehouse, LOGS, NOW))[0].rows == 6  # three good, three unreadable
    assert landed(warehouse) == 7

    settle(warehouse, range(3, 10))
    [went] = prune(warehouse, plan_prune(warehouse, LOGS, NOW), batch_rows=4)

    assert (went.kind, went.of, went.rows, landed(warehouse)) == ("log lines", "visits", 12, 1)
    assert land_lines("visits", "visits", land_days(warehouse, 10), warehouse, ()).lines == 0


def test_an_interval_whose_lines_were_pruned_is_refused_and_never_scored_from_what_is_left(warehouse: Database) -> None:
    source = land_days(warehouse, 10)
    settle(warehouse, range(10))
    prune(warehouse, plan_prune(warehouse, LOGS, NOW))
    reader = LogReader("visits", "visits", source, warehouse, primary=True)

    for attempt in (lambda: reader.plan(day(3), 100), lambda: reader.read(day(3))):
        with pytest.raises(LinesPruned, match="before 2026-01-10"):
            attempt()
    assert reader.plan(day(9), 100).rows == 1


def test_intervals_that_catch_up_passes_over_need_no_lines() -> None:
    late = replace_interval(catch_up="latest", lookback=0)
    assert needed_from(late, NOTHING_DONE, None, NOW) == day(9).start
    assert needed_from(LOGS, NOTHING_DONE, None, NOW) == FIRST


def test_lines_of_an_unpublished_month_of_a_zone_stay_from_its_local_start_on() -> None:
    start = datetime(2025, 12, 31, 23, tzinfo=UTC)
    monthly = replace_interval(grain="month", timezone="Europe/Berlin", start=start, lookback=1)
    assert monthly.interval is not None
    months = monthly.interval.grid.split(datetime(2026, 5, 2, tzinfo=UTC))
    now = datetime(2026, 5, 2, tzinfo=UTC)
    done = Coverage(tuple(months[:3]), (), lambda _: [])

    assert needed_from(monthly, done, None, now) == datetime(2026, 3, 31, 22, tzinfo=UTC)
    assert needed_from(monthly, replace(done, published=tuple(months)), None, now) == months[-1].start
    late = replace_interval(grain="month", timezone="Europe/Berlin", start=start, lookback=3)
    assert needed_from(late, replace(done, published=tuple(months)), None, now) == months[1].start


def test_lines_that_a_secondary_source_reaches_back_for_stay(warehouse: Database) -> None:
    land_days(warehouse, 10)
    settle(warehouse, range(10))
    payments = """  payments: {kind: sql, connection: shop, table: payments, key: [id]}
  visits: {kind: log, path: access.log, format: combined, lookback: 3d}"""
    text = LOG_SPEC.replace("  visits: {kind: log, path: access.log, format: combined}", payments)

    plan = plan_prune(warehouse, parse_pipeline(text.encode(), "x"), NOW)

    assert plan.cutoffs == {"visits": day(9).start - timedelta(days=3)}


def replace_interval(**changes: Any) -> Pipeline:
    assert LOGS.interval is not None
    return LOGS.model_copy(update={"interval": LOGS.interval.model_copy(update=changes)})


def test_a_snapshot_may_not_prune_its_lines() -> None:
    from penstock.errors import SpecError

    text = LOG_SPEC.replace("interval: {column: time, grain: 1d, start: 2026-01-01T00:00:00Z, lookback: 1}\n", "")
    with pytest.raises(SpecError, match="reads all landed lines"):
        parse_pipeline(text.encode(), "x")


def test_the_command_counts_asks_and_removes(warehouse: Database, tmp_path: Path) -> None:
    failed = fail_with_rows(warehouse, [1, 2, 3])
    publish_rows(warehouse, [1])
    file = tmp_path / "card-risk.yaml"
    file.write_text(f"{SPEC}\nretention: {{unpublished: 0m}}")
    run = CliRunner()

    shown = run.invoke(app, ["prune", str(file), "--dry-run"])
    assert "3 rows would be removed; nothing was removed" in shown.stdout
    assert run.invoke(app, ["prune", str(file)], input="n\n").exit_code == 1
    assert held(warehouse, failed) == 3
    told = json.loads(run.invoke(app, ["prune", str(file), "--yes", "--json"]).stdout)
    assert told["removed"] == [{"pipeline": "card-risk", "kind": "unpublished rows", "of": "1 run", "rows": 3}]
    assert "nothing to prune" in run.invoke(app, ["prune", str(file)]).stdout
    assert "its rows were pruned" in run.invoke(app, ["show", failed.run_id]).stdout


def test_counting_changes_nothing(warehouse: Database) -> None:
    failed = fail_with_rows(warehouse, [1, 2, 3])
    count_prune(warehouse, plan_prune(warehouse, PIPELINE, datetime.now(UTC) + LATER))
    assert held(warehouse, failed) == 3
