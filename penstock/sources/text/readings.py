"""Texts of a file in the messages that show how it can be read."""

import re
from collections.abc import Iterable


def show_fields(values: Iterable[str]) -> str:
    """Return the first values of a row for a message."""
    listed = [value if len(value) < 30 else f"{value[:29]}…" for value in values]
    more = f" and {len(listed) - 6} more" if len(listed) > 6 else ""
    return ", ".join(f"`{value}`" for value in listed[:6]) + more


def show(text: str) -> str:
    """Return a text as YAML takes it in a flow mapping."""
    if re.fullmatch(r"[A-Za-z][\w-]*", text) and text.lower() not in ("null", "true", "false"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'
