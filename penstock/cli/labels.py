"""`penstock labels`: collect the labels of scored rows."""

from datetime import UTC, datetime

import typer

from penstock.cli.arguments import AsJson, PipelineName
from penstock.cli.opening import ledger_connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, write_json


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Collect the labels of scored rows.", no_args_is_help=True)
    group.callback()(_group)
    group.command("collect", epilog="Example: penstock labels collect card-risk")(collect)
    app.add_typer(group, name="labels")


def _group() -> None:
    """Collect the labels of scored rows."""


def collect(pipeline: PipelineName, as_json: AsJson = False) -> None:
    """Read the labels that have come since the last time, store them, and measure the runs that they belong to."""
    from penstock.labels.alerts import list_alerts
    from penstock.models.measuring import collect_and_measure

    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    connect = ledger_connector(settings)
    now = datetime.now(UTC)
    done = collect_and_measure(spec, settings, connect, open_models(settings), now)
    if as_json:
        write_json(done)
        return
    console().print(f"{spec.name}: {done.describe()}", markup=False, soft_wrap=True)
    for alert in list_alerts(connect(spec.destination.connection), spec.name):
        console().print(f"alert since {alert.began_at:%Y-%m-%d}: {alert.message}", markup=False, soft_wrap=True)
