"""W6's floor: read, predict and append each interval separately."""

from datetime import timedelta

from benchmarks.candidates.floor import TABLE, ready, score_rows
from benchmarks.moving import append_rows, create_table, read_rows
from benchmarks.place import Place
from benchmarks.workload import FLOOR, work_of
from benchmarks.workloads.w6 import intervals

__all__ = ["ready", "run"]


def run(place: Place) -> None:
    work, hour = work_of(place), timedelta(hours=1)
    for number in range(intervals(place)):
        begin = work.start + number * hour
        rows = read_rows(place.shop, f"{work.select} where created_at >= '{begin}' and created_at < '{begin + hour}'")
        scores = score_rows(place, work, rows)
        if number == 0:
            create_table(place.warehouses[FLOOR], TABLE, scores, work.key)
        else:
            append_rows(place.warehouses[FLOOR], TABLE, scores)
