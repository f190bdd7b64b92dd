"""The challengers of a command: the model versions that score beside the champion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.run_types.scoring_run import LeftOut, ModelPin
from penstock.spec.steps import Challenger, ModelRef

SHADOW = "shadow:"
"""How the variants of challengers' runs begin: `shadow:<model>/<version>`."""


@dataclass(frozen=True)
class PinnedChallenger:
    """A challenger's version, resolved once for a command."""

    pin: ModelPin
    share: float = 1.0
    """Share of the rows that it scores."""

    @property
    def variant(self) -> str:
        """The variant of its runs."""
        return f"{SHADOW}{self.pin}"


@dataclass(frozen=True)
class Challengers:
    """The challengers of a command."""

    pinned: tuple[PinnedChallenger, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


NO_CHALLENGERS = Challengers()


def pin_challengers(
    wanted: Sequence[Challenger], champion: ModelPin, resolve: Callable[[ModelRef], ModelPin]
) -> Challengers:
    """Pin a version of each challenger. One that cannot be found, or that adds nothing, is left out.

    Args:
        champion: the version that readers see.
        resolve: looks a version up.
    """
    pinned: list[PinnedChallenger] = []
    left_out: list[LeftOut] = []
    for each in wanted:
        try:
            pin = resolve(each.model)
        except Exception as error:  # noqa: BLE001 # whatever it is, the champion is scored without this challenger
            why = str(error) if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
            left_out.append(LeftOut(str(each.model), why, failed=True))
            continue
        if pin == champion:
            left_out.append(LeftOut(str(each.model), f"it is {pin}, the champion's version", failed=False))
        elif any(pin == other.pin for other in pinned):
            left_out.append(LeftOut(str(each.model), f"it is {pin}, as another challenger", failed=False))
        else:
            pinned.append(PinnedChallenger(pin, each.share))
    return Challengers(tuple(pinned), tuple(left_out))
