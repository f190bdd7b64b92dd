"""W3: a batch from SQLite to SQLite."""

from benchmarks.batch import NUMBERS, SAMPLE, make_rows, numbers_work, register_model
from benchmarks.moving import create_table
from benchmarks.place import Place
from benchmarks.workload import FLOOR, PENSTOCK, PLAIN, Ratio, Work, Workload

WORKLOAD = Workload(
    name="W3",
    title="SQLite to SQLite, 20 doubles a row, 100 trees of depth 6, 8 expectations",
    rows=1_000_000,
    check_rows=200_000,
    kind="sqlite",
    candidates={
        PENSTOCK: "benchmarks.candidates.penstock_flow",
        PLAIN: "benchmarks.candidates.plain_flow",
        FLOOR: "benchmarks.candidates.floor",
    },
    ratios=(Ratio(PENSTOCK, FLOOR, 1.4), Ratio(PENSTOCK, PLAIN, 0.7)),
    agree=(PENSTOCK, PLAIN, FLOOR),
)


def fill(place: Place) -> None:
    rows = make_rows(max(place.rows, SAMPLE))
    create_table(place.shop, "orders", rows.slice(0, place.rows), "order_id")
    register_model(place, rows, NUMBERS)


def work(place: Place) -> Work:
    return numbers_work(place)
