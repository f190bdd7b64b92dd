"""The thread that renews a lease goes on after any error, and the run says so if the lease ends all the same."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.errors import LeaseEnded
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.reader import find_run
from penstock.ledger.run_lease import ActiveRun, run_lease
from penstock.run_types import ModelPin, ScoringRun
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.shop import SPEC
from tests.waiting import wait_until

LEASE = 2.0


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def take(warehouse: Database) -> ScoringRun:
    pipeline = parse_pipeline(SPEC.encode(), "x")
    request = ClaimRequest(pipeline, None, ModelPin("card-risk", "1", "d" * 64), "due", LEASE)
    run = claim(warehouse, request)
    assert run is not None
    return run


def wait_for_end(active: ActiveRun) -> None:
    """Do what a run does between its partitions, for longer than any lease."""
    until = time.monotonic() + 20 * LEASE
    while time.monotonic() < until:
        active.check()
        time.sleep(0.05)


@contextmanager
def out_of_order(warehouse: Database) -> Iterator[None]:
    """Let every renewal end in an error that is not Penstock's and not a driver's."""

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE penstock_runs SET lease_until"):
            raise RuntimeError("out of order")

    sa.event.listen(warehouse.engine, "before_cursor_execute", fail)
    yield
    sa.event.remove(warehouse.engine, "before_cursor_execute", fail)


def test_a_lease_that_cannot_be_renewed_ends_and_the_run_says_why(warehouse: Database) -> None:
    run = take(warehouse)

    with (
        out_of_order(warehouse),
        pytest.raises(LeaseEnded, match="RuntimeError: out of order"),
        run_lease(warehouse, run, LEASE) as active,
    ):
        wait_for_end(active)

    record = find_run(warehouse, run.run_id)
    assert record.state == "failed"
    assert str(record.error).startswith(f"run {run.run_id} could not renew its lease before the lease ended")


def test_a_lease_that_is_renewed_again_in_time_is_kept(warehouse: Database) -> None:
    run = take(warehouse)
    with run_lease(warehouse, run, LEASE) as active:
        until = find_run(warehouse, run.run_id).lease_until
        with out_of_order(warehouse):
            time.sleep(LEASE * 0.75)
        wait_until(lambda: find_run(warehouse, run.run_id).lease_until > until)
        active.check()


@pytest.mark.parametrize("warehouse", ["postgresql"], indirect=True)
def test_a_lease_whose_ledger_denies_access_ends_and_the_run_says_so(warehouse: Database) -> None:
    run = take(warehouse)
    role = f"reader_{run.run_id}"
    with warehouse.writing() as connection:
        connection.execute(sa.text(f"create role {role}"))
        connection.execute(sa.text(f"grant select on all tables in schema public to {role}"))
    options = {"options": f"{warehouse.url.query['options']} -c role={role}"}
    engine = sa.create_engine(warehouse.url.update_query_dict(options))
    denied = replace(warehouse, engine=engine)

    with (
        pytest.raises(LeaseEnded, match=r"AccessDenied: .*permission denied for table penstock_runs"),
        run_lease(denied, run, LEASE) as active,
    ):
        wait_for_end(active)
    engine.dispose()

    # Its end could not be recorded either. The next run finds that the lease has ended.
    assert find_run(warehouse, run.run_id).state == "running"


@pytest.mark.parametrize("warehouse", ["sqlite", "postgresql"], indirect=True)
def test_a_lease_for_which_no_connection_is_free_ends_and_the_run_says_so(warehouse: Database) -> None:
    run = take(warehouse)
    engine = sa.create_engine(warehouse.url, pool_size=1, max_overflow=0, pool_timeout=1.0, poolclass=sa.pool.QueuePool)
    crowded = replace(warehouse, engine=engine)

    with (
        pytest.raises(LeaseEnded, match="all its connections in this process are in use"),
        run_lease(crowded, run, LEASE) as active,
        crowded.reading(),
    ):
        wait_for_end(active)
    engine.dispose()

    assert find_run(warehouse, run.run_id).state == "failed"
