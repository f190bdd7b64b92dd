"""`penstock quarantine release`: let refused rows through, and score their intervals again."""

import getpass
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.opening import locate_run, open_ledger, open_pipeline, open_settings
from penstock.cli.output import console, plural
from penstock.errors import PipelineNotFound, SettingsError

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline
    from penstock.upkeep.quarantine_release import Choice, Selected


def release_quarantine(
    what: Annotated[str, typer.Argument(metavar="PIPELINE|RUN_ID", help="Refused rows of a pipeline, or of one run.")],
    failed: Annotated[
        list[str] | None, typer.Option(help="Only rows that failed this, and nothing else; may be given again.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option(help="Only the row with this key; may be given again.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for those who come after.")] = "",
    run: Annotated[bool, typer.Option("--run/--no-run", help="Score now, or leave it to the next run.")] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Let refused rows through as they are, and score their intervals again.

    A released row is exempt from exactly the expectations that it failed, as long as it does not change. What the model
    cannot take, and a row without a key, is only read again: it passes if it was mended at the source.
    """
    from penstock.upkeep.quarantine_release import release_selected, select_rows

    settings = open_settings()
    meant = _find_rows(settings, what)
    choice = _choose(settings, meant, tuple(failed or ()), tuple(key or ()))
    selected = select_rows(meant.database, choice, meant.pipeline, meant.run_id)
    _tell(selected)
    if selected.held:
        if not yes:
            typer.confirm(f"Release {plural(selected.held, 'row')} of `{meant.pipeline}`?", abort=True)
        done = release_selected(meant.database, selected, getpass.getuser(), reason)
        console().print(f"released {plural(done, 'row')}", markup=False)
    _score(settings, meant, run=run)


@dataclass(frozen=True)
class _Meant:
    """Whose rows a command speaks of."""

    database: "Database"
    pipeline: str
    run_id: str | None
    spec: "Pipeline | None"
    """None where the pipeline's file is not in the pipelines folder."""
    named: str
    """What `penstock run` knows the pipeline by."""


def _find_rows(settings: "Settings", what: str) -> _Meant:
    try:
        database, name = open_ledger(settings, what)
    except PipelineNotFound:
        database, record = locate_run(settings, what)
        return _Meant(database, record.pipeline, record.run_id, _find_spec(settings, record.pipeline), record.pipeline)
    assert name is not None  # one was given
    return _Meant(database, name, None, _find_spec(settings, what), what)


def _find_spec(settings: "Settings", name: str) -> "Pipeline | None":
    try:
        return open_pipeline(name, settings)
    except PipelineNotFound:
        return None


def _choose(settings: "Settings", meant: _Meant, failed: tuple[str, ...], keys: tuple[str, ...]) -> "Choice":
    from penstock.privacy.masking import make_masking
    from penstock.privacy.row_key import read_row_key
    from penstock.upkeep.quarantine_release import Choice

    if not keys:
        return Choice(failed)
    if meant.spec is None:
        raise SettingsError(
            f"there is no file of `{meant.pipeline}` in the pipelines folder, which tells its key",
            "Name the pipeline by its file instead of the run.",
        )
    subjects = tuple(read_row_key(text, meant.spec.key) for text in keys)
    return Choice(failed, subjects, make_masking(meant.spec, settings))


def _tell(selected: "Selected") -> None:
    if not selected.held:
        console().print("no held row is meant: nothing to release")
    if selected.stubborn:
        told = "cannot be let through as they are (the model cannot take them, or they have no key)"
        console().print(f"{plural(selected.stubborn, 'row')} {told}: they pass only where they were mended")
    if selected.left:
        console().print(f"{plural(selected.left, 'row')} failed other expectations too and stay held")


def _score(settings: "Settings", meant: _Meant, *, run: bool) -> None:
    from penstock.ledger.releases import pending_releases

    waiting = pending_releases(meant.database, meant.pipeline)
    if not waiting:
        return
    if not run or meant.spec is None:
        told = f"{plural(sum(waiting.values()), 'released row')} of {plural(len(waiting), 'interval')}"
        console().print(f"{told}: the next run of `{meant.pipeline}` scores them", markup=False)
        return
    from penstock.cli.run.command import run_pipeline

    raise typer.Exit(run_pipeline(meant.named, settings, console(), mode="release").exit_code)
