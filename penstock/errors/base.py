"""The roots of the tree of errors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar


def nearest(word: str, known: Sequence[str]) -> str:
    """Say which known word was probably meant, or list the known ones. Empty when there are none."""
    if not known:
        return ""
    by_folded = {name.casefold(): name for name in known}
    matches = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    if matches:
        return f" Did you mean `{by_folded[matches[0]]}`?"
    shown = ", ".join(f"`{name}`" for name in sorted(known)[:12])
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return f" Known: {shown}{more}."


@dataclass(eq=False)
class PenstockError(Exception):
    """Base of all errors that Penstock raises on purpose.

    Cause: one of the classes below.
    Remedy: read the message. It says what happened, where, and what to do next. `exit_code` is the exit code of the
        command.
    """

    exit_code: ClassVar[int] = 1

    def message(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        return self.message()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))


class TransientError(PenstockError):
    """The same call may succeed later.

    Cause: something outside Penstock is not available at the moment.
    Remedy: none at first: a task retries it with growing pauses. If the error stays, follow the message.
    """


class TerminalError(PenstockError):
    """The same call fails again, so nothing retries it.

    Cause: the spec, the data, a model or the environment is wrong.
    Remedy: follow the message, then run again.
    """


class UsageError(TerminalError):
    """The spec, a setting or an argument is wrong.

    Cause: a mistake in what the user wrote. No run was started.
    Remedy: correct the spec, the setting or the argument.
    """

    exit_code: ClassVar[int] = 2
