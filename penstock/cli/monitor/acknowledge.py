"""`penstock monitor acknowledge`: a person knows of an alarm of drift, so no more messages are sent about it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from penstock.cli.arguments import By, PipelineName
from penstock.cli.opening import open_ledger, open_settings
from penstock.cli.output import console
from penstock.cli.user_name import find_user_name

Columns = Annotated[
    list[str] | None, typer.Argument(metavar="[COLUMN]...", help="Columns with an alarm. Default: all of them.")
]
LONGEST_NOTE = 500


def read_duration(text: str) -> timedelta:
    """Read how long, such as `7d`."""
    from penstock.interval import parse_duration

    try:
        found = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if found <= timedelta(0):
        raise typer.BadParameter("must be more than nothing")
    return found


def read_note(text: str) -> str:
    """Read a note as one line."""
    line = " ".join(text.split())
    if len(line) > LONGEST_NOTE:
        raise typer.BadParameter(f"write at most {LONGEST_NOTE} characters")
    return line


def acknowledge_drift(
    pipeline: PipelineName,
    columns: Columns = None,
    snooze: Annotated[
        timedelta | None,
        typer.Option(
            parser=read_duration,
            metavar="DURATION",
            help="Only for so long, as in 7d. The first run with the alarm after that sends the message again.",
        ),
    ] = None,
    note: Annotated[
        str, typer.Option(parser=read_note, metavar="TEXT", help="What is known. Shown with the alarm.")
    ] = "",
    by: By = None,
) -> None:
    """Acknowledge alarms of drift: no more messages about them until the column is back.

    A critical alarm still halts each run. `penstock accept` publishes a halted one.
    """
    from penstock.ledger.drift_answers import answer_alarms
    from penstock.report.drift import describe_answer
    from penstock.run_types import interval_label

    settings, now = open_settings(), datetime.now(UTC)
    database, name = open_ledger(settings, pipeline)
    until = None if snooze is None else now + snooze
    answered = answer_alarms(database, name or pipeline, columns or (), by or find_user_name(), note, now, until)
    for each in answered:
        assert each.answer is not None
        since = f"`{each.column}` ({each.severity} since {interval_label(each.interval)})"
        told = f"{since}: {describe_answer(each.answer, settings.timezone)}"
        console().print(told, markup=False, soft_wrap=True)
