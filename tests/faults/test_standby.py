"""A Postgres standby as the source: it is read at one moment, may cancel a read, and may be promoted."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Database, close_engines, open_database
from penstock.errors import StandbyConflict
from penstock.ledger.reader import list_runs, rows_done
from penstock.settings import Settings
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import view_rows
from tests.driver import Driver
from tests.faults.conftest import Tell
from tests.faults.harness.cluster import Cluster
from tests.faults.harness.standby import Standby
from tests.shop import SPEC, START, Place, payments, train_model, write_payments

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TODAY = START.replace(day=2)


class Source:
    """A shop on a primary server. Connection `shop` leads to its standby, over a link that may be moved."""

    def __init__(self, primary: Cluster, standby: Standby, link: Path) -> None:
        self.primary, self.standby, self._link = primary, standby, link
        link.symlink_to(standby.folder)

    @property
    def url(self) -> str:
        return self.primary.url().replace(str(self.primary.folder), str(self._link))

    def lead_to(self, server: Cluster) -> None:
        self._link.unlink()
        self._link.symlink_to(server.folder)

    def change(self, statement: str) -> None:
        """Change rows on the primary, remove their old versions, and let the standby replay both."""
        self.primary.execute(statement)
        self.primary.execute("vacuum payments")
        self.standby.follow()


@pytest.fixture
def make_source(tmp_path: Path) -> Iterator[Callable[..., Source]]:
    with ExitStack() as running:

        def make(**settings: str) -> Source:
            primary = running.enter_context(Cluster())
            engine = sa.create_engine(primary.url().replace("postgresql:", "postgresql+psycopg:"))
            write_payments(Database("shop", engine), payments(days=1, a_day=40))
            engine.dispose()
            primary.execute("vacuum payments")
            standby = running.enter_context(Standby(primary, max_standby_streaming_delay="100ms", **settings))
            link = Path(f"{primary.folder}-link")
            running.callback(link.unlink, missing_ok=True)
            source = Source(primary, standby, link)
            standby.follow()
            return source

        yield make
        close_engines()


@pytest.fixture
def make_place(tmp_path: Path, use_settings: Callable[..., Settings]) -> Callable[[Source], tuple[Place, Driver]]:
    """Build a warehouse, a model and a spec that reads the shop in four partitions."""

    def make(source: Source) -> tuple[Place, Driver]:
        settings = use_settings(shop=source.url, warehouse=f"sqlite:///{tmp_path}/warehouse.sqlite")
        file = tmp_path / "card-risk.yaml"
        file.write_text(SPEC.replace("partition_rows: 150", "partition_rows: 10"))
        databases = [open_database(settings, name) for name in ("shop", "warehouse")]
        place = Place(tmp_path, *databases, file, train_model(settings.models_folder))
        return place, Driver(load_pipeline(file), connect, place.registry)

    return make


def load_first(driver: Driver) -> Iterator[str]:
    """Return the rest of a run that has loaded its first partition of four."""
    steps = driver.steps(TODAY)
    assert list(takewhile(lambda step: step != "extract 2/4", steps))[-1] == "load 1/4"
    return steps


def wait_for_rows(place: Place, ended: threading.Event) -> bool:
    """Wait until a run has loaded some of its rows."""
    while not ended.is_set():
        if any(0 < rows_done(place.warehouse, [run.run_id]) < 40 for run in list_runs(place.warehouse)):
            return True
        time.sleep(0.01)
    return False


def test_a_standby_that_asks_for_its_rows_is_read_at_one_moment(
    make_source: Callable[..., Source], make_place: Callable[[Source], tuple[Place, Driver]], tell: Tell
) -> None:
    source = make_source(hot_standby_feedback="on", wal_receiver_status_interval="1s")
    place, driver = make_place(source)
    steps = load_first(driver)
    time.sleep(2.5)  # by now the primary knows what the standby needs

    for _ in range(3):
        source.change("update payments set amount = amount + 1000")
    source.change("update payments set payment_id = 1000 where payment_id = 2")
    list(steps)

    [run] = list_runs(place.warehouse)
    assert (run.state, run.rows_planned, run.rows_scored) == ("published", 40, 40)
    rows = view_rows(place.warehouse)
    assert [row[0] for row in rows] == list(range(1, 41))
    assert max(row[2] for row in rows) < 1000
    tell("a standby with hot_standby_feedback replays a vacuum while it is read", "postgresql", "one moment")


def test_a_standby_that_ends_the_snapshot_fails_the_run_which_says_how_to_prevent_it(
    make_source: Callable[..., Source], make_place: Callable[[Source], tuple[Place, Driver]], tell: Tell
) -> None:
    source = make_source()
    place, driver = make_place(source)
    steps = load_first(driver)

    source.change("update payments set amount = 7 where payment_id = 40")
    left = list(steps)

    assert left[-1].startswith("failed: connection `shop`: the snapshot that all partitions read is gone"), left
    assert "set `hot_standby_feedback = on` on the standby" in left[-1]
    assert view_rows(place.warehouse) == []
    driver.run(TODAY)
    assert {row[0]: row[2] for row in view_rows(place.warehouse)}[40] == 7
    tell("a standby without hot_standby_feedback ends the snapshot", "postgresql", "fails, names the setting; healed")


SLOW = sa.select(sa.func.max(sa.cast(sa.func.pg_sleep(0.5), sa.Text))).select_from(sa.table("payments"))
"""A query that takes half a second for each row."""


def read_in_bulk(database: Database) -> None:
    read(database, SLOW)


def read_by_row(database: Database) -> None:
    with database.reading() as connection:
        connection.execute(SLOW)


@pytest.mark.parametrize("read_all", [read_in_bulk, read_by_row])
def test_a_read_that_a_standby_cancels_may_be_tried_again(
    make_source: Callable[..., Source],
    make_place: Callable[[Source], tuple[Place, Driver]],
    read_all: Callable[[Database], None],
) -> None:
    source = make_source()
    place, _ = make_place(source)
    changing = threading.Timer(1.0, source.change, ["update payments set amount = 7"])
    changing.start()

    with pytest.raises(StandbyConflict, match="set `hot_standby_feedback = on`"):
        read_all(place.shop)
    changing.join()


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("moves", [False, True], ids=["promoted", "another server"])
def test_the_flow_reads_an_interval_afresh_after_a_switch_of_servers(
    make_source: Callable[..., Source], make_place: Callable[[Source], tuple[Place, Driver]], moves: bool, tell: Tell
) -> None:
    from penstock.flows.score import score

    source = make_source()
    place, _ = make_place(source)
    if moves:
        source.lead_to(source.primary)
    ended = threading.Event()

    def switch() -> None:
        if wait_for_rows(place, ended):
            source.primary.kill()
            source.standby.promote()
            source.lead_to(source.standby)
            source.standby.execute("update payments set amount = 7 where payment_id = 1")

    thread = threading.Thread(target=switch)
    thread.start()
    state = score(str(place.spec), end="2026-01-02", return_state=True)
    ended.set()
    thread.join()

    assert state.is_completed(), state.message
    runs = list_runs(place.warehouse)
    rows = view_rows(place.warehouse)
    assert [row[0] for row in rows] == list(range(1, 41))
    if moves:
        assert [run.state for run in runs] == ["published", "failed"]
        assert "the snapshot that all partitions read is gone" in str(runs[1].error)
        assert rows[0][2] == 7
    else:  # a standby keeps its sessions and their snapshots when it is promoted
        assert [run.state for run in runs] == ["published"]
        assert rows[0][2] != 7
    fault = "the source switches to a standby" if moves else "the source, a standby, is promoted"
    outcome = "reads the interval again" if moves else "reads on under its snapshot"
    tell(f"{fault} in mid-run", "postgresql", outcome)
