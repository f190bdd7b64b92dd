"""`penstock labels`: collect the labels of scored rows."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from penstock.cli.arguments import AsJson, PipelineName
from penstock.cli.opening import ledger_connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, write_json
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.labels.collect import Collected


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(help="Collect the labels of scored rows.", no_args_is_help=True)
    group.callback()(_group)
    group.command("collect", epilog="Example: penstock labels collect card-risk")(collect)
    app.add_typer(group, name="labels")


def _group() -> None:
    """Collect the labels of scored rows."""


def collect(pipeline: PipelineName, as_json: AsJson = False) -> None:
    """Read the labels that have come since the last time, store them, and measure the runs that they belong to."""
    from penstock.models.measuring import collect_and_measure

    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    now = datetime.now(UTC)
    done = collect_and_measure(spec, settings, ledger_connector(settings), open_models(settings), now)
    if as_json:
        write_json(done)
        return
    console().print(_describe(done.collected), markup=False, soft_wrap=True)
    console().print(f"{plural(done.measured_runs, 'run')} measured", markup=False)


def _describe(done: "Collected") -> str:
    from penstock.interval import iso

    until = "" if done.seen_until is None else f", the newest seen at {iso(done.seen_until)}"
    lost = f"; {plural(done.without_key, 'row')} without a key left out" if done.without_key else ""
    return f"{done.pipeline}: {plural(done.new, 'new label')} of {done.read:,} read{until}{lost}"
