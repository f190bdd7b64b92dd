"""Penstock with one challenger, which scores every row beside the champion and loads its scores too."""

from benchmarks.candidates import penstock_flow
from benchmarks.candidates.penstock_flow import run
from benchmarks.place import Place
from benchmarks.workload import work_of

__all__ = ["ready", "run"]


def ready(place: Place) -> None:
    penstock_flow.ready(place)
    challengers = [{"model": f"{place.workload.lower()}@challenger"}]
    penstock_flow.write_spec(place, work_of(place).spec | {"challengers": challengers})
