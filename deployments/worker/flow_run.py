"""Run a flow run in this process: load Penstock's flows fast, then start Prefect's engine."""

import atexit
import gc
import logging
import os
import runpy
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from prefect.settings.models.logging import LoggingSettings

UNEXPECTED = "Engine execution exited with unexpected exception"
"""What Prefect logs, with a traceback, for every flow run that did not complete."""


@dataclass(frozen=True)
class _Logging:
    settings: "LoggingSettings"
    levels: tuple[str, str]
    variables: dict[str, str]


def is_unexpected(record: logging.LogRecord) -> bool:
    """Whether to log a record of a flow run. The end of a run by our own decision is not unexpected.

    Prefect raises such an end as our error or, if the state has no error, as its own `FailedRun` or `CancelledRun`.
    """
    if record.msg != UNEXPECTED or not record.exc_info:
        return True
    from prefect.exceptions import CancelledRun, FailedRun

    from penstock.errors import PenstockError

    return not isinstance(record.exc_info[1], PenstockError | FailedRun | CancelledRun)


def load() -> None:
    """Import the modules of a run without garbage collection, which takes a sixth of the import time."""
    gc.disable()
    import prefect.flow_engine  # noqa: F401 # needed by the engine

    import penstock.flows.score  # noqa: F401 # needed to load the flow
    from penstock.deployments.worker.tls_context import share_tls_contexts

    share_tls_contexts()
    gc.freeze()  # imported modules stay, so later collections need not look at them
    gc.enable()


def end(exit_code: int) -> NoReturn:
    """End the process after its exit handlers, which send Prefect's remaining records.

    A normal exit would also unload DuckDB's binding, which fills the worker's log with "nanobind: leaked …".
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def renew_settings(before: Mapping[str, str]) -> None:
    """Read Prefect's settings anew. A fork has another environment than the process that imported Prefect.

    Args:
        before: The environment of that process.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    was = _describe_logging(before)
    refresh_global_settings_context()
    now = _describe_logging(os.environ)
    if now != was or now.settings.config_path.exists():  # a file of a person's own may use any setting
        setup_logging()


def _describe_logging(environment: Mapping[str, str]) -> "_Logging":
    """Return all that Prefect's own logging configuration depends on."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    variables = {name: value for name, value in environment.items() if name.startswith("PREFECT_LOGGING_")}
    levels = settings.internal.logging_level, settings.server.logging_level
    return _Logging(settings.logging, levels, variables)


def run_engine() -> NoReturn:
    """Run the flow run that the environment names with Prefect's own engine, and end the process."""
    logging.getLogger("prefect.flow_runs").addFilter(is_unexpected)
    warnings.filterwarnings("ignore", message="'prefect.engine' found in sys.modules", category=RuntimeWarning)
    try:
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
    except SystemExit as exited:
        end(exited.code if isinstance(exited.code, int) else int(exited.code is not None))
    end(0)
