"""Penstock on a tenth of W2's rows."""

from benchmarks.candidates import penstock_flow
from benchmarks.candidates.penstock_flow import run
from benchmarks.place import Place
from benchmarks.workloads import w2

__all__ = ["ready", "run"]


def ready(place: Place) -> None:
    penstock_flow.ready(place)
    penstock_flow.write_spec(place, w2.tenth(place).spec)
