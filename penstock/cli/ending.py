"""The end of a command: one line per error, the exit code, and no leftovers."""

import atexit
import os
import sys
import traceback
from types import TracebackType
from typing import Any

import typer
from typer.core import TyperGroup

from penstock.cli.output import error_console
from penstock.errors import PenstockError

VERBOSE = "penstock.verbose"
"""Key for `--verbose` in the command's context."""


class CommandGroup(TyperGroup):
    """The commands. A Penstock error becomes one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PenstockError as error:
            if ctx.meta.get(VERBOSE) or _is_debugging():
                traceback.print_exception(error)
            print_error(str(error))
            raise typer.Exit(error.exit_code) from error


def print_error(message: str) -> None:
    """Print one error to stderr, in red."""
    error_console().print(f"Error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def print_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error: a fault of Penstock or of a library."""
    if _is_debugging():
        traceback.print_exception(kind, error, trace)
    lines = str(error).strip().splitlines()
    what = f"{kind.__name__}: {lines[0]}" if lines else kind.__name__
    print_error(f"{what}. This error is unexpected. Run again with PENSTOCK_DEBUG=1 and report the output.")


class QuietEnd:
    """Ends the process after the exit handlers, before the interpreter removes its modules.

    At that moment DuckDB's binding would write "nanobind: leaked …" to stderr, even with all connections closed, since
    other modules still refer to its types. And Prefect would wait a minute for a server that is gone, to send data that
    `prefect_api` has already tried to send.
    """

    def __init__(self) -> None:
        self._exit_code = 1
        atexit.register(self._end)  # registered first, so called last

    def leave(self, exit_code: int) -> None:
        """End the process here if a library that ends badly was imported. Otherwise return."""
        self._exit_code = exit_code
        if "prefect" in sys.modules:
            atexit._run_exitfuncs()

    def _end(self) -> None:
        if "prefect" not in sys.modules and "duckdb" not in sys.modules:
            return
        from penstock.cli.opening import close_databases

        close_databases()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self._exit_code)


def _is_debugging() -> bool:
    from penstock.settings import is_debugging

    return is_debugging()
