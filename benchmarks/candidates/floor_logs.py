"""W7's floor: read the whole file, parse times and columns, append the lines, aggregate, predict."""

import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.candidates.floor import TABLE, ready, score_rows
from benchmarks.moving import create_table, read_rows
from benchmarks.place import Place
from benchmarks.workload import FLOOR, work_of
from benchmarks.workloads.w7 import AGGREGATES, LOG

__all__ = ["ready", "run"]

_LINE = r'^\S+ \S+ (?P<user>\S+) \[(?P<time>[^\]]+) \+0000\] "[^"]*" (?P<status>\d+) (?P<size>\d+) '
_AGGREGATED = ("user", "status", "size")


def run(place: Place) -> dict[str, float]:
    work, warehouse = work_of(place), place.warehouses[FLOOR]
    begun = time.perf_counter()
    content = (Path(place.folder) / LOG).read_bytes()
    lines = pa.array(content.decode().split("\n")[:-1])
    fields = pc.extract_regex(lines, pattern=_LINE)
    moment = pc.strptime(pc.struct_field(fields, "time"), format="%d/%b/%Y:%H:%M:%S", unit="us")
    offset = pa.array(np.arange(len(lines)))
    landed = {"offset": offset, "time": moment.cast(pa.timestamp("us", "UTC")), "line": lines}
    create_table(warehouse, "lines", pa.table(landed), "offset")
    seconds = time.perf_counter() - begun
    with duckdb.connect() as database:
        database.register("visits", pa.table({name: pc.struct_field(fields, name) for name in _AGGREGATED}))
        database.register("clients", read_rows(place.shop, work.select))
        rows = database.sql(
            f'with v as (select "user", {AGGREGATES} from (select "user", status::int as status, size::bigint as size '
            'from visits) group by "user") select c.order_id, f00, f01, f02, coalesce(visits, 0) as visits, '
            "coalesce(errors, 0) as errors, coalesce(bytes, 0)::bigint as bytes "
            'from clients c left join v on v."user" = c.login'
        ).to_arrow_table()
    create_table(warehouse, TABLE, score_rows(place, work, rows), work.key)
    return {"landing_seconds": seconds}
