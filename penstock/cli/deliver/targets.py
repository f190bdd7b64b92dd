"""Deliver from a command, and say how it went."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from penstock.cli.opening import connector, open_pipeline
from penstock.cli.output import console, error_console
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


def value_reader(settings: "Settings") -> "Callable[[str], str]":
    """Return what reads the value of a named connection."""
    read_value = connector(settings).read_value
    assert read_value is not None  # a command's connector has it
    return read_value


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
    from penstock.delivery.opening import deliver_live

    for note in deliver_live(database, pipeline, value_reader(settings), settings):
        if note.is_complete:
            console().print(note.text, markup=False, soft_wrap=True)
        else:
            error_console().print(note.text, style="yellow", markup=False)
