"""What deploying changed on a Prefect server, or would change."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Change:
    """One object on the server, and what happened to it."""

    kind: Literal["created", "updated", "removed", "unchanged"]
    what: str
    """As in `deployment score/card-risk`, `automation card-risk: on halt`, `work pool penstock`."""
    details: tuple[str, ...] = ()
    """One line a field that differs: `cron: 0 2 * * * → 15 2 * * *`."""
