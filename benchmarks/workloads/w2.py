"""W2: W1 with ten times the rows, compared with a tenth of them. Time should grow with the rows, memory not."""

from benchmarks.batch import NUMBERS, SAMPLE, make_rows, numbers_work, register_model
from benchmarks.moving import create_table
from benchmarks.place import Place
from benchmarks.workload import FLOOR, PENSTOCK, Growth, Limit, Ratio, Work, Workload

TENTH, FLOOR_TENTH = "a-tenth", "floor-tenth"

WORKLOAD = Workload(
    name="W2",
    title="W1 with ten times the rows, compared with a tenth of them",
    rows=10_000_000,
    check_rows=2_000_000,
    kind="postgresql",
    candidates={
        PENSTOCK: "benchmarks.candidates.penstock_flow",
        TENTH: "benchmarks.candidates.penstock_tenth",
        FLOOR: "benchmarks.candidates.floor",
        FLOOR_TENTH: "benchmarks.candidates.floor_tenth",
    },
    ratios=(Ratio(PENSTOCK, TENTH, 10.5), Ratio(PENSTOCK, TENTH, 1.1, "peak_mb"), Ratio(PENSTOCK, FLOOR)),
    growth=Growth(PENSTOCK, FLOOR, TENTH, FLOOR_TENTH, fixed=0.31, each=1.1),
    limits=(Limit(PENSTOCK, "peak_mb", "MB", at_most=1.2 * 1024),),
    left_out="The plain flow keeps all rows as Python objects, which needs more memory than the machine has.",
    rows_of={TENTH: 0.1, FLOOR_TENTH: 0.1},
    agree=(PENSTOCK, TENTH, FLOOR, FLOOR_TENTH),
)


def fill(place: Place) -> None:
    rows = make_rows(max(place.rows, SAMPLE))
    create_table(place.shop, "orders", rows.slice(0, place.rows), "order_id", analyze=True)
    create_table(place.shop, "orders_tenth", rows.slice(0, place.rows // 10), "order_id", analyze=True)
    register_model(place, rows, NUMBERS)


def work(place: Place) -> Work:
    return numbers_work(place)


def tenth(place: Place) -> Work:
    return numbers_work(place, "orders_tenth")
