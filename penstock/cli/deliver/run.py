"""`penstock deliver run`: deliver the interval of one run now."""

from typing import Annotated

import typer

from penstock.cli.arguments import RunId
from penstock.cli.deliver.targets import value_reader
from penstock.cli.opening import locate_run, open_pipeline, open_settings
from penstock.cli.output import console
from penstock.errors import DeliveryFailed, NoTarget


def deliver_run(
    run_id: RunId,
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="Only this target of `deliver`. Default: all.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Send all rows of the run, also those that the target has.")
    ] = False,
) -> None:
    """Deliver the interval of a run now: what is live there, as far as the targets do not have it.

    The interval of a run that was withdrawn or replaced is delivered too, as it is now.
    """
    from penstock.delivery.opening import deliver_to_each

    settings = open_settings()
    database, run = locate_run(settings, run_id)
    pipeline = open_pipeline(run.pipeline, settings)
    if not pipeline.deliver:
        raise NoTarget(pipeline.name, "", ())
    failures = []
    for found in deliver_to_each(database, pipeline, value_reader(settings), settings, target, run, again=again):
        if isinstance(found, str):
            failures.append(found)
        else:
            console().print(found.describe(), markup=False, soft_wrap=True)
            failures += [f"`{found.target}` {each}" for each in found.failures]
    if failures:
        raise DeliveryFailed(pipeline.name, tuple(failures))
