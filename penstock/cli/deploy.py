"""`penstock deploy`: make the deployments on a Prefect server match the pipeline specs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson
from penstock.cli.opening import open_settings
from penstock.cli.output import console, error_console, make_table, write_json
from penstock.cli.prefect_api import prefect_api
from penstock.errors import SettingsError
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.deployments.deploy.changes import Change
    from penstock.settings import Settings

STYLES = {"created": "green", "updated": "yellow", "removed": "red"}


def add_commands(app: typer.Typer) -> None:
    app.command("deploy", epilog="Example: penstock deploy --dry-run")(deploy)


def deploy(
    pipelines: Annotated[
        list[str] | None, typer.Argument(metavar="[PIPELINE]...", help="Names or YAML files. Default: all pipelines.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove deployments that have no spec, without asking.")] = False,
    as_json: AsJson = False,
    prefect_yaml: Annotated[
        bool, typer.Option("--prefect-yaml", help="Print the same deployments as a prefect.yaml, without a server.")
    ] = False,
) -> None:
    """Create or update the Prefect deployments of pipelines, and remove those whose spec is gone.

    If you repeat the command, nothing changes. Deployments that a person paused stay paused.
    """
    settings = open_settings()
    files = _find_files(pipelines, settings)
    if prefect_yaml:
        typer.echo(_render_yaml(settings, files), nl=False)
        return
    _require_server(settings)
    with prefect_api(settings) as api_url:
        from penstock.deployments.deploy.deploy_pipelines import LEFT_ALONE, deploy_pipelines

        changes = deploy_pipelines(api_url, settings, files, dry_run=dry_run, remove_orphans=yes)
        print_changes(changes, as_json=as_json, dry_run=dry_run)
        orphans = [change.what for change in changes if LEFT_ALONE in change.details]
        if orphans and not dry_run and _agreed(orphans, ask=not as_json):
            again = deploy_pipelines(api_url, settings, files, remove_orphans=True)
            print_changes([change for change in again if change.kind == "removed"], as_json=False, dry_run=False)


def _find_files(pipelines: Sequence[str] | None, settings: "Settings") -> list[Path] | None:
    from penstock.spec.yaml_file import find_pipeline_file

    return [find_pipeline_file(name, settings.pipelines) for name in pipelines] if pipelines else None


def _render_yaml(settings: "Settings", files: Sequence[Path] | None) -> str:
    from penstock.deployments.deploy.prefect_yaml import render_prefect_yaml

    return render_prefect_yaml(settings, files)


def _require_server(settings: "Settings") -> None:
    """Refuse to deploy without a lasting server, because a server of this command would end with it."""
    from penstock.deployments.server.local import running_server
    from penstock.settings import prefect_api_url

    if prefect_api_url() is None and running_server(settings.home) is None:
        raise SettingsError(
            "there is no Prefect server to deploy to",
            "Start one with `penstock up`, or set PREFECT_API_URL to yours, as in http://localhost:4200/api.",
        )


def print_changes(changes: "Sequence[Change]", *, as_json: bool = False, dry_run: bool = False) -> None:
    """Print what a deploy changed on the Prefect server."""
    if as_json:
        write_json(list(changes))
        return
    table = make_table("change", "what", "details")
    for change in changes:
        table.add_row(change.kind, change.what, "\n".join(change.details), style=STYLES.get(change.kind))
    console().print(table, markup=False)
    changed = sum(change.kind != "unchanged" for change in changes)
    verb = "would change" if dry_run else "changed"
    console().print(f"{plural(changed, 'object')} {verb} on the Prefect server", markup=False)


def _agreed(orphans: Sequence[str], *, ask: bool) -> bool:
    """Ask whether to remove the orphans. Without a terminal, or with JSON, keep them and print a warning."""
    names = ", ".join(orphans)
    if ask and sys.stdin.isatty() and sys.stdout.isatty():
        return typer.confirm(f"Remove {names}? The history of their runs stays.", default=False, err=True)
    error_console().print(
        f"Warning: not removed, though they have no spec: {names}. Run `penstock deploy --yes` to remove them.",
        style="yellow",
        markup=False,
        soft_wrap=True,
    )
    return False
