"""`penstock quarantine release`: release refused rows, and score their intervals again."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import Yes
from penstock.cli.opening import locate_run, open_ledger, open_pipeline, open_settings
from penstock.cli.output import console
from penstock.cli.user_name import find_user_name
from penstock.errors import PipelineNotFound, SettingsError
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline
    from penstock.upkeep.quarantine_release import Choice, Selected


def release_quarantine(
    what: Annotated[str, typer.Argument(metavar="PIPELINE|RUN_ID", help="Refused rows of a pipeline, or of one run.")],
    failed: Annotated[
        list[str] | None, typer.Option(help="Only rows that failed this expectation and no other. May be repeated.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option(help="Only the row with this key. May be repeated.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="The reason, kept with the release.")] = "",
    run: Annotated[bool, typer.Option("--run/--no-run", help="Score now, or leave it to the next run.")] = True,
    yes: Yes = False,
) -> None:
    """Release refused rows as they are, and score their intervals again.

    A released row is exempt from exactly the expectations that it failed, as long as it does not change. A row that the
    model cannot take, or without a key, is only read again: it passes if it was corrected at the source. A line that
    cannot be read has no row, and stays.
    """
    from penstock.upkeep.quarantine_release import release_selected, select_rows

    settings = open_settings()
    target = _find_rows(settings, what)
    choice = _choose(settings, target, tuple(failed or ()), tuple(key or ()))
    selected = select_rows(target.database, choice, target.pipeline, target.run_id)
    _print_selected(selected, target.named)
    if selected.held:
        if not yes:
            typer.confirm(f"Release {plural(selected.held, 'row')} of `{target.pipeline}`?", abort=True)
        done = release_selected(target.database, selected, find_user_name(), reason)
        console().print(f"released {plural(done, 'row')}", markup=False)
    _score(settings, target, run=run)


@dataclass(frozen=True)
class _Target:
    """The pipeline or run of the command."""

    database: "Database"
    pipeline: str
    run_id: str | None
    spec: "Pipeline | None"
    """None if the pipeline's file is not in the pipelines folder."""
    named: str
    """The pipeline's name or file for `penstock run`."""


def _find_rows(settings: "Settings", what: str) -> _Target:
    try:
        database, name = open_ledger(settings, what)
    except PipelineNotFound:
        database, record = locate_run(settings, what)
        return _Target(database, record.pipeline, record.run_id, _find_spec(settings, record.pipeline), record.pipeline)
    assert name is not None  # one was given
    return _Target(database, name, None, _find_spec(settings, what), what)


def _find_spec(settings: "Settings", name: str) -> "Pipeline | None":
    try:
        return open_pipeline(name, settings)
    except PipelineNotFound:
        return None


def _choose(settings: "Settings", target: _Target, failed: tuple[str, ...], keys: tuple[str, ...]) -> "Choice":
    from penstock.privacy.masking import make_masking
    from penstock.privacy.row_key import read_row_key
    from penstock.upkeep.quarantine_release import Choice, choose_keys

    if not keys:
        return Choice(failed)
    if target.spec is None:
        raise SettingsError(
            f"the key of `{target.pipeline}` is unknown: its file is not in the pipelines folder",
            "Give the pipeline's file instead of the run.",
        )
    row_keys = [read_row_key(text, target.spec.key) for text in keys]
    return choose_keys(target.database, target.spec, failed, row_keys, make_masking(target.spec, settings))


def _print_selected(selected: "Selected", pipeline: str) -> None:
    if selected.lines:
        one = len(selected.lines) == 1
        why = f"cannot be released: {'it has' if one else 'they have'} no row that can be read"
        console().print(f"{plural(len(selected.lines), 'line')} {why}. {_mend(selected, pipeline)}", markup=False)
    elif not selected.held:
        console().print("no held row matches: nothing to release")
    if selected.stubborn:
        why = "cannot be released as they are (the model cannot take them, or they have no key)"
        console().print(f"{plural(selected.stubborn, 'row')} {why}: they pass only if corrected at the source")
    if selected.left:
        console().print(f"{plural(selected.left, 'row')} also failed other expectations and stay held")


def _mend(selected: "Selected", pipeline: str) -> str:
    """Say what makes rows of refused lines."""
    from penstock.interval import iso

    span = selected.lines_span
    if span is None:
        return f"Correct the file: the next run of `{pipeline}` reads it again"
    range_ = f"--start {iso(span.start)} --end {iso(span.end)}"
    return f"Correct the file, then `penstock run {pipeline} --restate {range_}`"


def _score(settings: "Settings", target: _Target, *, run: bool) -> None:
    from penstock.ledger.releases import pending_releases

    waiting = pending_releases(target.database, target.pipeline)
    if not waiting:
        return
    if not run or target.spec is None:
        rows = f"{plural(sum(waiting.values()), 'released row')} of {plural(len(waiting), 'interval')}"
        console().print(f"{rows}: the next run of `{target.pipeline}` scores them", markup=False)
        return
    from penstock.cli.run.command import run_pipeline

    raise typer.Exit(run_pipeline(target.named, settings, console(), mode="release").exit_code)
