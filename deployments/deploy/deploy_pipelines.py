"""Make the deployments on a Prefect server match the pipeline specs. Repeating it changes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from penstock.deployments.deploy.automations import apply_automations, find_blocks
from penstock.deployments.deploy.changes import Change
from penstock.deployments.deploy.definition import (
    Definition,
    define_any_pipeline,
    define_backfill,
    define_pipeline,
    define_promotions,
    recorded_folder,
)
from penstock.deployments.deploy.pauses import describe_paused, keep_pause
from penstock.deployments.deploy.reconcile import Reconciliation, read_existing
from penstock.deployments.deploy.specs import load_specs, refuse_drift
from penstock.deployments.deploy.work_pool import ensure_work_pool
from penstock.deployments.pull import record_project
from penstock.errors import SettingsError
from penstock.settings import Settings
from penstock.tasks.deployed import list_ours, read_pause

LEFT_ALONE = "it has no spec; left alone"
"""Detail of an orphan that was not removed."""
NO_SPEC = "it has no spec"


def deploy_pipelines(
    api_url: str,
    settings: Settings,
    files: Sequence[Path] | None,
    *,
    dry_run: bool = False,
    remove_orphans: bool = False,
) -> tuple[Change, ...]:
    """Create or update the deployments of each pipeline, those for any pipeline, the work pool and the automations.

    Args:
        files: Specs to deploy. None: the whole pipelines folder, including a search for orphans, which are deployments
            of this project folder whose spec is gone.
        dry_run: Change nothing and return what would change.
        remove_orphans: Remove orphans. Otherwise they are returned as unchanged, with `LEFT_ALONE` in their details.

    Raises:
        SettingsError: the server does not answer or refuses, a name there belongs to another project, or a block that
            `notify:` names is missing.
        SpecError, SpecErrors: specs do not load. Nothing was deployed.
        PromotionsDiffer: two pipelines say different things about one model. Nothing was deployed.
        DriftRefused: a model version lacks what the `drift` of its pipeline needs. Nothing was deployed.
    """
    loaded = load_specs(settings, files)
    pipelines = tuple(loaded.values())
    definitions = [each for file, spec in loaded.items() for each in define_pipeline(spec, str(file))]
    definitions += [*define_promotions(pipelines, str(settings.pipelines)), define_any_pipeline(), define_backfill()]
    folder = record_project()["folder"]
    with client_of(api_url) as client:
        todo = [_reconciliation(client, each, folder) for each in definitions]
        for reconciliation in todo:
            _refuse_foreign(reconciliation)
        refuse_drift(settings, pipelines)
        find_blocks(client, pipelines)  # a missing block stops here, before anything is changed
        changes = [ensure_work_pool(client, dry_run=dry_run)]
        changes += [_apply(client, reconciliation, dry_run=dry_run) for reconciliation in todo]
        if files is None:
            changes += _reconcile_orphans(client, definitions, folder, remove=remove_orphans, dry_run=dry_run)
        changes += apply_automations(client, pipelines, whole_folder=files is None, dry_run=dry_run)
    return tuple(changes)


def _reconciliation(client: SyncPrefectClient, definition: Definition, folder: str) -> Reconciliation:
    """Compare a definition with the server's deployment, whose pause is part of the description."""
    existing = read_existing(client, definition.full_name)
    ends = definition.active is True  # the spec resumes it
    pause = read_pause(client, existing) if existing and not ends else None
    return Reconciliation(describe_paused(definition, pause), folder, existing)


def _apply(client: SyncPrefectClient, reconciliation: Reconciliation, *, dry_run: bool) -> Change:
    """Apply a reconciliation. A pause keeps its reason when its schedule changes."""
    existing = reconciliation.existing
    pause = read_pause(client, existing) if existing else None
    change = reconciliation.apply(client, dry_run=dry_run)
    if existing and pause and not dry_run and change.kind == "updated":
        keep_pause(client, client.read_deployment(existing.id), pause)
    return change


@contextmanager
def client_of(api_url: str) -> Iterator[SyncPrefectClient]:
    """Yield a client of the server. HTTP errors become one error that says what to do."""
    try:
        with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        response = error.response
        what = (
            f"the Prefect server at {api_url} refused: {response.status_code} {response.reason_phrase} {response.text}"
        )
        remedy = "Check PREFECT_API_AUTH_STRING." if response.status_code in (401, 403) else "Read the server's log."
        raise SettingsError(what.strip(), remedy) from error
    except httpx.HTTPError as error:
        what = f"the Prefect server at {api_url} does not answer: {error or type(error).__name__}"
        raise SettingsError(what, "Start it, or check PREFECT_API_URL.") from error


def _refuse_foreign(reconciliation: Reconciliation) -> None:
    """Refuse to take over a deployment of another project that shares the server and still exists.

    If its folder is gone, it was moved or is on another machine. Then the new folder is shown as a change.
    """
    existing = reconciliation.existing
    other = recorded_folder(existing.pull_steps) if existing else None
    if other is None or other == reconciliation.folder or not Path(other).is_dir():
        return
    name = reconciliation.definition.full_name
    raise SettingsError(
        f"the deployment `{name}` on this server belongs to the project in {other}",
        f"Give each project its own Prefect server, or run `prefect deployment delete {name}` and deploy again.",
    )


def _reconcile_orphans(
    client: SyncPrefectClient, definitions: Sequence[Definition], folder: str, *, remove: bool, dry_run: bool
) -> list[Change]:
    """Remove or report deployments of this project folder that have no definition."""
    known = {definition.full_name for definition in definitions}
    changes = []
    for deployment in list_ours(client):
        full_name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
        if full_name in known or recorded_folder(deployment.pull_steps) != folder:
            continue
        what = f"deployment {full_name}"
        if not remove:
            changes.append(Change("unchanged", what, (LEFT_ALONE,)))
            continue
        if not dry_run:
            client.delete_deployment(deployment.id)
        changes.append(Change("removed", what, (NO_SPEC,)))
    return changes
