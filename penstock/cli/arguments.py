"""Arguments and options that several commands share."""

from datetime import datetime
from typing import Annotated

import typer

from penstock.interval import parse_moment


def read_moment(text: str) -> datetime:
    """Read an option's date or time. A value without a zone is in the pipeline's time zone."""
    try:
        return parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_timezone(text: str) -> str:
    """Read the name of a time zone."""
    from penstock.timezones import check_timezone

    try:
        return check_timezone(text.strip())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


PipelineName = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="Name in the pipelines folder, or path of a YAML file.")
]
OptionalPipeline = Annotated[
    str | None, typer.Argument(metavar="[PIPELINE]", help="Name or YAML file of a pipeline. Default: all.")
]
RunIds = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN_ID]...", help="IDs, or the first characters of each.")
]
InTable = Annotated[str | None, typer.Option("--table", help="With --pipeline: only runs in this destination table.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what readers would see change.")]
Why = Annotated[str, typer.Option("--reason", help="Why. It is recorded with the runs.")]
By = Annotated[str | None, typer.Option("--by", help="Who decided. Default: your user name.")]
RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="Id of a run, or its beginning.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout instead of a table.")]
Timezone = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        parser=parse_timezone,
        metavar="NAME",
        help="Time zone of the printed times, as in Europe/Paris. Default: PENSTOCK_TIMEZONE, else UTC.",
    ),
]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows, newest first.")]
Start = Annotated[
    datetime | None,
    typer.Option(
        parser=read_moment,
        metavar="TIME",
        help="Start of the range: a date or an ISO time, in the pipeline's zone.",
    ),
]
End = Annotated[
    datetime | None,
    typer.Option(parser=read_moment, metavar="TIME", help="End of the range, in the pipeline's zone, not included."),
]
Restate = Annotated[bool, typer.Option("--restate", help="Score the range again, including published intervals.")]
ScoredBy = Annotated[
    str | None,
    typer.Option(
        "--scored-by",
        metavar="NAME/VERSION",
        help="With --restate: only intervals that this model version scored. The range may be left out then.",
    ),
]
Sandbox = Annotated[
    str | None,
    typer.Option(
        "--sandbox",
        metavar="NAME",
        help="Score into the sandbox of this name, beside what readers see. PIPELINE may be a changed file. "
        "Without a range: the newest interval.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="name@alias or name@version instead of the spec's; for steps: step=name@version, separated by commas.",
    ),
]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")]
