"""Penstock with `drift:` on all columns and one challenger, which scores every row and loads its scores too."""

from benchmarks.candidates import penstock_drift, penstock_flow
from benchmarks.candidates.penstock_flow import run
from benchmarks.place import Place
from benchmarks.workload import work_of

__all__ = ["ready", "run"]


def ready(place: Place) -> None:
    penstock_drift.ready(place)
    challengers = [{"model": f"{place.workload.lower()}@challenger"}]
    penstock_flow.write_spec(place, work_of(place).spec | penstock_drift.DRIFT | {"challengers": challengers})
