"""W9: CSV files read in many partitions, compared with one partition."""

from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from benchmarks.batch import NUMBERS, SAMPLE, make_rows, register_model
from benchmarks.place import Place
from benchmarks.workload import FLOOR, PENSTOCK, START, Ratio, Work, Workload

ONE = "one-partition"
PARTITIONS = 21
FILES = 3
FEATURES = NUMBERS[:10]

WORKLOAD = Workload(
    name="W9",
    title=f"CSV files of 10 doubles a row in {PARTITIONS} partitions, to SQLite; *{ONE}* reads them in one",
    rows=101_503,
    check_rows=101_503,
    kind="sqlite",
    candidates={
        PENSTOCK: "benchmarks.candidates.penstock_slices",
        ONE: "benchmarks.candidates.penstock_slices_one",
        FLOOR: "benchmarks.candidates.floor_csv",
    },
    ratios=(
        Ratio(PENSTOCK, ONE, 1.3, figure="reading_cpu_seconds"),
        Ratio(PENSTOCK, ONE),
        Ratio(PENSTOCK, FLOOR),
        Ratio(ONE, FLOOR),
    ),
    left_out="*reading* stages the files and reads all partitions once more, before the time begins.",
    agree=(PENSTOCK, ONE, FLOOR),
)


def fill(place: Place) -> None:
    rows = make_rows(max(place.rows, SAMPLE), FEATURES)
    times = pa.compute.strftime(rows["created_at"], format="%Y-%m-%dT%H:%M:%SZ")
    texts = rows.set_column(rows.schema.get_field_index("created_at"), "created_at", times)
    size = -(-place.rows // FILES)
    for number in range(FILES):
        part = texts.slice(number * size, min(size, place.rows - number * size))
        csv.write_csv(part, Path(place.folder) / f"orders-{number}.csv")
    register_model(place, rows, FEATURES)


def work(place: Place) -> Work:
    return in_partitions(place, PARTITIONS)


def in_partitions(place: Place, partitions: int) -> Work:
    """Return the work, cut into so many partitions."""
    files = {"kind": "files", "path": f"{place.folder}/orders-*.csv", "format": "csv", "key": ["order_id"]}
    return Work(
        spec={
            "name": "orders",
            "interval": {"column": "created_at", "grain": "1d", "start": START.isoformat()},
            "sources": {"orders": files},
            "model": "w9@champion",
            "destination": {"connection": "warehouse", "table": "scores"},
            "partition_rows": -(-place.rows // partitions),
        },
        select="",
        features=FEATURES,
    )
