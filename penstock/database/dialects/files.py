"""Databases that are a file on this machine."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

NOT_A_PATH = (":memory:", "file:", "md:")
"""How the names of databases begin that are no path: in memory, a URI, a service."""


def make_folder(_dialect: Any, _record: Any, arguments: Sequence[Any], options: dict[str, Any]) -> None:
    """Make the folder of a file when it is first opened, so that a connection that is never used leaves nothing."""
    name = str(arguments[0] if arguments else options.get("database", ""))
    if name and not name.startswith(NOT_A_PATH):
        with suppress(OSError):  # the driver says what is wrong with the path
            Path(name).parent.mkdir(parents=True, exist_ok=True)
