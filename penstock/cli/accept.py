"""`penstock accept`: publish a run although a gate of the audit halted it."""

from typing import TYPE_CHECKING

import typer

from penstock.cli.arguments import AsJson, By, DryRun, RunId, Why, Yes
from penstock.cli.deliver.targets import deliver_moves
from penstock.cli.opening import locate_run, open_settings
from penstock.cli.output import console, error_console
from penstock.cli.publish import require_reason, show_changes
from penstock.cli.user_name import find_user_name
from penstock.errors import PenstockError
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.ledger.reader import RunRecord
    from penstock.settings import Settings


def add_commands(app: typer.Typer) -> None:
    example = 'Example: penstock accept 1a2b3c4d --reason "the sale doubled the amounts"'
    app.command("accept", epilog=example)(accept_halted)


def accept_halted(
    run_id: RunId, reason: Why = "", by: By = None, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Publish a run that the audit halted, because its data are right. Its rows are loaded, and nothing is scored.

    Only gates of the audit can be overruled. A run that failed, or whose rows were not all scored, is refused.
    """
    from penstock.run_types import interval_label
    from penstock.upkeep.acceptance import accept_run, describe_left_halted, list_overruled, plan_acceptance
    from penstock.upkeep.live_changes import compare_live

    require_reason(reason, dry_run, as_json)
    settings = open_settings()
    database, run = locate_run(settings, run_id)
    changes = list(compare_live(database, plan_acceptance(database, run.run_id)))
    if not as_json:
        for gate in list_overruled(database, run.run_id):
            console().print(f"overrules {gate}", markup=False)
    show_changes(changes, run.destination_table, as_json)
    if dry_run:
        return
    scores, interval = plural(run.rows_scored or 0, "score"), interval_label(run.interval)
    if not yes:
        typer.confirm(f"Publish {scores} of {run.pipeline} {interval} in spite of the halt?", abort=True)
    by = by or find_user_name()
    move = accept_run(database, run.run_id, by, reason.strip())
    instead = f", in place of run {move.replaced[0].run_id[:8]}" if len(move.replaced) == 1 else ""
    instead = instead or (f", in place of {plural(len(move.replaced), 'run')}" if move.replaced else "")
    table = run.destination_table
    console().print(f"accepted: {scores} of {run.pipeline} {interval} are in `{table}`{instead}", markup=False)
    if left := describe_left_halted(database, run):
        console().print(left, markup=False, soft_wrap=True)
    _announce(settings, database, run, f"{scores} published: {by} accepted the halted run: {reason.strip()}")
    deliver_moves(settings, [(database, run.pipeline)])


def _announce(settings: "Settings", database: "Database", run: "RunRecord", message: str) -> None:
    """Send the event of a published run to a Prefect server that answers. The run is published without it too."""
    from penstock.cli.prefect_api import found_server

    try:
        with found_server(settings) as api_url:
            if api_url is None:
                return
            from penstock.deployments.deploy.deploy_pipelines import client_of
            from penstock.tasks.events import announce_accepted

            with client_of(api_url) as client:
                announce_accepted(client, run, database.name, message)
    except PenstockError as error:
        error_console().print(f"could not send the event penstock.run.published: {error}", style="yellow", markup=False)
