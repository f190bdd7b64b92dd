"""`penstock deploy` as people use it, and a real worker that runs what it deployed."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.sorting import DeploymentSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import open_database
from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.ledger.reader import list_runs
from penstock.settings import load_settings
from tests.project import CRON, Project
from tests.shop import SPEC, payments, train_model, write_payments
from tests.waiting import SECONDS

pytestmark = pytest.mark.slow


def deploy(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return its exit code, stdout and stderr."""
    result = CliRunner().invoke(app, ["deploy", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_table_tells_what_was_made(project: Project) -> None:
    project.write("card-risk", CRON)

    code, told, _ = deploy()

    assert code == 0
    assert "deployment score/card-risk" in told
    assert "schedule: 15 2 * * * Europe/Paris" in told
    assert "changed on the Prefect server" in told


def test_the_changes_come_as_json(project: Project) -> None:
    project.write("card-risk", CRON)

    _, told, _ = deploy("--dry-run", "--json", "card-risk")

    changes: list[dict[str, Any]] = json.loads(told)
    assert {change["what"]: change["kind"] for change in changes}["deployment score/card-risk"] == "created"


def test_without_a_terminal_orphans_are_left_and_it_is_said_how_to_remove_them(
    project: Project, prefect_client: SyncPrefectClient
) -> None:
    spec = project.write("churn")
    deploy()
    spec.unlink()

    code, _, warned = deploy()

    assert code == 0
    assert "not removed" in warned
    assert "penstock deploy --yes" in warned
    assert prefect_client.read_deployment_by_name("score/churn")


@pytest.mark.parametrize(("answer", "left"), [("y", False), ("n", True)])
def test_on_a_terminal_it_is_asked_before_orphans_are_removed(
    project: Project, prefect_client: SyncPrefectClient, answer: str, left: bool
) -> None:
    spec = project.write("churn")
    project.deploy()
    spec.unlink()

    told = deploy_on_terminal(answer)

    assert "Remove deployment score/churn?" in told
    names = [each.name for each in prefect_client.read_deployments(sort=DeploymentSort.NAME_ASC, limit=200)]
    assert ("churn" in names) is left


def test_yes_removes_orphans(project: Project, prefect_client: SyncPrefectClient) -> None:
    spec = project.write("churn")
    deploy()
    spec.unlink()

    deploy("--yes")

    with pytest.raises(ObjectNotFound):
        prefect_client.read_deployment_by_name("score/churn")


def test_without_a_server_it_is_said_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    code, _, told = deploy()

    assert code == 2
    assert "Start one with `penstock up`, or set PREFECT_API_URL" in told


def test_the_server_that_runs_on_this_home_is_found(
    project: Project,
    prefect_client: SyncPrefectClient,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path_factory.getbasetemp() / "prefect0"))  # the fixture's own
    monkeypatch.delenv("PREFECT_API_URL")
    project.write("card-risk")

    assert deploy()[0] == 0

    assert prefect_client.read_deployment_by_name("score/card-risk")


def test_prefect_yaml_needs_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    Project("", load_settings()).write("card-risk", CRON)

    code, told, _ = deploy("--prefect-yaml")

    assert code == 0
    assert "- name: card-risk\n  entrypoint: penstock.flows.score.score\n" in told


def test_a_worker_anywhere_runs_a_deployment_of_a_folder_that_holds_no_code(project: Project, tmp_path: Path) -> None:
    bounded = SPEC.replace("lookback: 3", "lookback: 3, max_intervals: 3")
    (project.settings.pipelines / "card-risk.yaml").write_text(bounded)
    (tmp_path / ".env").write_text(f"PENSTOCK_CONNECTIONS__SHOP=sqlite:///{tmp_path / 'shop.db'}\n")
    settings = load_settings()
    write_payments(open_database(settings, "shop"), payments())
    train_model(settings.models_folder)
    project.deploy()

    with running_worker(tmp_path / "worker.log"):
        ended = run_deployment("score/card-risk", timeout=300, poll_interval=1)

    assert ended.state is not None
    assert ended.state.is_completed(), (tmp_path / "worker.log").read_text()
    runs = list_runs(open_database(settings, "warehouse"), "card-risk")
    assert [run.state for run in runs] == ["published"] * 3


def deploy_on_terminal(answer: str) -> str:
    """Run the command on a terminal of its own and answer its question; return all that it showed."""
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    command = [str(Path(sys.executable).with_name("penstock")), "deploy"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how a terminal tells that its last user has gone
            while part := os.read(ours, 65536):
                shown += part
        assert process.wait() == 0, shown.decode()
    os.close(ours)
    return " ".join(shown.decode().split())


@contextmanager
def running_worker(log: Path) -> Iterator[None]:
    """Run a process worker as a person would start it, from a folder that has nothing to do with the project."""
    binaries = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    environment["PATH"] = os.pathsep.join([str(binaries), os.environ["PATH"]])
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [str(binaries / "prefect"), "worker", "start", "--pool", WORK_POOL],
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(SECONDS)
