"""Processes that land one log at the same time: each line is landed once, whichever of them is the quicker."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Connector, Database, open_database
from penstock.errors import TransientError
from penstock.interval import DataInterval
from penstock.run.extract import land_logs
from penstock.sources import open_source
from penstock.sources.logs.landing import Landing
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from tests.conftest import DIALECTS
from tests.waiting import wait_until

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = DataInterval(START, START + timedelta(days=1))
SPEC = r"""
name: visits
interval: {column: time, grain: 1d, start: 2026-01-01}
sources:
  visits: {kind: log, path: app.log*, format: {regex: '(?P<time>\S+) (?P<user>\S+)'}}
model: m@1
destination: {connection: warehouse, table: t}
"""
LINE = "2026-01-01T05:00Z u{}\n"
LINES = 40
"""So many that the file stays below the 1,024 bytes by which it is identified."""
LAND_IN_A_LOOP = """
import sys
from pathlib import Path
from penstock.database.connections import Connector, open_database
from penstock.run.extract import land_logs
from penstock.settings import load_settings
from penstock.spec.yaml_file import load_pipeline
spec, settings = load_pipeline(Path("visits.yaml")), load_settings()
connector = Connector(lambda name: open_database(settings, name), ())
Path(sys.argv[1]).touch()
while not Path("go").exists():
    pass
stop = False
while not stop:
    stop = Path("stop").exists()
    land_logs(spec, connector)
"""


@pytest.fixture
def spec(tmp_path: Path) -> Pipeline:
    file = tmp_path / "visits.yaml"
    file.write_text(SPEC)
    return load_pipeline(file)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def land(spec: Pipeline, warehouse: Database) -> Landing:
    return land_logs(spec, Connector(lambda _: warehouse, ()))["visits"]


def landed_users(spec: Pipeline, warehouse: Database) -> list[str]:
    users: list[str] = open_source(spec, "visits", Connector(lambda _: warehouse, ())).read(DAY)["user"].to_pylist()
    return sorted(users)


def count_files(warehouse: Database) -> int:
    with warehouse.reading() as connection:
        return int(connection.execute(sa.text("select count(*) from penstock_log_files")).scalar_one())


def write_slowly(tmp_path: Path) -> None:
    with (tmp_path / "app.log").open("w", buffering=1) as log:
        log.write(LINE.format(0))
        (tmp_path / "go").touch()
        for number in range(1, LINES):
            time.sleep(0.02)
            log.write(LINE.format(number))
    (tmp_path / "stop").touch()


def test_a_landing_that_another_one_overtakes_reads_the_offsets_again(
    tmp_path: Path, spec: Pipeline, warehouse: Database
) -> None:
    log = tmp_path / "app.log"
    log.write_text(LINE.format(1))
    landed: list[Landing] = []
    other = Thread(target=lambda: landed.append(land(spec, warehouse)))

    def overtake(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM penstock_log_files" in statement and not other.ident:
            other.start()
            other.join()
            with log.open("a") as file:  # now the head of the file, which gives its id, has another hash
                file.write(LINE.format(2))

    sa.event.listen(warehouse.engine, "after_cursor_execute", overtake)
    assert land(spec, warehouse) == Landing(1, 0, 1)

    assert landed == [Landing(1, 0, 1)]
    assert landed_users(spec, warehouse) == ["u1", "u2"]
    assert count_files(warehouse) == 1


@pytest.mark.parametrize("warehouse", ["sqlite", "postgresql"], indirect=True)
def test_processes_that_land_a_growing_log_at_once_land_each_line_once(
    tmp_path: Path, spec: Pipeline, warehouse: Database
) -> None:
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", LAND_IN_A_LOOP, f"ready{i}"], cwd=tmp_path))
            for i in range(2)
        ]
        wait_until(lambda: len(list(tmp_path.glob("ready*"))) == 2)
        write_slowly(tmp_path)
        assert [process.wait(60) for process in processes] == [0, 0]

    assert landed_users(spec, warehouse) == sorted(f"u{number}" for number in range(LINES))
    assert count_files(warehouse) == 1


@pytest.mark.parametrize("warehouse", ["duckdb"], indirect=True)
def test_threads_that_land_a_growing_log_at_once_land_each_line_once(
    tmp_path: Path, spec: Pipeline, warehouse: Database
) -> None:
    """DuckDB lets one process open its file, so its writers are threads."""

    def land_in_a_loop() -> None:
        stop = False
        while not stop:
            stop = (tmp_path / "stop").exists()
            try:
                land(spec, warehouse)
            except TransientError:  # as the task does: another transaction was first
                stop = False

    log = tmp_path / "app.log"
    log.touch()
    threads = [Thread(target=land_in_a_loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    write_slowly(tmp_path)
    for thread in threads:
        thread.join()

    assert landed_users(spec, warehouse) == sorted(f"u{number}" for number in range(LINES))
    assert count_files(warehouse) == 1
