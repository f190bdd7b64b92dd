"""Penstock on W9, in one partition."""

from benchmarks.candidates import penstock_slices
from benchmarks.candidates.penstock_slices import run
from benchmarks.place import Place
from benchmarks.workloads import w9

__all__ = ["ready", "run"]


def ready(place: Place) -> None:
    penstock_slices.prepare(place, w9.in_partitions(place, 1))
