"""`penstock rename`: move a pipeline's history to its new name."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.deploy import print_changes
from penstock.cli.opening import ledger_connector, open_pipeline, open_settings, pipeline_files
from penstock.cli.output import console, count, make_table
from penstock.cli.prefect_api import prefect_api
from penstock.errors import RenameRefused, SpecError

if TYPE_CHECKING:
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


def add_commands(app: typer.Typer) -> None:
    app.command("rename", epilog="Example: penstock rename card-risk payment-risk")(rename)


def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The name that the ledger knows.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name. Change `name:` in the spec first.")],
) -> None:
    """Give a renamed pipeline its runs, scores, quarantine, landed log lines and deployment.

    Change `name:` in the spec first, and name its file after it. No run of the pipeline may work meanwhile.
    """
    from penstock.ledger.served_spool import open_spool
    from penstock.upkeep.rename import rename_pipeline

    settings = open_settings()
    spec = open_pipeline(new, settings)
    _refuse_old_spec(old, spec, settings)
    moved = rename_pipeline(ledger_connector(settings)(spec.destination.connection), old, spec)
    open_spool(settings.home).rename(old, spec.name)
    table = make_table("table", "rows moved", right=("rows moved",), title=f"{old} is {new} now")
    for name, rows in moved.rows.items():
        table.add_row(name, count(rows))
    for name in moved.log_tables:
        table.add_row(name, "renamed")
    console().print(table)
    _rename_deployment(old, spec, settings)


def _refuse_old_spec(old: str, spec: "Pipeline", settings: "Settings") -> None:
    """Refuse if a file of the pipelines folder still has the old name, whatever the file's own name is."""
    from penstock.spec.yaml_file import load_pipeline

    for file in pipeline_files(settings):
        try:
            name = load_pipeline(file).name
        except SpecError:
            continue  # `penstock check` reports it
        if name == old:
            raise RenameRefused(old, spec.name, f"{file.name} still has the name `{old}`, so they are two pipelines")


def _rename_deployment(old: str, spec: "Pipeline", settings: "Settings") -> None:
    """Replace the deployment on the Prefect server, if there is one."""
    from penstock.deployments.server.local import running_server
    from penstock.settings import prefect_api_url
    from penstock.spec.yaml_file import find_pipeline_file

    if prefect_api_url() is None and running_server(settings.home) is None:
        note = "no Prefect server is up; when it is, `penstock deploy` makes the new deployment and removes the old one"
        console().print(note, markup=False, soft_wrap=True)
        return
    file = find_pipeline_file(spec.name, settings.pipelines)
    with prefect_api(settings) as api_url:
        from penstock.deployments.deploy.rename_deployment import rename_deployment

        changes = rename_deployment(api_url, settings, old, file, spec.name)
    if changes:
        print_changes(changes)
    else:
        console().print(f"the Prefect server has no deployment `score/{old}` of this project", markup=False)
