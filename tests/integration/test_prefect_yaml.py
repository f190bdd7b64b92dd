"""`prefect.yaml` says the same as `penstock deploy`: what Prefect's own command makes of it is compared."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient

from penstock.deployments.deploy.definition import ANY_PIPELINE
from penstock.deployments.deploy.prefect_yaml import render_prefect_yaml
from penstock.deployments.deploy.reconcile import read_fields
from penstock.settings import Settings
from tests.project import CRON, INTERVAL, RRULE, Project

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_prefect_deploy_makes_the_same_deployments(
    project: Project, prefect_client: SyncPrefectClient, tmp_path: Path
) -> None:
    project.write("card-risk", CRON)
    project.write("churn", INTERVAL.replace("}", ", active: false}"))
    project.write("fraud", RRULE)
    project.deploy()
    names = ("card-risk", "churn", "fraud", ANY_PIPELINE)
    ours = {name: _read(prefect_client, name) for name in names}
    for name in names:
        prefect_client.delete_deployment(prefect_client.read_deployment_by_name(f"score/{name}").id)
    (tmp_path / "prefect.yaml").write_text(render_prefect_yaml(project.settings, None))

    _prefect_deploy(project.api_url, *names)

    theirs = {name: _read(prefect_client, name) for name in names}
    for fields in (*ours.values(), *theirs.values()):
        _free_pipeline(fields)
    assert theirs == ours


def test_only_the_pipeline_in_the_form_is_left_to_do_after_prefect_deploy(
    project: Project, prefect_client: SyncPrefectClient, tmp_path: Path
) -> None:
    project.write("card-risk", CRON)
    project.deploy()
    (tmp_path / "prefect.yaml").write_text(render_prefect_yaml(project.settings, None))

    _prefect_deploy(project.api_url, "card-risk", ANY_PIPELINE)

    changes = project.deploy()
    changed = [change for change in changes.values() if change.kind != "unchanged"]
    assert [(change.what, change.details) for change in changed] == [
        ("deployment score/card-risk", ("parameter_openapi_schema: changed",))
    ]
    assert {change.kind for change in project.deploy().values()} == {"unchanged"}


def test_the_shipped_prefect_yaml_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shipped = (ROOT / "deployments" / "prefect.yaml").read_text(encoding="utf-8")

    assert shipped == render_prefect_yaml(Settings(_env_file=None), None), "penstock deploy --prefect-yaml > the file"


def _read(client: SyncPrefectClient, name: str) -> dict[str, Any]:
    """Return what makes a deployment what it is: all but ids, times and who made it."""
    found = client.read_deployment_by_name(f"score/{name}")
    rest = {
        "path": found.path,
        "paused": found.paused,
        "schedules": [(each.schedule, each.active, each.parameters, each.slug) for each in found.schedules],
        "work_queue_name": found.work_queue_name,
    }
    return read_fields(found) | rest


def _free_pipeline(fields: dict[str, Any]) -> None:
    """Take away what Prefect's own command cannot set: that the form takes one pipeline."""
    for name in ("enum", "readOnly", "description"):
        fields["parameter_openapi_schema"]["properties"]["pipeline"].pop(name, None)


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
