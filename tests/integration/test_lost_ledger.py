"""A ledger that is gone is refused by name. A first one is made only by what scores."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import SyncPrefectClient
from pydantic import SecretStr

from penstock.api.project import Project
from penstock.database.connections import close_engines, open_database
from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.databases import Connection, check_connection
from penstock.errors import LedgerLost
from penstock.ledger import known_ledgers
from penstock.ledger.known_ledgers import RECORDS, KnownLedger, identify_ledger
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import metadata
from penstock.settings import Settings, load_settings
from penstock.tasks.ledger_record import read_record, write_record
from tests.integration.test_cli import LOG_LINE, LOG_SPEC, invoke
from tests.shop import Place
from tests.works import Works, running_works

END = datetime(2026, 1, 2, tzinfo=UTC)
READING = (
    ("runs",),
    ("runs", "card-risk.yaml"),
    ("show", "abc"),
    ("plan", "card-risk.yaml"),
    ("run", "card-risk.yaml", "--dry-run"),
    ("check", "card-risk.yaml"),
    ("check", "card-risk.yaml", "--accept"),
    ("quarantine",),
    ("quarantine", "list"),
    ("quarantine", "release", "card-risk.yaml"),
    ("ledger", "verify"),
    ("withdraw", "abc"),
    ("prune", "card-risk.yaml"),
    ("forget", "card-risk.yaml", "1", "--dry-run"),
    ("rename", "old-risk", "card-risk.yaml"),
    ("models", "list"),
)


@pytest.fixture(autouse=True)
def other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each run know no more than a new process would."""
    monkeypatch.setattr(known_ledgers, "_opened", {})


def score_first_day(place: Place) -> None:
    project = Project()
    pipeline = project.load_pipeline(place.spec)
    [planned] = project.plan(pipeline, "backfill", None, END).intervals
    project.score_interval(pipeline, planned)


def lose(place: Place, how: str = "deleted") -> None:
    """Take the warehouse away as an operator meets it: its file is gone or empty, or the database was emptied."""
    known_ledgers._opened.clear()
    close_engines()
    if place.warehouse.dialect == "postgresql":
        with place.warehouse.writing() as connection:
            for view in sa.inspect(connection).get_view_names():
                connection.execute(sa.text(f"drop view if exists {view} cascade"))
            metadata.drop_all(connection)
        place.warehouse.engine.dispose()
        return
    file = Path(str(place.warehouse.url.database))
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink()
    if how == "emptied":
        file.touch()


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize("warehouse", ["sqlite", "duckdb"])
def test_a_command_that_does_not_score_makes_no_file_and_no_ledger(
    make_place: Callable[..., Place], warehouse: str, command: tuple[str, ...]
) -> None:
    place = make_place(warehouse=warehouse, days=1)
    file = Path(str(place.warehouse.url.database))

    ended = invoke(*command, answer="n\n")

    assert not file.exists(), ended.text
    assert not list(file.parent.glob("*.wal"))


def test_a_postgres_without_ledger_gets_none_from_a_command_that_does_not_score(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(warehouse="postgresql", days=1)

    for command in READING:
        ended = invoke(*command, answer="n\n")
        assert sa.inspect(place.warehouse.engine).get_table_names() == [], (command, ended.text)


def test_runs_in_a_new_folder_say_that_there_is_no_ledger_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    ended = invoke("runs")

    assert ended.exit_code == 0
    assert "no runs yet" in ended.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("warehouse", "how"),
    # DuckDB itself refuses a file of 0 bytes.
    [("sqlite", "deleted"), ("sqlite", "emptied"), ("duckdb", "deleted"), ("postgresql", "emptied")],
)
def test_a_lost_ledger_is_refused_by_name_and_a_new_one_can_be_accepted(
    make_place: Callable[..., Place], warehouse: str, how: str
) -> None:
    place = make_place(warehouse=warehouse, days=1)
    score_first_day(place)
    lose(place, how)

    with pytest.raises(LedgerLost) as refused:
        score_first_day(place)

    where = str(place.warehouse.url.database)
    assert where in str(refused.value)
    assert "`penstock ledger accept`" in str(refused.value)
    for command in (("runs",), ("plan", "card-risk.yaml"), ("ledger", "verify"), ("check", "card-risk.yaml")):
        ended = invoke(*command)
        assert ended.exit_code != 0
        assert "lost its ledger" in ended.text
    assert identify_ledger(place.warehouse) is None
    place.warehouse.engine.dispose()

    accepted = invoke("ledger", "accept")

    assert accepted.exit_code == 0
    assert where in accepted.stdout
    score_first_day(place)
    assert [run.state for run in list_runs(place.warehouse)] == ["published"]
    place.warehouse.engine.dispose()


