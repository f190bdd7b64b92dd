"""How a command ends: one line for an error, its exit code, and nothing left behind."""

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
"""Key of the command's context under which `--verbose` is remembered."""


class CommandGroup(TyperGroup):
    """The commands; an error that Penstock raises on purpose becomes one line and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PenstockError as error:
            if ctx.meta.get(VERBOSE) or _is_debugging():
                traceback.print_exception(error)
            tell_error(str(error))
            raise typer.Exit(error.exit_code) from error


def tell_error(message: str) -> None:
    """Write one error to stderr, in red."""
    error_console().print(f"Error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def tell_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write what nobody foresaw: a fault of Penstock, or of what it builds on."""
    if _is_debugging():
        traceback.print_exception(kind, error, trace)
    lines = str(error).strip().splitlines()
    what = f"{kind.__name__}: {lines[0]}" if lines else kind.__name__
    tell_error(f"{what}. This was not foreseen: run again with PENSTOCK_DEBUG=1, and report what it prints.")


class QuietEnd:
    """Ends the process after the exit handlers, before the interpreter takes its modules down.

    DuckDB's binding writes "nanobind: leaked …" to stderr in that last moment, also when every connection is closed:
    other modules still refer to its types. And Prefect waits a minute then for a server that is gone, to send what
    `prefect_api` has tried to send already.
    """

    def __init__(self) -> None:
        self._exit_code = 1
        atexit.register(self._end)  # registered first, so called last

    def leave(self, exit_code: int) -> None:
        """End the process here if a library that ends badly was imported; else come back, and it ends as usual."""
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
