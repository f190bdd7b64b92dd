"""W6: many small intervals, compared with empty subflows that have the same tasks."""

from dataclasses import replace
from datetime import timedelta

from benchmarks.batch import NUMBERS, SAMPLE, make_rows, numbers_work, register_model
from benchmarks.moving import create_index, create_table
from benchmarks.place import Place
from benchmarks.workload import FLOOR, PENSTOCK, START, Beyond, Limit, Ratio, Work, Workload

EMPTY = "empty"
INTERVAL_ROWS = 200

WORKLOAD = Workload(
    name="W6",
    title=f"intervals of {INTERVAL_ROWS} rows, Postgres to Postgres; *empty* runs as many subflows of empty tasks",
    rows=150 * INTERVAL_ROWS,
    check_rows=15 * INTERVAL_ROWS,
    kind="postgresql",
    candidates={
        PENSTOCK: "benchmarks.candidates.penstock_flow",
        EMPTY: "benchmarks.candidates.empty_flow",
        FLOOR: "benchmarks.candidates.floor_by_interval",
    },
    ratios=(Ratio(PENSTOCK, EMPTY), Ratio(PENSTOCK, FLOOR, figure="cpu_seconds")),
    limits=(Limit(PENSTOCK, "cpu_seconds", "CPU s an interval", at_most=0.10, per_rows=INTERVAL_ROWS),),
    beyond=Beyond(PENSTOCK, EMPTY, INTERVAL_ROWS, at_most_ms=120),
    agree=(PENSTOCK, FLOOR),
)


def intervals(place: Place) -> int:
    return max(place.rows // INTERVAL_ROWS, 1)


def fill(place: Place) -> None:
    rows = make_rows(place.rows, span=timedelta(hours=intervals(place)))
    create_table(place.shop, "orders", rows, "order_id", analyze=True)
    create_index(place.shop, "orders", "created_at")
    register_model(place, make_rows(SAMPLE), NUMBERS)


def work(place: Place) -> Work:
    whole = numbers_work(place)
    interval = {"column": "created_at", "grain": "1h", "start": START.isoformat(), "max_intervals": 10_000}
    return replace(whole, spec=whole.spec | {"interval": interval}, end=START + timedelta(hours=intervals(place)))
