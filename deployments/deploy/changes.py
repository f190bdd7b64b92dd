"""A change that a deploy made on a Prefect server, or would make."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Change:
    """The change of one object on the server."""

    kind: Literal["created", "updated", "removed", "unchanged"]
    what: str
    """The object, as in `deployment score/card-risk`, `automation card-risk: on halt`, `work pool penstock`."""
    details: tuple[str, ...] = ()
    """One line per changed field: `cron: 0 2 * * * → 15 2 * * *`."""
