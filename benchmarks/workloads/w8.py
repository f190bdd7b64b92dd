"""W8: plans over a ledger of very many published intervals, of which none is due."""

from datetime import timedelta

from benchmarks.place import Place
from benchmarks.workload import FLOOR, PENSTOCK, START, Ratio, Work, Workload

GRAIN = timedelta(minutes=15)
PLANS = 5

WORKLOAD = Workload(
    name="W8",
    title=f"{PLANS} plans over a ledger of as many published intervals on SQLite; *floor* counts them {PLANS} times",
    rows=350_000,
    check_rows=35_000,
    kind="sqlite",
    candidates={
        PENSTOCK: "benchmarks.candidates.penstock_plan",
        FLOOR: "benchmarks.candidates.count_runs",
    },
    ratios=(Ratio(PENSTOCK, FLOOR, figure="cpu_seconds"),),
    left_out="Their rows are intervals, and they score nothing.",
)


def fill(place: Place) -> None:
    """Write the ledger into the source: a candidate's own destination is emptied before each round."""
    from benchmarks.candidates.penstock_plan import open_ledger, pipeline_of
    from tests.large_ledger import fill_ledger

    fill_ledger(open_ledger(place), pipeline_of(place), place.rows, parts=False)


def work(place: Place) -> Work:
    return Work(
        spec={
            "name": "orders",
            "interval": {"column": "created_at", "grain": "15m", "start": START.isoformat()},
            "sources": {"orders": {"kind": "sql", "connection": "shop", "table": "orders", "key": ["order_id"]}},
            "model": "w8@champion",
            "destination": {"connection": "warehouse", "table": "scores"},
        },
        select="",
        features=(),
        end=START + place.rows * GRAIN,
    )
