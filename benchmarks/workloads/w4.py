"""W4: Parquet files joined with a DuckDB table, into DuckDB."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.batch import SAMPLE, make_rows, register_model, spell_expectations
from benchmarks.moving import create_table
from benchmarks.place import Place
from benchmarks.workload import FLOOR, PENSTOCK, START, Ratio, Work, Workload

PYSPARK = "pyspark"
CUSTOMERS = 10_000
FILES, ORDERS = 5, "orders-*.parquet"
ORDER = tuple(f"f{number:02d}" for number in range(8))
CUSTOMER = ("age_days", "spent")
_COLUMNS = ", ".join(f"o.{name}" for name in ORDER) + ", " + ", ".join(f"c.{name}" for name in CUSTOMER)

WORKLOAD = Workload(
    name="W4",
    title="Parquet files joined with a DuckDB table of 10,000 customers, to DuckDB, 8 + 2 features",
    rows=5_000_000,
    check_rows=1_000_000,
    kind="duckdb",
    candidates={
        PENSTOCK: "benchmarks.candidates.penstock_flow",
        PYSPARK: "benchmarks.candidates.pyspark_job",
        FLOOR: "benchmarks.candidates.floor",
    },
    ratios=(
        Ratio(PENSTOCK, FLOOR, 1.5),
        Ratio(PENSTOCK, FLOOR, figure="cpu_seconds"),
        Ratio(PENSTOCK, PYSPARK),
    ),
    left_out="The plain flow inserts row by row into DuckDB, which takes hours.",
    agree=(PENSTOCK, PYSPARK, FLOOR),
)


def fill(place: Place) -> None:
    rng = np.random.default_rng(3)
    rows = make_rows(max(place.rows, SAMPLE), ORDER)
    rows = rows.append_column("customer_id", pa.array(rng.integers(0, CUSTOMERS, rows.num_rows)))
    customers = pa.table(
        {
            "customer_id": pa.array(np.arange(CUSTOMERS)),
            "age_days": pa.array(rng.integers(0, 3000, CUSTOMERS).astype(np.float64)),
            "spent": pa.array(rng.exponential(100.0, CUSTOMERS)),
        }
    )
    create_table(place.shop, "customers", customers, "customer_id")
    size = -(-place.rows // FILES)
    for number in range(FILES):
        part = rows.slice(number * size, min(size, place.rows - number * size))
        pq.write_table(part, Path(place.folder) / f"orders-{number}.parquet")
    sample = rows.slice(0, SAMPLE).join(customers, "customer_id").sort_by("order_id")
    register_model(place, sample, ORDER + CUSTOMER)


def work(place: Place) -> Work:
    files = f"{place.folder}/{ORDERS}"
    joined = "left join customers c using (customer_id)"
    return Work(
        spec={
            "name": "orders",
            "interval": {"column": "created_at", "grain": "1d", "start": START.isoformat()},
            "sources": {
                "orders": {"kind": "files", "path": files, "format": "parquet", "key": ["order_id"]},
                "customers": {"kind": "sql", "connection": "shop", "table": "customers", "key": ["customer_id"]},
            },
            "features": f"select o.order_id, {_COLUMNS} from orders o {joined}",
            "expectations": spell_expectations("orders"),
            "model": "w4@champion",
            "destination": {"connection": "warehouse", "table": "scores"},
        },
        select=f"select o.order_id, {_COLUMNS} from read_parquet('{files}') o {joined}",
        features=ORDER + CUSTOMER,
    )
