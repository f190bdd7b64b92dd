"""W5: wide rows with numbers, categories and texts, Postgres to Postgres."""

import numpy as np
import pyarrow as pa

from benchmarks.batch import SAMPLE, make_rows, register_model
from benchmarks.moving import create_table
from benchmarks.place import Place
from benchmarks.workload import FLOOR, PENSTOCK, PLAIN, START, Ratio, Work, Workload

DOUBLES = tuple(f"f{number:03d}" for number in range(208))
COUNTS = tuple(f"n{number:02d}" for number in range(40))
CATEGORIES = tuple(f"c{number:02d}" for number in range(30))
TEXTS = tuple(f"t{number:02d}" for number in range(20))
"""With the key and the event time there are 300 columns. The texts are validated, but are not features."""
FEATURES = DOUBLES + COUNTS + CATEGORIES
VALUES = 25

ROW_EXPECTATIONS = (
    ("expect_column_values_to_not_be_null", {"column": "f000"}),
    ("expect_column_values_to_be_between", {"column": "n00", "min_value": 0, "max_value": 1000}),
    ("expect_column_values_to_be_in_set", {"column": "c00", "value_set": [f"value {n}" for n in range(VALUES)]}),
    ("expect_column_values_to_match_regex", {"column": "t00", "regex": r"^ref-\d+$"}),
)
WHOLE_EXPECTATIONS = (("expect_column_mean_to_be_between", {"column": "f001", "min_value": -1, "max_value": 1}),)

WORKLOAD = Workload(
    name="W5",
    title="300 columns (208 doubles, 40 integers, 30 categories, 20 texts), Postgres to Postgres, 5 expectations",
    rows=200_000,
    check_rows=40_000,
    kind="postgresql",
    candidates={
        PENSTOCK: "benchmarks.candidates.penstock_flow",
        PLAIN: "benchmarks.candidates.plain_flow",
        FLOOR: "benchmarks.candidates.floor",
    },
    ratios=(Ratio(PENSTOCK, FLOOR, 1.5), Ratio(PENSTOCK, PLAIN)),
    agree=(PENSTOCK, PLAIN, FLOOR),
)


def fill(place: Place) -> None:
    rng = np.random.default_rng(4)
    count = max(place.rows, SAMPLE)
    rows = make_rows(count, DOUBLES)
    values = pa.array([f"value {number}" for number in range(VALUES)])
    for name in COUNTS:
        rows = rows.append_column(name, pa.array(rng.integers(0, 1000, count)))
    for name in CATEGORIES:
        rows = rows.append_column(name, values.take(rng.integers(0, VALUES, count)))
    for name in TEXTS:
        rows = rows.append_column(name, pa.array([f"ref-{number}" for number in rng.integers(0, 10**9, count)]))
    create_table(place.shop, "orders", rows.slice(0, place.rows), "order_id", analyze=True)
    register_model(place, rows, FEATURES)


def work(place: Place) -> Work:
    rows = [{"type": type_, "severity": "warning", **arguments} for type_, arguments in ROW_EXPECTATIONS]
    return Work(
        spec={
            "name": "orders",
            "interval": {"column": "created_at", "grain": "1d", "start": START.isoformat()},
            "sources": {"orders": {"kind": "sql", "connection": "shop", "table": "orders", "key": ["order_id"]}},
            "expectations": {"orders": rows + [{"type": t, **arguments} for t, arguments in WHOLE_EXPECTATIONS]},
            "model": "w5@champion",
            "destination": {"connection": "warehouse", "table": "scores"},
        },
        select=f"select order_id, {', '.join(FEATURES + TEXTS)} from orders",
        features=FEATURES,
        categories=CATEGORIES,
        expectations=ROW_EXPECTATIONS + WHOLE_EXPECTATIONS,
    )
