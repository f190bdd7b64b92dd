"""What stands on a Prefect server after a deploy, after a second one, and after the specs have changed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import DeploymentSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.changes import Change
from deployments.definition import ANY_PIPELINE
from deployments.deploying import LEFT_ALONE, deploy_pipelines
from deployments.prefect_yaml import render_prefect_yaml
from deployments.reconciling import read_fields
from deployments.work_pool import ENGINE_COMMAND, WORK_POOL, base_job_template
from penstock.errors import SettingsError, SpecError, SpecErrors
from penstock.settings import Settings, load_settings
from tests.shop import SPEC

ROOT = Path(__file__).parents[2]
CRON = 'schedule: {cron: "15 2 * * *", timezone: Europe/Paris}'


class Project:
    """A project folder whose specs the test writes, deployed on the server that all tests share."""

    def __init__(self, api_url: str, settings: Settings) -> None:
        self.api_url, self.settings = api_url, settings
        settings.pipelines.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, *lines: str, file: str | None = None) -> Path:
        path = self.settings.pipelines / f"{file or name}.yaml"
        path.write_text("\n".join([SPEC.replace("name: card-risk", f"name: {name}", 1), *lines]))
        return path

    def deploy(self, files: list[Path] | None = None, **how: bool) -> dict[str, Change]:
        changes = deploy_pipelines(self.api_url, self.settings, files, **how)
        return {change.what: change for change in changes}


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect_api}), get_client(sync_client=True) as client:
        yield client
        for deployment in client.read_deployments(sort=DeploymentSort.NAME_ASC, limit=200):
            client.delete_deployment(deployment.id)


@pytest.fixture
def project(client: SyncPrefectClient, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(prefect_api, load_settings())


def read(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    return client.read_deployment_by_name(f"score/{name}")


def test_a_pipeline_becomes_a_deployment_with_its_schedule_and_limit(
    project: Project, client: SyncPrefectClient, tmp_path: Path
) -> None:
    project.write("card-risk", CRON)

    change = project.deploy()["deployment score/card-risk"]

    made = read(client, "card-risk")
    assert change == Change("created", "deployment score/card-risk", ("schedule: 15 2 * * * Europe/Paris",))
    assert (made.entrypoint, made.work_pool_name) == ("flows.score.score", WORK_POOL)
    assert made.pull_steps == [{"deployments.pull.enter_project": {"folder": str(tmp_path)}}]
    assert (made.parameters, made.enforce_parameter_schema) == ({"pipeline": "card-risk"}, True)
    assert set(made.tags) == {"penstock", "card-risk"}
    assert made.global_concurrency_limit is not None
    assert made.global_concurrency_limit.limit == 1
    assert made.concurrency_options is not None
    assert made.concurrency_options.collision_strategy == "ENQUEUE"
    assert [each.schedule for each in made.schedules] == [CronSchedule(cron="15 2 * * *", timezone="Europe/Paris")]


def test_one_deployment_takes_any_pipeline_without_limit_and_schedule(
    project: Project, client: SyncPrefectClient
) -> None:
    project.deploy()

    made = read(client, ANY_PIPELINE)
    assert (made.parameters, made.schedules, made.global_concurrency_limit) == ({}, [], None)
    assert made.parameter_openapi_schema is not None
    assert made.parameter_openapi_schema["required"] == ["pipeline"]


@pytest.mark.parametrize(
    "schedule",
    [
        CRON,
        "schedule: {interval: 6h, timezone: America/New_York}",
        "schedule: {rrule: 'FREQ=WEEKLY;BYDAY=MO,WE', timezone: Asia/Tokyo}",
        "schedule: {rrule: 'FREQ=MINUTELY;INTERVAL=20', timezone: Asia/Tokyo}",
        'schedule: {rrule: "DTSTART:20250101T090000\\nRRULE:FREQ=DAILY"}',
    ],
)
def test_deploying_twice_changes_nothing_the_second_time(
    project: Project, client: SyncPrefectClient, schedule: str
) -> None:
    project.write("card-risk", schedule)
    project.deploy()
    before = read(client, "card-risk").updated

    again = project.deploy()

    assert [change for change in again.values() if change.kind != "unchanged"] == []
    assert read(client, "card-risk").updated == before


def test_a_dry_run_tells_all_and_changes_nothing(project: Project, client: SyncPrefectClient) -> None:
    project.write("card-risk", CRON)

    changes = project.deploy(dry_run=True)

    assert changes["deployment score/card-risk"].kind == "created"
    with pytest.raises(ObjectNotFound):
        read(client, "card-risk")


def test_a_changed_spec_is_told_field_by_field(project: Project, client: SyncPrefectClient) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    old = read(client, "card-risk").version

    project.write("card-risk", CRON.replace("15 2", "30 4"), "description: Risk of cards")
    change = project.deploy()["deployment score/card-risk"]

    new = read(client, "card-risk").version
    assert change.kind == "updated"
    assert change.details == (
        f"version: {old} → {new}",
        "description: changed",
        "schedule: 15 2 * * * Europe/Paris → 30 4 * * * Europe/Paris",
    )


def test_a_schedule_that_the_spec_no_longer_has_is_removed(project: Project, client: SyncPrefectClient) -> None:
    project.write("card-risk", CRON)
    project.deploy()

    project.write("card-risk")
    change = project.deploy()["deployment score/card-risk"]

    assert "schedule: 15 2 * * * Europe/Paris → none" in change.details
    assert read(client, "card-risk").schedules == []


def test_a_schedule_that_somebody_added_beside_the_specs_is_removed(
    project: Project, client: SyncPrefectClient
) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    other = CronSchedule(cron="0 9 * * 1", timezone="UTC")
    client.create_deployment_schedules(read(client, "card-risk").id, [(other, True)], slug="mine")

    change = project.deploy()["deployment score/card-risk"]

    assert change.details == ("schedule: 0 9 * * 1 UTC → none",)
    assert [each.schedule.cron for each in read(client, "card-risk").schedules] == ["15 2 * * *"]


def test_a_paused_schedule_stays_paused_also_when_the_spec_changes_it(
    project: Project, client: SyncPrefectClient
) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    made = read(client, "card-risk")
    client.update_deployment_schedule(made.id, made.schedules[0].id, active=False)

    unchanged = project.deploy()["deployment score/card-risk"]
    project.write("card-risk", CRON.replace("15 2", "30 4"))
    changed = project.deploy()["deployment score/card-risk"]

    assert unchanged.kind == "unchanged"
    assert any("(paused, and stays so: resume it in the UI)" in detail for detail in changed.details)
    assert [(each.schedule.cron, each.active) for each in read(client, "card-risk").schedules] == [
        ("30 4 * * *", False)
    ]


def test_a_paused_deployment_stays_paused(project: Project, client: SyncPrefectClient) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    client.pause_deployment(read(client, "card-risk").id)

    project.write("card-risk", CRON, "description: Risk of cards")
    project.deploy()

    assert read(client, "card-risk").paused


def test_what_somebody_changed_on_the_server_is_set_right_but_for_job_variables(
    project: Project, client: SyncPrefectClient
) -> None:
    project.write("card-risk")
    project.deploy()
    made = read(client, "card-risk")
    variables: dict[str, Any] = {"stream_output": False, "env": made.job_variables["env"] | {"OMP_NUM_THREADS": "2"}}
    edit = DeploymentUpdate(tags=["mine"], concurrency_limit=7, job_variables=variables)
    client.update_deployment(made.id, edit)

    change = project.deploy()["deployment score/card-risk"]

    again = read(client, "card-risk")
    assert change.details == ("tags: ['mine'] → ['penstock', 'card-risk']", "concurrency_limit: 7 → 1")
    assert again.job_variables == variables


def test_an_orphan_is_told_of_and_removed_only_when_that_is_wanted(project: Project, client: SyncPrefectClient) -> None:
    project.write("card-risk")
    spec = project.write("churn")
    project.deploy()
    spec.unlink()

    told = project.deploy()["deployment score/churn"]
    removed = project.deploy(remove_orphans=True)["deployment score/churn"]

    assert told == Change("unchanged", "deployment score/churn", (LEFT_ALONE,))
    assert removed.kind == "removed"
    with pytest.raises(ObjectNotFound):
        read(client, "churn")


def test_deploying_one_pipeline_leaves_the_others_alone(project: Project, client: SyncPrefectClient) -> None:
    project.write("card-risk")
    project.write("churn")
    project.deploy()

    changes = project.deploy([project.settings.pipelines / "churn.yaml"], remove_orphans=True)

    assert set(changes) == {f"work pool {WORK_POOL}", "deployment score/churn", f"deployment score/{ANY_PIPELINE}"}
    assert read(client, "card-risk")


def test_another_projects_deployments_are_no_orphans_of_ours(
    project: Project, client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("card-risk")
    project.deploy()
    client.delete_deployment(read(client, ANY_PIPELINE).id)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)

    changes = Project(project.api_url, load_settings()).deploy(remove_orphans=True)

    assert "deployment score/card-risk" not in changes
    assert read(client, "card-risk")


def test_a_name_that_another_project_has_on_the_server_is_refused(
    project: Project, client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.deploy()
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)

    with pytest.raises(SettingsError, match=f"`score/{ANY_PIPELINE}` on this server belongs to the project in"):
        Project(project.api_url, load_settings()).deploy()


def test_a_project_that_has_moved_takes_its_deployments_along(
    project: Project, client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    monkeypatch.chdir(old)
    project.settings.pipelines.mkdir(parents=True)
    project.deploy()
    old.rename(new)
    monkeypatch.chdir(new)

    change = project.deploy()[f"deployment score/{ANY_PIPELINE}"]

    assert change.details == (f"project: {old} → {new}",)


def test_a_broken_spec_stops_all_and_each_problem_is_told(project: Project, client: SyncPrefectClient) -> None:
    project.write("card-risk")
    project.write("churn", "colour: blue")
    project.write("fraud", "grain: 1d")

    with pytest.raises(SpecErrors) as refused:
        project.deploy()

    assert "churn.yaml: 1 problem" in str(refused.value)
    assert "fraud.yaml: 1 problem" in str(refused.value)
    with pytest.raises(ObjectNotFound):
        read(client, "card-risk")


def test_a_name_that_two_files_bear_is_refused_with_both(project: Project) -> None:
    project.write("card-risk")
    project.write("card-risk", file="copy")

    with pytest.raises(SpecError, match=r"copy\.yaml: .*\n.*`card-risk`; that name leads to .*card-risk\.yaml"):
        project.deploy()


def test_a_file_that_is_not_named_as_its_pipeline_is_refused(project: Project) -> None:
    project.write("card-risk", file="cards")

    with pytest.raises(SpecError, match=r"the pipeline is named `card-risk`; name it `cards`, or move the file to"):
        project.deploy()


def test_a_schedule_that_prefect_cannot_read_is_a_problem_of_the_spec(project: Project) -> None:
    project.write("card-risk", 'schedule: {cron: "61 2 * * *"}')

    with pytest.raises(SpecError, match=r"`schedule\.cron`: Invalid cron"):
        project.deploy()


def test_a_missing_pipelines_folder_is_an_error_and_makes_no_orphans(project: Project) -> None:
    shutil.rmtree(project.settings.pipelines)

    with pytest.raises(SettingsError, match="there is no pipelines folder"):
        project.deploy(remove_orphans=True)


def test_a_server_that_does_not_answer_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")

    with pytest.raises(SettingsError, match=r"the Prefect server at http://127\.0\.0\.1:9/api does not answer"):
        deploy_pipelines("http://127.0.0.1:9/api", project.settings, None)


def test_a_work_pool_of_another_type_is_left_as_it_is(project: Project, client: SyncPrefectClient) -> None:
    _remake_pool(client, WorkPoolCreate(name=WORK_POOL, type="docker", base_job_template={}))

    change = project.deploy()[f"work pool {WORK_POOL}"]

    assert change.kind == "unchanged"
    assert client.read_work_pool(WORK_POOL).type == "docker"
    _remake_pool(client, None)


def test_a_process_pool_that_a_worker_made_gets_our_command(project: Project, client: SyncPrefectClient) -> None:
    template = base_job_template()
    template["variables"]["properties"]["command"]["default"] = None
    _remake_pool(client, WorkPoolCreate(name=WORK_POOL, type="process", base_job_template=template))

    change = project.deploy()[f"work pool {WORK_POOL}"]

    pool = client.read_work_pool(WORK_POOL)
    assert change.details == (f"command: Prefect's own → {ENGINE_COMMAND}",)
    assert pool.base_job_template["variables"]["properties"]["command"]["default"] == ENGINE_COMMAND


def test_prefect_deploy_makes_the_same_deployments(project: Project, client: SyncPrefectClient, tmp_path: Path) -> None:
    project.write("card-risk", CRON)
    project.write("churn", "schedule: {interval: 6h, timezone: America/New_York}")
    project.write("fraud", "schedule: {rrule: 'FREQ=WEEKLY;BYDAY=MO,WE', timezone: Asia/Tokyo}")
    project.deploy()
    names = ("card-risk", "churn", "fraud", ANY_PIPELINE)
    ours = {name: _all_fields(read(client, name)) for name in names}
    for name in names:
        client.delete_deployment(read(client, name).id)
    (tmp_path / "prefect.yaml").write_text(render_prefect_yaml(project.settings, None))

    _prefect_deploy(project.api_url, *names)

    assert {name: _all_fields(read(client, name)) for name in names} == ours


def test_nothing_is_left_to_do_after_prefect_deploy(
    project: Project, client: SyncPrefectClient, tmp_path: Path
) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    (tmp_path / "prefect.yaml").write_text(render_prefect_yaml(project.settings, None))

    _prefect_deploy(project.api_url, "card-risk", ANY_PIPELINE)

    assert {change.kind for change in project.deploy().values()} == {"unchanged"}


def test_the_shipped_prefect_yaml_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shipped = (ROOT / "deployments" / "prefect.yaml").read_text(encoding="utf-8")

    assert shipped == render_prefect_yaml(Settings(_env_file=None), None), "penstock deploy --prefect-yaml > the file"


def _all_fields(deployment: DeploymentResponse) -> dict[str, Any]:
    """Return what makes the deployment what it is: all but ids, times and who made it."""
    rest = {
        "path": deployment.path,
        "paused": deployment.paused,
        "labels": deployment.labels,
        "schedules": [(each.schedule, each.active, each.parameters, each.slug) for each in deployment.schedules],
        "work_queue_name": deployment.work_queue_name,
    }
    return read_fields(deployment) | rest


def _prefect_deploy(api_url: str, *names: str) -> None:
    """Deploy by Prefect's own command; that it ends with an error after the deed is one of FastAPI 0.151 and later."""
    for name in names:
        ended = subprocess.run(
            [sys.executable, "-m", "prefect", "deploy", "--name", name],
            env=os.environ | {"PREFECT_API_URL": api_url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "successfully created with id" in ended.stdout, ended.stdout + ended.stderr


def _remake_pool(client: SyncPrefectClient, pool: WorkPoolCreate | None) -> None:
    with suppress(ObjectNotFound):
        client.delete_work_pool(WORK_POOL)
    if pool is not None:
        client.create_work_pool(pool)
