"""A schedule is paused and resumed with a reason, which survives a deploy and does not outlive the pause."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import ArtifactSort
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.status_page import KEY, show_status
from tests.project import CRON, Project

pytestmark = pytest.mark.slow
WHY = "the shop migrates"


@pytest.fixture
def deployed(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two pipelines with a schedule and one without."""
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(project.settings.pipelines.absolute()))
    project.write("card-risk", CRON)
    project.write("churn", CRON)
    project.write("by-hand")
    project.deploy()
    return project


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def read(client: SyncPrefectClient, name: str = "card-risk") -> DeploymentResponse:
    return client.read_deployment_by_name(f"score/{name}")


def pause_of(name: str = "card-risk") -> dict[str, str] | None:
    [found] = json.loads(invoke("status", name, "--json")[1])["pipelines"]
    return found["pause"]  # type: ignore[no-any-return]


def switch(client: SyncPrefectClient, active: bool) -> None:
    """Turn the switch of the UI."""
    deployment = read(client)
    client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=active)


def test_a_pause_turns_the_uis_switch_and_its_reason_is_shown(
    deployed: Project, prefect_client: SyncPrefectClient
) -> None:
    code, told = invoke("pause", "card-risk", "churn", "--reason", f"  {WHY}\n", "--timezone", "Asia/Tokyo")

    assert code == 0
    assert "JST" in told
    for name in ("card-risk", "churn"):
        deployment = read(prefect_client, name)
        assert [schedule.active for schedule in deployment.schedules] == [False]
        assert WHY in (deployment.description or "").splitlines()[0]
    pause = pause_of()
    assert pause is not None
    assert pause["reason"] == WHY
    assert datetime.now(UTC) - datetime.fromisoformat(pause["since"]) < timedelta(minutes=5)
    assert WHY in invoke("status")[1]
    assert WHY in invoke("plan", "card-risk")[1]


def test_the_doctor_and_the_page_in_prefect_show_the_reason(
    deployed: Project, prefect_client: SyncPrefectClient
) -> None:
    invoke("pause", "card-risk", "--reason", WHY)

    flow(show_status, validate_parameters=False)(load_pipeline(deployed.settings.pipelines / "churn.yaml"))

    assert WHY in invoke("doctor")[1]
    newest = ArtifactFilter(key=ArtifactFilterKey(any_=[KEY]))
    [page] = prefect_client.read_artifacts(artifact_filter=newest, sort=ArtifactSort.UPDATED_DESC, limit=1)
    rows = [line for line in str(page.data).splitlines() if line.startswith("| card-risk |")]
    assert WHY in str(page.data)
    assert [row.split("|")[-2].strip() for row in rows] == ["paused"], page.data


def test_the_reason_survives_a_deploy_also_of_another_schedule(
    deployed: Project, prefect_client: SyncPrefectClient
) -> None:
    invoke("pause", "card-risk", "--reason", WHY)

    assert deployed.deploy()["deployment score/card-risk"].kind == "unchanged"
    deployed.write("card-risk", CRON.replace("15 2", "30 4"), "description: Risk of cards")
    assert deployed.deploy()["deployment score/card-risk"].kind == "updated"

    deployment, pause = read(prefect_client), pause_of()
    assert [schedule.active for schedule in deployment.schedules] == [False]
    assert WHY in str(deployment.description)
    assert "Risk of cards" in str(deployment.description)
    assert pause is not None
    assert pause["reason"] == WHY
    assert deployed.deploy()["deployment score/card-risk"].kind == "unchanged"


def test_resume_turns_the_switch_back_and_forgets_the_reason(
    deployed: Project, prefect_client: SyncPrefectClient
) -> None:
    before = read(prefect_client).description
    invoke("pause", "card-risk", "--reason", WHY)

    code, told = invoke("resume", "card-risk")

    deployment = read(prefect_client)
    assert (code, [schedule.active for schedule in deployment.schedules]) == (0, [True])
    assert WHY in told
    assert deployment.description == before
    assert pause_of() is None
    assert "was not paused" in invoke("resume", "card-risk")[1]


def test_a_resume_in_the_ui_ends_the_reason_also_for_a_later_pause(
    deployed: Project, prefect_client: SyncPrefectClient
) -> None:
    invoke("pause", "card-risk", "--reason", WHY)
    switch(prefect_client, active=True)
    assert pause_of() is None
    switch(prefect_client, active=False)

    pause = pause_of()
    deployed.deploy()

    assert pause == {"reason": "", "by": "", "since": None, "in_spec": False}
    assert WHY not in str(read(prefect_client).description)
    assert "without a reason" in invoke("status")[1]


def test_the_next_run_is_prefects_if_a_server_answers(deployed: Project) -> None:
    [found] = json.loads(invoke("status", "card-risk", "--json")[1])["pipelines"]

    assert found["next_run_from"] == "prefect"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pause", "card-rusk", "--reason", WHY), "Did you mean `card-risk`?"),
        (("resume", "nothing-like-it-at-all"), "Known: `by-hand`, `card-risk`, `churn`"),
        (("pause", "by-hand", "--reason", WHY), "has no schedule"),
        (("pause", "card-risk", "--reason", "  "), "write a sentence"),
        (("pause", "card-risk"), "--reason"),
    ],
)
def test_what_cannot_be_paused_is_refused_and_nothing_is_changed(
    deployed: Project, prefect_client: SyncPrefectClient, arguments: tuple[str, ...], told: str
) -> None:
    code, said = invoke(*arguments)

    assert code == 2
    assert told in " ".join(said.split())
    assert read(prefect_client).schedules[0].active


def test_one_wrong_name_of_two_pauses_neither(deployed: Project, prefect_client: SyncPrefectClient) -> None:
    assert invoke("pause", "card-risk", "card-rusk", "--reason", WHY)[0] == 2
    assert read(prefect_client).schedules[0].active


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9/api"])
def test_without_a_server_the_next_step_is_named(
    deployed: Project, monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    if url:
        monkeypatch.setenv("PREFECT_API_URL", url)

    code, told = invoke("pause", "card-risk", "--reason", WHY)

    assert code == 2
    assert "penstock up" in told
