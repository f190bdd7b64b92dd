"""W1: a batch from Postgres to Postgres."""

from benchmarks.batch import NUMBERS, SAMPLE, make_rows, numbers_work, register_model
from benchmarks.moving import create_table
from benchmarks.place import Place
from benchmarks.workload import FLOOR, PENSTOCK, PLAIN, Ratio, Work, Workload

DASK, DLT, RAY = "dask", "dlt", "ray-data"
DRIFT, CHALLENGER = "penstock-drift", "penstock-drift-challenger"

WORKLOAD = Workload(
    name="W1",
    title="Postgres to Postgres, 20 doubles a row, 100 trees of depth 6, 8 expectations",
    rows=1_000_000,
    check_rows=300_000,
    kind="postgresql",
    candidates={
        PENSTOCK: "benchmarks.candidates.penstock_flow",
        DRIFT: "benchmarks.candidates.penstock_drift",
        PLAIN: "benchmarks.candidates.plain_flow",
        DASK: "benchmarks.candidates.dask_frame",
        DLT: "benchmarks.candidates.dlt_script",
        RAY: "benchmarks.candidates.ray_data",
        FLOOR: "benchmarks.candidates.floor",
        CHALLENGER: "benchmarks.candidates.penstock_challenger",
    },
    ratios=(
        Ratio(PENSTOCK, FLOOR, 1.3),
        Ratio(PENSTOCK, FLOOR, figure="cpu_seconds"),
        Ratio(DRIFT, PENSTOCK, 1.04, figure="cpu_seconds"),
        Ratio(PENSTOCK, PLAIN, 1 / 9),
        Ratio(PENSTOCK, DASK),
        Ratio(PENSTOCK, DLT),
        Ratio(PENSTOCK, RAY),
        Ratio(CHALLENGER, PENSTOCK, 1.3, figure="cpu_seconds"),
    ),
    agree=(PENSTOCK, DRIFT, PLAIN, DASK, DLT, RAY, FLOOR),
)


def fill(place: Place) -> None:
    rows = make_rows(max(place.rows, SAMPLE))
    create_table(place.shop, "orders", rows.slice(0, place.rows), "order_id", analyze=True)
    register_model(place, rows, NUMBERS, ("champion", "challenger"))


def work(place: Place) -> Work:
    return numbers_work(place)
