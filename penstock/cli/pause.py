"""`penstock pause`: stop pipelines' schedules in Prefect, and keep the reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import Timezone
from penstock.cli.opening import open_settings
from penstock.cli.output import console
from penstock.cli.user_name import find_user_name
from penstock.errors import SettingsError, SpecError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

    from penstock.report.needs import Pause
    from penstock.settings import Settings

LONGEST_REASON = 500
Names = Annotated[list[str], typer.Argument(metavar="PIPELINE...", help="Names of pipelines.")]


def add_commands(app: typer.Typer) -> None:
    app.command("pause", epilog="Example: penstock pause card-risk --reason 'the shop migrates until Monday'")(pause)


def parse_reason(text: str) -> str:
    """Read a reason as one line."""
    line = " ".join(text.split())
    if not 1 <= len(line) <= LONGEST_REASON:
        raise typer.BadParameter(f"write a sentence of at most {LONGEST_REASON} characters")
    return line


def pause(
    pipelines: Names,
    reason: Annotated[
        str,
        typer.Option(parser=parse_reason, metavar="TEXT", help="Why. Shown in `penstock status` and in Prefect's UI."),
    ],
    timezone: Timezone = None,
) -> None:
    """Pause the schedules of pipelines in Prefect, as the switch in its UI does, and keep the reason.

    Runs that have begun go on, and runs can still be started by hand. `penstock deploy` keeps the pause.
    """
    settings = open_settings()
    with deployed_pipelines(settings, pipelines) as (client, deployments):
        from penstock.deployments.deploy.pauses import pause_schedule
        from penstock.report.needs import Pause
        from penstock.report.status_sections import describe_pause

        made = Pause(reason, find_user_name(), datetime.now(UTC).replace(microsecond=0))
        for deployment in deployments:
            pause_schedule(client, deployment, made)
            describe_on_server(client, deployment, settings, made)
            told = describe_pause(made, timezone or settings.timezone)
            console().print(f"{deployment.name}: {told}", markup=False, soft_wrap=True)
            console().print(f"Resume it with `penstock resume {deployment.name}`.", markup=False)


@contextmanager
def deployed_pipelines(
    settings: "Settings", names: list[str]
) -> "Iterator[tuple[SyncPrefectClient, list[DeploymentResponse]]]":
    """Yield a client of the Prefect server, and the deployments of pipelines. All names are checked first.

    Raises:
        SettingsError: no server answers, a name is unknown, or a pipeline has no schedule.
    """
    from penstock.cli.prefect_api import found_server
    from penstock.settings import prefect_api_url

    with found_server(settings) as api_url:
        if api_url is None:
            named = prefect_api_url()
            raise SettingsError(
                f"the Prefect server at {named} does not answer" if named else "there is no Prefect server here",
                "A schedule is paused and resumed on the server: start it with `penstock up`, or set PREFECT_API_URL.",
            )
        from penstock.deployments.deploy.deploy_pipelines import client_of
        from penstock.deployments.deploy.pauses import find_deployment
        from penstock.tasks.deployed import list_ours

        with client_of(api_url) as client:
            deployed = list_ours(client)
            yield client, [find_deployment(client, deployed, name) for name in dict.fromkeys(names)]


def describe_on_server(
    client: "SyncPrefectClient", deployment: "DeploymentResponse", settings: "Settings", made: "Pause | None"
) -> None:
    """Write the deployment's description anew. A pipeline whose file cannot be read keeps the old one."""
    from penstock.cli.opening import open_pipeline
    from penstock.deployments.deploy.definition import define_pipeline
    from penstock.deployments.deploy.pauses import describe_paused, write_description
    from penstock.errors import PipelineNotFound

    try:
        defined = define_pipeline(open_pipeline(deployment.name, settings), deployment.name)
    except (SpecError, PipelineNotFound):
        return
    for definition in defined:
        if definition.entrypoint == deployment.entrypoint:
            write_description(client, deployment, describe_paused(definition, made))