def test_penstock_run_after_the_file_was_deleted_lands_no_log_and_publishes_nothing(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(spec=LOG_SPEC, days=1)
    logs = place.folder / "logs"
    logs.mkdir()
    (logs / "access.log").write_text(LOG_LINE)
    project = Project()
    project.plan(project.load_pipeline(place.spec))
    lose(place)

    ended = invoke("run", "card-risk.yaml")

    assert ended.exit_code == 1
    assert f"there is no file {place.warehouse.url.database}" in ended.text
    assert not Path(str(place.warehouse.url.database)).exists()


def test_a_ledger_that_was_replaced_by_another_is_refused(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1)
    score_first_day(place)
    records = load_settings().home / RECORDS
    before = records.read_text()
    lose(place)
    records.unlink()
    score_first_day(place)
    records.write_text(before)
    known_ledgers._opened.clear()

    with pytest.raises(LedgerLost, match="has another ledger, made"):
        score_first_day(place)


def test_a_connection_that_is_sent_to_a_database_of_its_own_gets_a_ledger_there(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, database_url: Callable[[str, str], str]
) -> None:
    place = make_place(days=1)
    score_first_day(place)
    monkeypatch.setenv("PENSTOCK_CONNECTIONS__WAREHOUSE", database_url("sqlite", "trial"))

    score_first_day(place)

    known = {each.place for each in known_ledgers.read_records(load_settings().home)}
    assert known == {place.warehouse.place, Project().connect("warehouse").place}


def test_a_run_with_a_wrong_home_makes_no_ledger_there(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = make_place(days=1)
    monkeypatch.delenv("PENSTOCK_CONNECTIONS__WAREHOUSE")
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "unmounted"))

    ended = invoke("run", "card-risk.yaml")

    assert ended.exit_code == 1
    assert place.spec.exists()
    assert not (tmp_path / "unmounted" / "warehouse.db").exists()


def test_a_file_that_goes_away_in_mid_run_is_not_made_anew(make_place: Callable[..., Place]) -> None:
    place = make_place(days=2)
    project = Project()
    pipeline = project.load_pipeline(place.spec)
    first, second = project.plan(pipeline, "backfill", None, datetime(2026, 1, 3, tzinfo=UTC)).intervals
    project.score_interval(pipeline, first)
    opened = dict(known_ledgers._opened)
    lose(place)
    (load_settings().home / RECORDS).unlink()  # the volume had the home folder too
    known_ledgers._opened.update(opened)

    with pytest.raises(LedgerLost):
        project.score_interval(pipeline, second)


def test_the_doctor_names_a_lost_ledger(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1)
    score_first_day(place)
    lose(place)
    case = CheckContext(load_settings(), {}, END)

    found = list(check_connection(case, Connection("warehouse", True)))

    assert [each.state for each in found] == ["broken"]
    assert "its ledger is lost" in found[0].what
    assert "penstock ledger accept" in str(found[0].remedy)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_deployed_pipeline_whose_file_was_deleted_fails_by_name_even_with_another_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_works(tmp_path, {}) as works:
        name = works.deploy("lost")
        day = {"mode": "backfill", "start": "2026-01-01", "end": "2026-01-02"}
        with works.worker():
            assert works.wait(works.trigger(f"score/{name}", pipeline=name, **day)).state_name == "Completed"
            warehouse = _file_of(works)
            for each in warehouse.parent.glob(f"{warehouse.name}*"):
                each.unlink()
            (works.settings.home / RECORDS).unlink()  # as with another home: only the server knows

            failed = works.wait(works.trigger(f"score/{name}", pipeline=name, **day))

            assert failed.state_type == "FAILED"
            assert str(warehouse) in str(failed.state and failed.state.message)
            assert not warehouse.exists()
            monkeypatch.setenv("PREFECT_API_URL", works.api_url)
            assert invoke("ledger", "accept").exit_code == 0
            again = works.wait(works.trigger(f"score/{name}", pipeline=name, **day))
            assert again.state_name == "Completed", again.state


def _file_of(works: Works) -> Path:
    close_engines()
    return Path(str(works.open("warehouse").url.database))


@pytest.mark.usefixtures("prefect_api")
def test_runs_that_begin_at_once_record_the_ledger_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownLedger("warehouse", "sqlite /shop/warehouse.db", "2026-01-01T00:00:00.000000+00:00")
    with monkeypatch.context() as patched:  # each run has looked before another one writes
        patched.setattr(SyncPrefectClient, "read_variable_by_name", lambda *_: None)
        for _ in range(2):
            write_record("at-once", known)

    assert read_record("at-once") == known


MAKE = """
import sys
from pathlib import Path
from penstock.database.connections import open_database
from penstock.ledger.known_ledgers import open_ledger
from penstock.settings import Settings
home = Path(sys.argv[1])
connections = {"warehouse": f"sqlite:///{home}/warehouse.db"}
open_ledger(open_database(Settings(_env_file=None, connections=connections), "warehouse"), home)
"""


def test_a_ledger_that_another_process_makes_during_the_look_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def make_after_the_first(look: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            found = look(*arguments)
            looks.append(look)
            if len(looks) == 1:
                subprocess.run([sys.executable, "-c", MAKE, str(tmp_path)], check=True)
            return found

        return wrapped

    for name in ("identify_ledger", "read_records"):
        monkeypatch.setattr(known_ledgers, name, make_after_the_first(getattr(known_ledgers, name)))
    connections = {"warehouse": SecretStr(f"sqlite:///{tmp_path}/warehouse.db")}
    warehouse = open_database(Settings(_env_file=None, connections=connections), "warehouse")

    known_ledgers.open_ledger(warehouse, tmp_path)

    assert known_ledgers.read_records(tmp_path) == [identify_ledger(warehouse)]
