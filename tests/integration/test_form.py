"""Each value of the table goes through the form's schema on a server, and through the flow."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flow_engine import run_flow

from penstock.cli.arguments import read_moment
from penstock.deployments.deploy.definition import ANY_PIPELINE
from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
from penstock.flows.backfill import backfill
from penstock.flows.score import score
from penstock.ledger.reader import list_runs
from penstock.settings import load_settings
from penstock.tasks import process_resources
from penstock.tasks.form import LABELS
from tests.form_values import TYPED, Typed
from tests.shop import Place

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
names = [f"{typed.field}={typed.value!r}" for typed in TYPED]


@pytest.fixture
def place(make_place: Any, prefect_client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place whose pipeline has its deployment on the server."""
    place: Place = make_place()
    forget_ledgers(prefect_client)
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(place.folder))
    monkeypatch.chdir(place.folder)
    process_resources.settings.cache_clear()
    deploy_pipelines(str(prefect_client.api_url), load_settings(), [place.spec])
    return place


def forget_ledgers(client: SyncPrefectClient) -> None:
    """Forget the ledgers of earlier tests, which had a pipeline of the same name on this server."""
    for variable in client.request("POST", "/variables/filter", json={}).json():
        if variable["name"].startswith("penstock_ledger_"):
            client.request("DELETE", "/variables/name/{name}", path_params={"name": variable["name"]})


def start(client: SyncPrefectClient, deployment: str, parameters: dict[str, Any], enforced: bool = True) -> FlowRun:
    """Create a flow run as the form does, or as a client that does not let the server check the parameters."""
    found = client.read_deployment_by_name(f"score/{deployment}")
    asked = {"parameters": found.parameters | parameters, "enforce_parameter_schema": enforced}
    answer = client.request("POST", f"/deployments/{found.id}/create_flow_run", json=asked)
    return FlowRun.model_validate(answer.json())


def run(client: SyncPrefectClient, flow_run: FlowRun) -> tuple[str, State[Any]]:
    """Run the flow as a worker does, and return the run's name and state."""
    state: Any = run_flow(score, flow_run=flow_run, parameters=flow_run.parameters, return_type="state")
    return client.read_flow_run(flow_run.id).name, state


@pytest.mark.parametrize("typed", TYPED, ids=names)
def test_the_form_and_the_run_say_of_each_value_what_the_table_says(
    typed: Typed, place: Place, prefect_client: SyncPrefectClient
) -> None:
    parameters = {"mode": "backfill", "dry_run": True, typed.field: typed.value}

    if typed.is_refused:
        with pytest.raises(PrefectHTTPStatusError) as refused:
            start(prefect_client, "card-risk", parameters)
        assert typed.form in str(refused.value.response.json()["detail"])
    flow_run = start(prefect_client, "card-risk", parameters, enforced=not typed.is_refused)
    name, state = run(prefect_client, flow_run)

    pipeline = typed.value if typed.field == "pipeline" else "card-risk"
    sandbox = f"sandbox:{typed.value}" if typed.field == "sandbox" else ""
    assert name == " ".join(filter(None, (pipeline, sandbox, "backfill", typed.begin, "(dry run)")))
    assert state.is_failed() == bool(typed.run)
    if typed.run:
        assert state.message == typed.run
    assert not list_runs(place.warehouse)


def test_all_wrong_fields_are_named_at_once(place: Place) -> None:
    state: Any = score(str(place.spec), "nightly", "2026-02-30", "soon", "newest", -1, "perhaps", return_state=True)  # type: ignore[call-overload]

    assert state.is_failed()
    for label in ("What to score", "Begin of", "End of", "Model", "Rows of a partition", "Dry run"):
        assert f"{label}" in state.message
    assert "Did you mean" not in state.message
    assert "validation error" not in state.message


def test_the_backfill_says_the_same(place: Place) -> None:
    state: Any = backfill(str(place.spec), start="2026-02-30", parallel=65, return_state=True)

    assert state.message == (
        "Begin of the range: `2026-02-30` is not a date. Write 2026-01-31 or 2026-01-31T06:00. "
        "Intervals at once: `65` is not a whole number from 1 to 64."
    )


def test_the_command_line_reads_times_as_the_form_does() -> None:
    for typed in TYPED:
        if typed.field == "start" and typed.value.strip():
            if typed.run:
                with pytest.raises(typer.BadParameter) as refused:
                    read_moment(typed.value)
                assert typed.run == f"Begin of the range: {refused.value}"
            else:
                read_moment(typed.value)


def test_any_pipeline_takes_any_pipeline(place: Place, prefect_client: SyncPrefectClient) -> None:
    flow_run = start(prefect_client, ANY_PIPELINE, {"pipeline": "card-risk", "dry_run": True})

    name, state = run(prefect_client, flow_run)

    assert re.fullmatch(r"card-risk due at \d{4}-\d\d-\d\d \d\d:\d\d \(dry run\)", name)
    assert state.is_completed()


def test_a_deployment_of_an_older_version_refuses_another_pipeline_too(
    place: Place, prefect_client: SyncPrefectClient
) -> None:
    """Its form takes any name, as that of `prefect deploy` does. The file named here is its own pipeline's."""
    found = prefect_client.read_deployment_by_name("score/card-risk")
    form = found.parameter_openapi_schema
    assert form is not None
    del form["properties"]["pipeline"]["enum"]
    prefect_client.update_deployment(found.id, DeploymentUpdate(parameter_openapi_schema=form))

    _, state = run(prefect_client, start(prefect_client, "card-risk", {"pipeline": str(place.spec)}))

    assert state.message is not None
    assert state.message.startswith("Pipeline: the deployment `score/card-risk` scores only `card-risk`, not `")
    assert not list_runs(place.warehouse)


def test_the_page_on_triggers_has_the_table() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    assert write_table() in page


def write_table() -> str:
    """Write the table of the page."""
    shown = {"": "nothing", "  ": "blanks"}
    rows = [(LABELS[t.field], shown.get(t.value, f"`{t.value}`"), t.form, t.run or _write_taken(t)) for t in TYPED]
    lines = [f"| {' | '.join(part or 'takes it' for part in row)} |" for row in rows]
    return "\n".join(["| field | value | the form says | the run says |", "|---|---|---|---|", *lines]) + "\n"


def _write_taken(typed: Typed) -> str:
    return f"takes it: {typed.begin}" if typed.begin else ""
