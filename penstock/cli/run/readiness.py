"""Check sources and models before a run starts anything."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.database.connections import Connector
    from penstock.interval import DataInterval
    from penstock.run_types import Pins
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


def ensure_ready(
    pipeline: "Pipeline",
    settings: "Settings",
    interval: "DataInterval | None",
    pins: "Pins",
    connect: "Connector",
) -> None:
    """Raise early what a run would raise later, after retries and with a started server.

    Raises:
        SourceError: a table, a column or a file is missing.
        DatabaseUnavailable: a database does not answer.
        ModelRefused: the model's bytes are not those that were registered.
    """
    from penstock.cli.check.source import inspect_source
    from penstock.cli.opening import open_models

    for name in pipeline.sources:
        inspect_source(pipeline, name, interval, connect)
    for pin in pins.values():
        open_models(settings).load(pin)


@contextmanager
def load_while_waiting(pipeline: "Pipeline") -> Iterator[Callable[[], None]]:
    """Load Great Expectations while a server starts, if the pipeline needs it.

    Call the yielded function before importing anything else.
    """
    from penstock.quality import load_engine, needs_great_expectations

    if not needs_great_expectations(pipeline):
        yield lambda: None
        return
    # Two threads that import at once can see half-loaded modules, so the caller waits for this thread.
    thread = threading.Thread(target=load_engine, name="load great expectations", daemon=True)
    thread.start()
    yield thread.join
