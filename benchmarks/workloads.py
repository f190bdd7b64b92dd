"""The workloads that can be measured; a new one is a package with its candidates and a line here."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.place import Place
from benchmarks.w1 import check as w1


@dataclass(frozen=True)
class Workload:
    """A piece of work and who does it."""

    title: str
    prepare: str
    """Module that fills the source and registers the model."""
    candidates: dict[str, str]
    """Name and module, in the order in which they take turns."""
    empty_destination: Callable[[Place, str], None]
    check: Callable[[Place], float]
    """Raises where the candidates did not write the same; returns the largest difference of scores."""


WORKLOADS = {
    "W1": Workload(
        title="Postgres to Postgres, 20 doubles a row, 100 trees of depth 6, 8 expectations",
        prepare="benchmarks.w1.prepare",
        candidates={
            "penstock": "benchmarks.w1.penstock_flow",
            "plain": "benchmarks.w1.plain_flow",
            "floor": "benchmarks.w1.floor",
        },
        empty_destination=w1.empty_destination,
        check=w1.check_scores,
    )
}
