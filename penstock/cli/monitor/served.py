"""`penstock monitor served`: recorded rows are scored again, and must come out as they were served."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from penstock.cli.arguments import AsJson, PipelineName, read_moment
from penstock.cli.opening import connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, write_json

Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=read_moment,
        metavar="TIME",
        help="Rows that were recorded since then: a date or an ISO time, in the pipeline's zone. Default: a day ago.",
    ),
]


def check_served(pipeline: PipelineName, since: Since = None, as_json: AsJson = False) -> None:
    """Score recorded rows again as a run does, with the models that scored them, and compare to the bit.

    Scores from recorded features must be equal. Features that are made again must be equal where the rows of the other
    sources are those of then. Otherwise the exit code is 1. Recorded rows of intervals that have ended are judged as
    the audit of a run judges its rows, and what is found is stored with their runs. The spool of this machine is taken
    in first.
    """
    from penstock.interval import as_utc
    from penstock.serving.rescored import judge_ended_grains, rescore

    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    now = datetime.now(UTC)
    begin = now - timedelta(days=1) if since is None else as_utc(since, spec.timezone)
    connect, models = connector(settings), open_models(settings)
    found = rescore(spec, settings, connect, models, begin, now)
    judged = judge_ended_grains(spec, settings, connect, models, begin, now)
    if as_json:
        write_json(asdict(found) | {"judged": [asdict(each) for each in judged]})
    else:
        for line in (*found.describe(), *(each.text for each in judged)):
            console().print(f"{spec.name}: {line}", markup=False, soft_wrap=True)
    found.refuse_difference(spec.name)
