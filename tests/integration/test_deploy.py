"""What stands on a Prefect server after a deploy, after a second one, and after the specs have changed."""

from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound

from penstock.deployments.deploy.changes import Change
from penstock.deployments.deploy.definition import ANY_PIPELINE
from penstock.deployments.deploy.deploy_pipelines import LEFT_ALONE, deploy_pipelines
from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.errors import SettingsError, SpecError
from penstock.settings import load_settings
from tests.project import CRON, INTERVAL, RRULE, Project


def read(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    return client.read_deployment_by_name(f"score/{name}")


def test_a_pipeline_becomes_a_deployment_with_its_schedule_and_limit(
    project: Project, prefect_client: SyncPrefectClient, tmp_path: Path
) -> None:
    project.write("card-risk", CRON)

    change = project.deploy()["deployment score/card-risk"]

    made = read(prefect_client, "card-risk")
    assert change == Change("created", "deployment score/card-risk", ("schedule: 15 2 * * * Europe/Paris",))
    assert (made.entrypoint, made.work_pool_name) == ("penstock.flows.score.score", WORK_POOL)
    assert made.pull_steps == [{"penstock.deployments.pull.enter_project": {"folder": str(tmp_path)}}]
    assert (made.parameters, made.enforce_parameter_schema) == ({"pipeline": "card-risk"}, True)
    assert set(made.tags) == {"penstock", "card-risk"}
    assert made.global_concurrency_limit is not None
    assert made.global_concurrency_limit.limit == 1
    assert made.concurrency_options is not None
    assert made.concurrency_options.collision_strategy == "ENQUEUE"
    assert [each.schedule for each in made.schedules] == [CronSchedule(cron="15 2 * * *", timezone="Europe/Paris")]


def test_one_deployment_takes_any_pipeline_without_limit_and_schedule(
    project: Project, prefect_client: SyncPrefectClient
) -> None:
    project.deploy()

    made = read(prefect_client, ANY_PIPELINE)
    assert (made.parameters, made.schedules, made.global_concurrency_limit) == ({}, [], None)
    assert made.parameter_openapi_schema is not None
    assert made.parameter_openapi_schema["required"] == ["pipeline"]


@pytest.mark.parametrize(
    "schedule",
    [
        CRON,
        INTERVAL,
        RRULE,
        "schedule: {rrule: 'FREQ=MINUTELY;INTERVAL=20', timezone: Asia/Tokyo}",
        'schedule: {rrule: "DTSTART:20250101T090000\\nRRULE:FREQ=DAILY"}',
    ],
)
def test_deploying_twice_changes_nothing_the_second_time(
    project: Project, prefect_client: SyncPrefectClient, schedule: str
) -> None:
    project.write("card-risk", schedule)
    project.deploy()
    before = read(prefect_client, "card-risk").updated

    again = project.deploy()

    assert [change for change in again.values() if change.kind != "unchanged"] == []
    assert read(prefect_client, "card-risk").updated == before


def test_a_dry_run_tells_all_and_changes_nothing(project: Project, prefect_client: SyncPrefectClient) -> None:
    project.write("card-risk", CRON)

    changes = project.deploy(dry_run=True)

    assert changes["deployment score/card-risk"].kind == "created"
    with pytest.raises(ObjectNotFound):
        read(prefect_client, "card-risk")


def test_a_changed_spec_is_told_field_by_field(project: Project, prefect_client: SyncPrefectClient) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    old = read(prefect_client, "card-risk").version

    project.write("card-risk", CRON.replace("15 2", "30 4"), "description: Risk of cards")
    change = project.deploy()["deployment score/card-risk"]

    new = read(prefect_client, "card-risk").version
    assert change.kind == "updated"
    assert change.details == (
        f"version: {old} → {new}",
        "description: changed",
        "schedule: 15 2 * * * Europe/Paris → 30 4 * * * Europe/Paris",
    )


def test_a_schedule_that_the_spec_no_longer_has_is_removed(project: Project, prefect_client: SyncPrefectClient) -> None:
    project.write("card-risk", CRON)
    project.deploy()

    project.write("card-risk")
    change = project.deploy()["deployment score/card-risk"]

    assert "schedule: 15 2 * * * Europe/Paris → none" in change.details
    assert read(prefect_client, "card-risk").schedules == []


def test_a_schedule_that_somebody_added_beside_the_specs_is_removed(
    project: Project, prefect_client: SyncPrefectClient
) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    other = CronSchedule(cron="0 9 * * 1", timezone="UTC")
    prefect_client.create_deployment_schedules(read(prefect_client, "card-risk").id, [(other, True)], slug="mine")

    change = project.deploy()["deployment score/card-risk"]

    assert change.details == ("schedule: 0 9 * * 1 UTC → none",)
    assert [each.schedule.cron for each in read(prefect_client, "card-risk").schedules] == ["15 2 * * *"]


def test_a_paused_schedule_stays_paused_also_when_the_spec_changes_it(
    project: Project, prefect_client: SyncPrefectClient
) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    made = read(prefect_client, "card-risk")
    prefect_client.update_deployment_schedule(made.id, made.schedules[0].id, active=False)

    unchanged = project.deploy()["deployment score/card-risk"]
    project.write("card-risk", CRON.replace("15 2", "30 4"))
    changed = project.deploy()["deployment score/card-risk"]

    assert unchanged.kind == "unchanged"
    assert any("(stays paused until `penstock resume`)" in detail for detail in changed.details)
    assert [(each.schedule.cron, each.active) for each in read(prefect_client, "card-risk").schedules] == [
        ("30 4 * * *", False)
    ]


def test_a_paused_deployment_stays_paused(project: Project, prefect_client: SyncPrefectClient) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    prefect_client.pause_deployment(read(prefect_client, "card-risk").id)

    project.write("card-risk", CRON, "description: Risk of cards")
    project.deploy()

    assert read(prefect_client, "card-risk").paused


def test_a_spec_that_says_active_wins_over_the_server(project: Project, prefect_client: SyncPrefectClient) -> None:
    paused, active = (CRON.replace("}", f", active: {word}}}") for word in ("false", "true"))

    project.write("card-risk", paused)
    created = project.deploy()["deployment score/card-risk"]
    made = read(prefect_client, "card-risk")
    assert created.details == ("schedule: 15 2 * * * Europe/Paris (paused)",)
    assert [each.active for each in made.schedules] == [False]

    prefect_client.update_deployment_schedule(made.id, made.schedules[0].id, active=True)
    assert project.deploy(dry_run=True)["deployment score/card-risk"].details == ("schedule: active → paused",)
    assert project.deploy()["deployment score/card-risk"].details == ("schedule: active → paused",)
    assert [each.active for each in read(prefect_client, "card-risk").schedules] == [False]
    assert project.deploy()["deployment score/card-risk"].kind == "unchanged"

    project.write("card-risk", active)
    prefect_client.pause_deployment(made.id)
    assert "schedule: paused → active" in project.deploy()["deployment score/card-risk"].details
    resumed = read(prefect_client, "card-risk")
    assert ([each.active for each in resumed.schedules], resumed.paused) == ([True], False)

    project.write("card-risk")
    project.deploy()
    project.write("card-risk", paused)
    assert "schedule: none → 15 2 * * * Europe/Paris (paused)" in project.deploy()["deployment score/card-risk"].details
    assert [each.active for each in read(prefect_client, "card-risk").schedules] == [False]


def test_what_somebody_changed_on_the_server_is_set_right_but_for_job_variables(
    project: Project, prefect_client: SyncPrefectClient
) -> None:
    project.write("card-risk")
    project.deploy()
    made = read(prefect_client, "card-risk")
    variables: dict[str, Any] = {"stream_output": False, "env": made.job_variables["env"] | {"OMP_NUM_THREADS": "2"}}
    edit = DeploymentUpdate(tags=["mine"], concurrency_limit=7, job_variables=variables)
    prefect_client.update_deployment(made.id, edit)

    change = project.deploy()["deployment score/card-risk"]

    again = read(prefect_client, "card-risk")
    assert change.details == ("tags: ['mine'] → ['penstock', 'card-risk']", "concurrency_limit: 7 → 1")
    assert again.job_variables == variables


def test_an_orphan_is_told_of_and_removed_only_when_that_is_wanted(
    project: Project, prefect_client: SyncPrefectClient
) -> None:
    project.write("card-risk")
    spec = project.write("churn")
    project.deploy()
    spec.unlink()

    told = project.deploy()["deployment score/churn"]
    removed = project.deploy(remove_orphans=True)["deployment score/churn"]

    assert told == Change("unchanged", "deployment score/churn", (LEFT_ALONE,))
    assert removed.kind == "removed"
    with pytest.raises(ObjectNotFound):
        read(prefect_client, "churn")


def test_deploying_one_pipeline_leaves_the_others_alone(project: Project, prefect_client: SyncPrefectClient) -> None:
    project.write("card-risk")
    project.write("churn")
    project.deploy()

    changes = project.deploy([project.settings.pipelines / "churn.yaml"], remove_orphans=True)

    deployed = {what for what in changes if what.startswith("deployment")}
    assert deployed == {
        "deployment score/churn",
        *(f"deployment {flow}/{ANY_PIPELINE}" for flow in ("score", "backfill")),
    }
    assert read(prefect_client, "card-risk")


def test_another_projects_deployments_are_no_orphans_of_ours(
    project: Project, prefect_client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("card-risk")
    project.deploy()
    for flow in ("score", "backfill"):
        prefect_client.delete_deployment(prefect_client.read_deployment_by_name(f"{flow}/{ANY_PIPELINE}").id)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)

    changes = Project(project.api_url, load_settings()).deploy(remove_orphans=True)

    assert "deployment score/card-risk" not in changes
    assert read(prefect_client, "card-risk")


def test_a_name_that_another_project_has_on_the_server_is_refused(
    project: Project, prefect_client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.deploy()
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)

    with pytest.raises(SettingsError, match=f"`score/{ANY_PIPELINE}` on this server belongs to the project in"):
        Project(project.api_url, load_settings()).deploy()


def test_a_project_that_has_moved_takes_its_deployments_along(
    project: Project, prefect_client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_broken_spec_stops_all(project: Project, prefect_client: SyncPrefectClient) -> None:
    project.write("card-risk")
    project.write("churn", "colour: blue")

    with pytest.raises(SpecError, match=r"churn\.yaml"):
        project.deploy()

    with pytest.raises(ObjectNotFound):
        read(prefect_client, "card-risk")


def test_a_server_that_does_not_answer_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")

    with pytest.raises(SettingsError, match=r"the Prefect server at http://127\.0\.0\.1:9/api does not answer"):
        deploy_pipelines("http://127.0.0.1:9/api", project.settings, None)
