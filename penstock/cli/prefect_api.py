"""The Prefect API of a command: the configured one, or that of a local server."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.settings import Settings

DRAIN_SECONDS = 5.0
ANSWER_SECONDS = 5.0
_own: list[str] = []


@contextmanager
def prefect_api(settings: "Settings", *, verbose: bool = False) -> Iterator[str]:
    """Yield the URL of a Prefect API: the one in the environment, or that of a local server that runs meanwhile.

    The environment is set before Prefect is imported, and restored afterwards. A nested use in this process finds the
    outer server in the environment.
    """
    from penstock.settings import prefect_api_url

    named = prefect_api_url()
    if named is not None:
        with prefect_console(verbose=verbose), _quiet_handlers(verbose), _flushed_to_prefect():
            yield named
        return
    from penstock.deployments.server.local import client_environment, local_server

    with local_server(settings.home, linger_seconds=settings.linger_seconds) as server:
        if not server.linger_seconds:
            _own.append(server.api_url)
        try:
            with (
                _environment(client_environment(server.api_url, patient=server.full)),
                prefect_console(verbose=verbose),
                _quiet_handlers(verbose),
                _flushed_to_prefect(),
            ):
                yield server.api_url
        finally:
            if not server.linger_seconds:
                _own.remove(server.api_url)


@contextmanager
def prefect_console(*, verbose: bool = False) -> Iterator[None]:
    """Set how much Prefect prints. It reads this when it is imported.

    Prefect prints a traceback for every failed task. A command prints its errors itself, one line each.
    """
    levels = ("INFO", "ERROR") if verbose else ("CRITICAL", "CRITICAL")
    names = ("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "PREFECT_LOGGING_INTERNAL_LEVEL")
    with _environment(dict(zip(names, levels, strict=True))):
        yield


@contextmanager
def found_server(settings: "Settings", *, small: bool = False) -> Iterator[str | None]:
    """Yield the URL of a Prefect server that answers, or None. No server is started.

    Args:
        small: Also take the server of a `penstock run` that is going on. It has no deployments.
    """
    from penstock.deployments.server.local import running_server
    from penstock.settings import prefect_api_url

    named = prefect_api_url()
    own = None if named else running_server(settings.home)
    if (named is None and (own is None or not (own.full or small))) or (named and not _answers(named)):
        yield None
        return
    with prefect_api(settings) as api_url:
        yield api_url


def _answers(api_url: str) -> bool:
    """Whether a server is there, whatever it answers."""
    import httpx

    try:
        httpx.get(f"{api_url.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except httpx.HTTPError:
        return False
    return True


def is_own(api_url: str) -> bool:
    """Whether the server ends with its last command, so that a command must wait for its history."""
    return api_url in _own


@contextmanager
def _flushed_to_prefect() -> Iterator[None]:
    """Send the pending events and logs of Prefect's client while the server is there, even after Ctrl-C."""
    try:
        yield
    finally:
        if "prefect" in sys.modules:
            from prefect.events.worker import EventsWorker
            from prefect.logging.handlers import APILogWorker

            EventsWorker.drain_all(timeout=DRAIN_SECONDS, at_exit=False)
            APILogWorker.drain_all(timeout=DRAIN_SECONDS, at_exit=False)


@contextmanager
def _quiet_handlers(verbose: bool) -> Iterator[None]:
    """Stop the handler that sends logs to the API from reporting failures on stderr."""
    before = logging.raiseExceptions
    logging.raiseExceptions = verbose
    try:
        yield
    finally:
        logging.raiseExceptions = before


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
