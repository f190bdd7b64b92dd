"""`penstock status`: how the pipelines stand, and what needs a person."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, Timezone
from penstock.cli.opening import ledger_connector, open_pipeline, open_settings, pipeline_files
from penstock.cli.output import console, error_console, write_json
from penstock.errors import PenstockError, SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.report.needs import ScheduleState
    from penstock.report.status import PipelineStatus
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


def add_commands(app: typer.Typer) -> None:
    app.command("status", epilog="Example: penstock status --json")(show_status)


def show_status(
    pipelines: Annotated[
        list[str] | None, typer.Argument(metavar="[PIPELINE]...", help="Names or YAML files. Default: all pipelines.")
    ] = None,
    timezone: Timezone = None,
    as_json: AsJson = False,
) -> None:
    """Show a week at a glance: what is published, missing, halted and refused, and what needs a person.

    The exit code is 1 if something needs a person. The command writes nothing.
    """
    from penstock.cli.run_page import print_sections
    from penstock.report.status_sections import build_status

    settings, now = open_settings(), datetime.now(UTC)
    zone = timezone or settings.timezone
    loaded, broken = _load(pipelines, settings)
    found, unread = read_all(settings, loaded, now, zone)
    if as_json:
        errors = {name: str(error) for name, error in unread.items()}
        files = [str(file) for file, _ in broken]
        write_json({"now": now, "pipelines": found, "broken_files": files, "unread": errors})
    elif not found and not broken and not unread:
        console().print(f"no pipelines in {settings.pipelines}; make a project with `penstock init`", markup=False)
    else:
        if found:
            print_sections(build_status(found, now, zone), None, console())
        for file, error in broken:
            error_console().print(f"{file} cannot be read: {error}", style="red", markup=False, soft_wrap=True)
        for name, failure in unread.items():
            error_console().print(
                f"{name}: its ledger cannot be read: {failure}", style="red", markup=False, soft_wrap=True
            )
    raise typer.Exit(1 if broken or unread or any(status.needs for status in found) else 0)


def read_all(
    settings: "Settings", pipelines: "list[Pipeline]", now: datetime, zone: str
) -> "tuple[list[PipelineStatus], dict[str, PenstockError]]":
    """Read how these pipelines stand. A Prefect server that answers gives the next runs and the pauses.

    Returns:
        The pipelines, and the errors of those whose ledger cannot be read.
    """
    from penstock.report.status import read_status

    states, connect = read_states(settings, pipelines), ledger_connector(settings)
    found: list[PipelineStatus] = []
    unread: dict[str, PenstockError] = {}
    for spec in pipelines:
        try:
            found.append(read_status(connect(spec.destination.connection), spec, now, zone, states.get(spec.name)))
        except PenstockError as error:
            unread[spec.name] = error
    return found, unread


def read_states(settings: "Settings", pipelines: "list[Pipeline]") -> "dict[str, ScheduleState]":
    """Return the schedules that a Prefect server knows. Empty if none answers."""
    from penstock.cli.prefect_api import found_server

    scheduled = {spec.name for spec in pipelines if spec.schedule}
    if not scheduled:
        return {}
    with found_server(settings) as api_url:
        if api_url is None:
            return {}
        from penstock.deployments.deploy.deploy_pipelines import client_of
        from penstock.tasks.deployed import read_schedule_states

        with client_of(api_url) as client:
            return read_schedule_states(client, scheduled)


def _load(names: list[str] | None, settings: "Settings") -> "tuple[list[Pipeline], list[tuple[Path, SpecError]]]":
    """Return the named pipelines, or those of the folder and the files there that do not load."""
    from penstock.spec.yaml_file import load_pipeline

    if names:
        return [open_pipeline(name, settings) for name in names], []
    loaded, broken = [], []
    for file in pipeline_files(settings):
        try:
            loaded.append(load_pipeline(file))
        except SpecError as error:
            broken.append((file, error))
    return loaded, broken
