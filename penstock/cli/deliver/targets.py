"""Deliver from a command, and say how it went."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from penstock.cli.opening import connector, open_pipeline
from penstock.cli.output import console, error_console
from penstock.errors import NoTarget, NotLive, PenstockError

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.delivery.deliver import Delivered
    from penstock.ledger.reader import RunRecord
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


def deliver_pipeline(
    settings: "Settings",
    database: "Database",
    pipeline: "Pipeline",
    target: str | None = None,
    run: "RunRecord | None" = None,
    *,
    again: bool = False,
) -> "Iterator[Delivered | str]":
    """Deliver to the targets of a pipeline, one after another. Yield what was done, or why nothing was.

    Args:
        target: Only this one.
        run: Only the interval of this run.
        again: All rows of the run.

    Raises:
        NoTarget: the spec has no such target.
        NotLive: `again`, and the run is not live.
    """
    from penstock.delivery.opening import deliver_to
    from penstock.privacy.masking import make_masking

    read_value = connector(settings).read_value
    assert read_value is not None  # a command's connector has it
    given = (read_value, make_masking(pipeline, settings), settings.statement_seconds)
    for name in [target] if target else [each.name for each in pipeline.deliver]:
        try:
            yield deliver_to(database, pipeline, name, *given, run, again=again)
        except (NoTarget, NotLive):
            raise
        except PenstockError as error:
            yield f"`{name}`: {error}"


def deliver_moves(settings: "Settings", moved: "Iterable[tuple[Database, str]]") -> None:
    """Deliver what a command has moved. A target that does not get it is left to the next run.

    Args:
        moved: Warehouses, each with the name of a pipeline whose live runs have changed there.
    """
    for database, name in {(each.name, name): (each, name) for each, name in moved}.values():
        try:
            deliver_now(settings, database, open_pipeline(name, settings))
        except PenstockError as error:  # its file may be gone
            error_console().print(f"nothing of `{name}` is delivered: {error}", style="yellow", markup=False)


def deliver_now(settings: "Settings", database: "Database", pipeline: "Pipeline") -> None:
    """Deliver to all targets of a pipeline, and say how it went. One that fails is left to the next run."""
    for found in deliver_pipeline(settings, database, pipeline):
        if isinstance(found, str) or not found.is_complete:
            told = found if isinstance(found, str) else found.describe()
            error_console().print(f"{told}; the next run tries again", style="yellow", markup=False)
        elif found.intervals:
            console().print(found.describe(), markup=False, soft_wrap=True)
