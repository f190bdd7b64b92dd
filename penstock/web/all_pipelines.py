"""Read something of all pipelines, and say which ones it lacks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from penstock.database.connections import Database
from penstock.errors import DatabaseLocked, PenstockError, SpecError
from penstock.spec.pipeline import Pipeline
from penstock.web.context import WebContext

T = TypeVar("T")


@dataclass(frozen=True)
class ReadPipelines(Generic[T]):
    """What was read, and what a page must say is missing from it."""

    rows: list[T] = field(default_factory=list)
    broken: list[SpecError] = field(default_factory=list)
    """Files that do not load."""
    unread: list[tuple[str, str]] = field(default_factory=list)
    """Pipelines whose ledger cannot be read, and why."""


def read_all(context: WebContext, read: Callable[[Database, Pipeline], T]) -> ReadPipelines[T]:
    """Read something of each pipeline, by name. Each warehouse is opened once.

    Raises:
        DatabaseLocked: another process has a warehouse's file open. It can be read some seconds later.
    """
    sound, broken = context.load_all()
    found: dict[str, T] = {}
    unread: list[tuple[str, str]] = []
    for connection in dict.fromkeys(pipeline.destination.connection for pipeline in sound):
        mine = [pipeline for pipeline in sound if pipeline.destination.connection == connection]
        try:
            with context.open(connection) as database:
                for pipeline in mine:
                    found[pipeline.name] = read(database, pipeline)
        except DatabaseLocked:
            raise
        except PenstockError as error:
            unread += [(pipeline.name, str(error)) for pipeline in mine if pipeline.name not in found]
    return ReadPipelines([found[name] for name in sorted(found)], broken, unread)
