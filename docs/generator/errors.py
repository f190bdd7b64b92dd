"""The page of errors, from the classes of `penstock.errors` and their docstrings."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from penstock import errors

_HEAD = """# Errors

Penstock raises these errors on purpose. Each message says what happened, where, and what to do next. A command prints
the message after `Error:` and ends with the exit code of the class. Set `PENSTOCK_DEBUG=1` to see the traceback too. An
error that is not on this page is a bug of Penstock or of a library: please report it.

Prefect tasks retry a `TransientError` with growing pauses, most of them four times. They never retry another class.
"""


@dataclass(frozen=True)
class ErrorEntry:
    """What the page says about one class."""

    kind: type[errors.PenstockError]
    summary: str
    cause: str
    remedy: str

    @property
    def is_retried(self) -> bool:
        return issubclass(self.kind, errors.TransientError)


def read_entry(kind: type[errors.PenstockError]) -> ErrorEntry:
    """Read a class's docstring: a summary, `Cause:` and `Remedy:`.

    Raises:
        ValueError: the docstring has not these three parts.
    """
    text = " ".join(inspect.cleandoc(vars(kind).get("__doc__") or "").split())
    match = re.fullmatch(r"(?P<summary>.+?) Cause: (?P<cause>.+) Remedy: (?P<remedy>.+)", text)
    if match is None:
        raise ValueError(f"the docstring of {kind.__name__} needs a summary, `Cause:` and `Remedy:`")
    return ErrorEntry(kind, match["summary"], _capitalized(match["cause"]), _capitalized(match["remedy"]))


def walk_tree(
    kind: type[errors.PenstockError] = errors.PenstockError,
) -> Iterator[tuple[type[errors.PenstockError], int]]:
    """Yield every class with its depth, parents before children, in the order of the modules."""
    yield kind, len(kind.__mro__) - len(errors.PenstockError.__mro__)
    for child in kind.__subclasses__():
        if child.__module__.startswith(f"{errors.__name__}."):
            yield from walk_tree(child)


def render_errors() -> str:
    """Return the page."""
    tree = "\n".join([errors.PenstockError.__name__, *_draw_tree(errors.PenstockError)])
    sections = [_render_entry(read_entry(kind)) for kind, _ in walk_tree()]
    return "\n".join([_HEAD, f"```text\n{tree}\n```\n", *sections])


def _draw_tree(kind: type[errors.PenstockError], margin: str = "") -> Iterator[str]:
    children = [child for child, _ in walk_tree(kind) if child.__bases__[0] is kind]
    for child in children:
        last = child is children[-1]
        yield f"{margin}{'└── ' if last else '├── '}{child.__name__}"
        yield from _draw_tree(child, margin + ("    " if last else "│   "))


def _render_entry(entry: ErrorEntry) -> str:
    parent = entry.kind.__bases__[0]
    under = f"under [`{parent.__name__}`](#{parent.__name__.lower()}), " if parent is not Exception else ""
    retried = "retried" if entry.is_retried else "not retried"
    return (
        f"## `{entry.kind.__name__}`\n\n{entry.summary}\n\n"
        f"- **Cause:** {entry.cause}\n- **Remedy:** {entry.remedy}\n"
        f"- **Handling:** {under}{retried}, exit code {entry.kind.exit_code}\n"
    )


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
