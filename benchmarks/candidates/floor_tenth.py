"""The floor on a tenth of W2's rows."""

from benchmarks.candidates.floor import read_and_score, ready
from benchmarks.place import Place
from benchmarks.workloads import w2

__all__ = ["ready", "run"]


def run(place: Place) -> None:
    read_and_score(place, w2.tenth(place), place.warehouses[w2.FLOOR_TENTH])
