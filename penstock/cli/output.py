"""Output of commands: tables and lines for people, JSON for programs."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.console import Console

from penstock.wording import plural

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100
"""Width of a listing that goes to a file or a pipe."""
WHOLE = ("run", "interval", "state", "severity", "started", "registered", "digest")
"""Columns that are never wrapped."""


def program_name() -> str:
    """Return how this shell starts `penstock`: by its name, or by its path where that is not on PATH."""
    return "penstock" if shutil.which("penstock") else str(Path(sys.executable).with_name("penstock"))


def console() -> Console:
    """Return a console for the current stdout."""
    return _with_width(Console(highlight=False))


def error_console() -> Console:
    """Return a console for the current stderr."""
    return _with_width(Console(stderr=True, highlight=False))


def _with_width(made: Console) -> Console:
    if not made.is_terminal:
        made.width = max(made.width, WIDTH)
    return made


def write_json(value: Any) -> None:
    """Write a value to stdout: dataclasses as objects, times as ISO 8601 in UTC."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    from penstock.interval import iso

    if isinstance(value, datetime):
        return iso(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return str(value)


def make_table(*columns: str, right: Sequence[str] = (), title: str | None = None) -> "Table":
    """Return an empty table. The columns in `right` are for numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.pad_edge = table.show_edge = False
    for name in columns:
        side: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, justify=side, overflow="fold", no_wrap=name in WHOLE or side == "right")
    return table


def count(value: int | None) -> str:
    """Write a number of rows, or a dash if it is unknown."""
    return "–" if value is None else f"{value:,}"


def describe_cut(shown: int, whole: int, noun: str, which: str = "the first", more: str = "") -> str:
    """Say how much of a list is printed, and how to see the rest.

    Args:
        more: The command that shows the rest. Empty: the same one with a larger `--limit`.
    """
    if shown >= whole:
        return f"all {plural(whole, noun)}"
    return f"{shown:,} of {plural(whole, noun)}, {which}; {more or f'`--limit {whole}` shows all'}"


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def short(identifier: str) -> str:
    """Shorten an id to the part that is enough to type."""
    return identifier[:8]
