"""All partitions of an interval are read at one moment of a Postgres source, whatever its writers do meanwhile."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import takewhile

import pytest
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Database
from penstock.errors import DatabaseUnusable, SnapshotLost
from penstock.ledger import claims
from penstock.ledger.reader import list_runs, rows_done
from penstock.privacy.masking import NO_MASKING
from penstock.run.extract import extract_partition, plan_partitions
from penstock.sources.snapshot import exported_snapshot
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect, connector
from tests.conftest import view_rows
from tests.driver import Driver
from tests.shop import SPEC, START, Place
from tests.waiting import wait_until

TODAY = START + timedelta(days=1)
RATES = """  rates:
    kind: sql
    connection: shop
    query: select country, count(*) as payments from payments group by 1
expectations:
"""


def make_driver(make_place: Callable[..., Place], warehouse: str = "sqlite") -> tuple[Place, Driver]:
    spec = SPEC.replace("partition_rows: 150", "partition_rows: 10").replace("expectations:\n", RATES)
    place = make_place("postgresql", warehouse, spec=spec, days=1, a_day=40)
    return place, Driver(load_pipeline(place.spec), connect, place.registry)


def change(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(sa.text(statement))


def count_snapshot_holders(database: Database) -> int:
    with database.reading() as connection:
        counted = "select count(*) from pg_stat_activity where application_name = 'penstock reader'"
        return int(connection.execute(sa.text(counted)).scalar_one())


def end_snapshot_holders(database: Database) -> int:
    ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'penstock reader'"
    with database.reading() as connection:
        return int(connection.execute(sa.text(ended)).scalar_one())


def test_rows_that_change_while_partitions_are_read_are_seen_as_they_were_planned(
    make_place: Callable[..., Place],
) -> None:
    place, driver = make_driver(make_place)
    steps = driver.steps(TODAY)
    assert list(takewhile(lambda step: step != "extract 1/4", steps))[-1] == "plan partitions"

    change(place.shop, "delete from payments where payment_id between 12 and 14")
    change(place.shop, "update payments set amount = 1 where payment_id = 25")
    change(place.shop, "update payments set payment_id = 1000 where payment_id = 2")
    list(steps)

    [run] = list_runs(place.warehouse)
    assert (run.state, run.rows_planned, run.rows_scored) == ("published", 40, 40)
    rows = {row[0]: row for row in view_rows(place.warehouse)}
    assert sorted(rows) == list(range(1, 41))
    assert rows[25][2] != 1
    driver.run(TODAY)
    rows = {row[0]: row for row in view_rows(place.warehouse)}
    assert sorted(rows) == [1, *range(3, 12), *range(15, 41), 1000]
    assert rows[25][2] == 1


def test_the_other_sources_of_a_connection_are_read_at_the_same_moment(make_place: Callable[..., Place]) -> None:
    place, driver = make_driver(make_place)
    pin = driver.registry.resolve(driver.pipeline.model)
    run = claims.claim(driver.warehouse, claims.ClaimRequest(driver.pipeline, None, pin, "due", 60))
    assert run is not None
    with ExitStack() as held:
        source_plan = plan_partitions(run, connector(), NO_MASKING, keep_open=held)
        change(place.shop, "delete from payments where payment_id > 10")

        extracted = [extract_partition(run, partition, connector()) for partition in source_plan.partitions]

    assert sum(each.primary.num_rows for each in extracted) == 40
    assert {sum(each.others["rates"]["payments"].to_pylist()) for each in extracted} == {40}


def test_a_lost_snapshot_fails_the_run_at_once_and_the_next_reads_afresh(make_place: Callable[..., Place]) -> None:
    place, driver = make_driver(make_place, "postgresql")
    steps = driver.steps(TODAY)
    assert list(takewhile(lambda step: step != "extract 2/4", steps))[-1] == "load 1/4"

    wait_until(lambda: count_snapshot_holders(place.shop) == 1)  # the session of the last read ends by itself
    assert end_snapshot_holders(place.shop) == 1
    change(place.shop, "delete from payments where payment_id = 40")
    left = list(steps)

    assert left[-1].startswith("failed: connection `shop`: the snapshot that all partitions read is gone")
    assert view_rows(place.warehouse) == []
    driver.run(TODAY)
    assert [row[0] for row in view_rows(place.warehouse)] == list(range(1, 40))


def test_nobody_can_write_under_a_snapshot(make_place: Callable[..., Place]) -> None:
    place, _ = make_driver(make_place)
    with (
        exported_snapshot(place.shop) as snapshot,
        pytest.raises(DatabaseUnusable, match="read-only transaction"),
        replace(place.shop, snapshot=snapshot).reading() as connection,
    ):
        connection.execute(sa.text("delete from payments"))


def test_the_name_of_a_snapshot_that_is_gone_says_so(make_place: Callable[..., Place]) -> None:
    place, _ = make_driver(make_place)
    with exported_snapshot(place.shop) as snapshot:
        pass
    with pytest.raises(SnapshotLost), replace(place.shop, snapshot=snapshot).reading():
        pass


def test_another_sessions_snapshot_of_the_same_name_is_not_entered(make_place: Callable[..., Place]) -> None:
    """Names are short numbers: another server has the same ones, and so has this one after a crash."""
    place, _ = make_driver(make_place)
    with exported_snapshot(place.shop) as snapshot:
        assert snapshot is not None
        name, _, lock = snapshot.partition("/")
        same_name = replace(place.shop, snapshot=f"{name}/{int(lock) - 1}")
        with pytest.raises(SnapshotLost), same_name.reading():
            pass
        with pytest.raises(SnapshotLost):
            read(same_name, sa.select(sa.literal(1)))


@pytest.mark.usefixtures("prefect_api")
def test_the_flow_reads_an_interval_afresh_whose_snapshot_was_lost(make_place: Callable[..., Place]) -> None:
    from penstock.flows.score import score

    place, _ = make_driver(make_place)
    ended = threading.Event()

    def end_once() -> None:
        while not ended.is_set():
            if any(0 < rows_done(place.warehouse, [run.run_id]) < 40 for run in list_runs(place.warehouse)):
                end_snapshot_holders(place.shop)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=end_once)
    thread.start()
    state = score(str(place.spec), end="2026-01-02", return_state=True)
    ended.set()
    thread.join()

    assert state.is_completed(), state.message
    assert [run.state for run in list_runs(place.warehouse)] == ["published", "failed"]
    assert [row[0] for row in view_rows(place.warehouse)] == list(range(1, 41))


def test_a_change_that_commits_after_a_newer_one_is_seen_as_late(make_place: Callable[..., Place]) -> None:
    place, driver = make_driver(make_place)
    change(place.shop, "update payments set updated_at = '2026-01-02 09:00+00' where payment_id = 7")
    driver.run(TODAY)

    # This one began before nine, and commits only now: the newest change stays the same.
    change(place.shop, "update payments set amount = 3, updated_at = '2026-01-02 08:59+00' where payment_id = 8")
    driver.run(TODAY)

    assert {row[0]: row[2] for row in view_rows(place.warehouse)}[8] == 3
    assert [run.reason for run in list_runs(place.warehouse)] == ["late rows", "due"]
