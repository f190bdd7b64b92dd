"""`penstock backfill`: let the workers score the missing intervals of a range, and watch it."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, End, PipelineName, Start
from penstock.cli.flow_run_link import find_ui
from penstock.cli.opening import open_pipeline, open_settings
from penstock.cli.output import console, error_console, write_json
from penstock.cli.prefect_api import prefect_api
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline

EXIT_CODES = {"started": 0, "published": 0, "skipped": 0, "halted": 3}
"""By outcome; all others are 1."""


@dataclass(frozen=True)
class BackfillEnd:
    """The final state of a backfill, or the flow run that continues it."""

    flow_run_id: str
    url: str
    state: str
    """The name of its state in Prefect."""
    outcome: str
    """`published`, `skipped`, `halted`, `failed` or `cancelled`; with --detach `started`."""
    message: str


def add_commands(app: typer.Typer) -> None:
    epilog = "Example: penstock backfill card-risk --start 2026-01-01 --end 2026-02-01 --parallel 4"
    app.command("backfill", epilog=epilog)(backfill)


def backfill(
    pipeline: PipelineName,
    start: Start = None,
    end: End = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Intervals at once.")] = 2,
    restate: Annotated[
        bool, typer.Option("--restate", help="Also score published intervals of the range again.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start the backfill and do not wait for its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score the missing intervals of a range on the Prefect server's workers, each in a flow run of its own.

    If you repeat the command, it scores what is still missing and waits for what is running. Ctrl-C cancels the
    intervals that have not begun; running ones finish. The command needs `penstock up`, or your own server and
    `penstock deploy`.
    """
    settings = open_settings()
    _refuse_wrong(open_pipeline(pipeline, settings), start, end, restate)
    _require_server(settings)
    screen = error_console() if as_json else console()
    with prefect_api(settings) as api_url:
        from penstock.cli.backfill_watch import cancel_backfill, start_backfill, watch_backfill

        begun = start_backfill(api_url, pipeline, start, end, parallel, restate)
        url = f"{find_ui(settings)}/runs/flow-run/{begun}"
        screen.print(f"Flow run: {url}", markup=False, soft_wrap=True)
        if detach:
            ended = BackfillEnd(begun, url, "Scheduled", "started", "goes on without this command")
        else:
            try:
                ending = watch_backfill(api_url, begun, screen)
            except KeyboardInterrupt:
                screen.print("Cancelling: running intervals finish …", markup=False)
                ending = cancel_backfill(api_url, begun)
            ended = BackfillEnd(begun, url, *ending)
    if as_json:
        write_json(ended)
    else:
        _print_end(ended)
    raise typer.Exit(EXIT_CODES.get(ended.outcome, 1))


def _print_end(ended: BackfillEnd) -> None:
    good = EXIT_CODES.get(ended.outcome, 1) == 0
    screen = console() if good else error_console()
    opens_with_word = ended.outcome in ("halted", "skipped")
    line = ended.message if opens_with_word else f"{ended.state}: {ended.message}"
    screen.print(line, style="green" if good else "red", markup=False, soft_wrap=True)


def _refuse_wrong(pipeline: "Pipeline", start: datetime | None, end: datetime | None, restate: bool) -> None:
    """Raise the errors of the flow before anything is started."""
    from datetime import UTC

    from penstock.ledger.coverage import NOTHING_DONE
    from penstock.run.planning import plan_range

    now = datetime.now(UTC)
    plan_range(pipeline, NOTHING_DONE, now, start, end, now if restate else None)


def _require_server(settings: "Settings") -> None:
    """Refuse a server that ends with this command, because no worker could run the backfill."""
    from penstock.deployments.server.local import running_server
    from penstock.settings import prefect_api_url

    if prefect_api_url() is None and running_server(settings.home) is None:
        raise SettingsError(
            "there is no Prefect server whose workers could backfill",
            "Start one with `penstock up`, or set PREFECT_API_URL to yours; "
            "`penstock run PIPELINE --start … --end …` scores a range here, without one.",
        )
