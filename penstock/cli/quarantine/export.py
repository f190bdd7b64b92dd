"""`penstock quarantine export`: write the refused rows to a Parquet file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.opening import locate_run, open_ledger, open_settings
from penstock.cli.output import console
from penstock.errors import PipelineNotFound
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.settings import Settings


def export_quarantine(
    what: Annotated[
        list[str],
        typer.Argument(metavar="[PIPELINE|RUN_ID] FILE", help="Pipeline or run (default: all), and the Parquet file."),
    ],
) -> None:
    """Write refused rows to a Parquet file, with their reasons, state and fields as columns.

    For a pipeline, the newest run of each interval is exported, as in `quarantine list`.
    """
    from penstock.upkeep.quarantine_export import write_quarantine

    if len(what) > 2:
        raise typer.BadParameter("give a pipeline or a run id, and one file")
    database, runs = _find_runs(open_settings(), what[0] if len(what) == 2 else None)
    file = Path(what[-1])
    if not file.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {file.parent} to write to")
    try:
        count = write_quarantine(database, runs, file)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error.strerror or error}") from error
    console().print(f"wrote {plural(count, 'row')} to {file}", markup=False, soft_wrap=True)


def _find_runs(settings: "Settings", what: str | None) -> "tuple[Database, list[str]]":
    from penstock.ledger.quarantine import standing_runs

    try:
        database, pipeline = open_ledger(settings, what)
    except PipelineNotFound:
        assert what is not None  # only a name can be unknown
        database, run = locate_run(settings, what)
        return database, [run.run_id]
    return database, standing_runs(database, pipeline)
