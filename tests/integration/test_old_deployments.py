"""A Prefect server that 0.1 deployed to: its deployments still run, and a deploy brings them to the new names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolUpdate

from penstock.deployments.deploy.changes import Change
from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
from penstock.deployments.deploy.work_pool import WORK_POOL, base_job_template
from penstock.deployments.doctor.finding import Finding
from penstock.deployments.doctor.judging import judge_versions
from penstock.deployments.doctor.reading import read_facts
from penstock.deployments.up import deploy_folder
from tests.works import Works, running_works

ENTRYPOINTS = {
    "score/card-risk": "flows.score.score",
    "score/any_pipeline": "flows.score.score",
    "backfill/any_pipeline": "flows.backfill.backfill",
}
SCHEDULE = 'schedule: {cron: "0 3 1 1 *"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    with running_works(tmp_path_factory.mktemp("old"), {}) as works:
        yield works


@pytest.fixture
def works(server: Works, monkeypatch: pytest.MonkeyPatch) -> Works:
    """A project whose deployments and work pool are on the server as 0.1 wrote them."""
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(server.folder / "pipelines"))
    server.deploy("card-risk", SCHEDULE)
    write_as_before(server.client, server.folder)
    return server


def write_as_before(client: SyncPrefectClient, folder: Path) -> None:
    """Give deployments and work pool the names that `definition.py` and `work_pool.py` of 0.1 gave them."""
    template = base_job_template()
    template["variables"]["properties"]["command"]["default"] = "python -m deployments.engine"
    client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
    for name, entrypoint in ENTRYPOINTS.items():
        steps = [{"deployments.pull.enter_project": {"folder": str(folder)}}]
        fields = DeploymentUpdate.model_validate({"entrypoint": entrypoint, "pull_steps": steps})
        client.update_deployment(client.read_deployment_by_name(name).id, fields)


def names_on(client: SyncPrefectClient) -> set[str]:
    """Return every module that deployments and work pool name."""
    pool = client.read_work_pool(WORK_POOL)
    found = [client.read_deployment_by_name(name) for name in ENTRYPOINTS]
    steps = {step for each in found for part in each.pull_steps or [] for step in part}
    command = pool.base_job_template["variables"]["properties"]["command"]["default"]
    return {command, *steps, *(str(each.entrypoint) for each in found)}


def look_for_old(works: Works) -> list[Finding]:
    from datetime import UTC, datetime

    return list(judge_versions(read_facts(works.api_url, datetime.now(UTC))))


NEW_NAMES = {
    "python -m penstock.deployments.engine",
    "penstock.deployments.pull.enter_project",
    "penstock.flows.score.score",
    "penstock.flows.backfill.backfill",
}


def test_a_worker_runs_an_old_deployment_by_the_old_names_and_warns(works: Works) -> None:
    with works.worker(limit=1):
        done = works.wait(works.trigger("score/card-risk", start="2026-01-01", end="2026-01-03"))

    assert done.state is not None
    assert done.state.type == "COMPLETED", done.state.message
    assert [run.state for run in works.ledger("card-risk")] == ["published", "published"]
    log = (works.folder / "worker.log").read_text()
    for root in ("deployments", "flows"):
        assert f"FutureWarning: `{root}` is now `penstock.{root}`" in log
    assert "run `penstock deploy`" in log
    assert "penstock.flows.score.score" not in names_on(works.client)


def test_a_deploy_brings_them_to_the_new_names_and_says_so(works: Works) -> None:
    changes = {change.what: change for change in deploy_pipelines(works.api_url, works.settings, None)}

    assert names_on(works.client) == NEW_NAMES
    assert changes["deployment score/card-risk"] == Change(
        "updated",
        "deployment score/card-risk",
        (
            "entrypoint: flows.score.score → penstock.flows.score.score",
            "pull step: deployments.pull.enter_project → penstock.deployments.pull.enter_project",
        ),
    )
    command = "command: python -m deployments.engine → python -m penstock.deployments.engine"
    assert changes[f"work pool {WORK_POOL}"].details == (command,)
    assert {changes[f"deployment {name}"].kind for name in ENTRYPOINTS} == {"updated"}
    again = deploy_pipelines(works.api_url, works.settings, None)
    assert {change.kind for change in again} == {"unchanged"}


def test_up_deploys_them_anew_before_it_starts_a_worker(works: Works) -> None:
    changes, broken = deploy_folder(works.api_url, works.settings)

    assert (names_on(works.client), broken) == (NEW_NAMES, ())
    assert [change.kind for change in changes].count("updated") == len(ENTRYPOINTS) + 1


def test_what_is_paused_stays_paused(works: Works) -> None:
    client = works.client
    found = client.read_deployment_by_name("score/card-risk")
    client.update_deployment(found.id, DeploymentUpdate(paused=True))
    client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)
    client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=True))

    deploy_folder(works.api_url, works.settings)

    after = client.read_deployment_by_name("score/card-risk")
    paused = (after.paused, after.schedules[0].active, client.read_work_pool(WORK_POOL).is_paused)
    client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=False))
    assert names_on(client) == NEW_NAMES
    assert paused == (True, False, True)


def test_the_doctor_names_what_an_older_version_made(works: Works) -> None:
    [finding] = look_for_old(works)
    deploy_pipelines(works.api_url, works.settings, None)

    assert finding.state == "warning"
    for name in (*ENTRYPOINTS, f"work pool {WORK_POOL}"):
        assert name in finding.what
    assert "penstock deploy" in finding.remedy
    assert look_for_old(works) == []
