"""PySpark on W4's work: Parquet files joined with the customers, a pandas UDF, and DuckDB.

Spark runs in this process's JVM with two cores. The customers come as an Arrow table and are broadcast. The UDF takes
an iterator of Arrow batches and loads the model once, as Spark's documentation says. Only one process can write a
DuckDB file, so Spark writes Parquet, which DuckDB reads. There are no checks.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pandas as pd

from benchmarks.place import Place
from benchmarks.workload import work_of
from benchmarks.workloads import w4

PYSPARK = "pyspark"
BATCH = 50_000


def ready(place: Place) -> None:
    """Start the JVM, and a Python worker for each core with its libraries."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .appName("scores")
        .config("spark.driver.memory", "6g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH))
        .config("spark.local.dir", place.folder)
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    session.range(2, numPartitions=2).mapInPandas(import_libraries, "id long").collect()


def import_libraries(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    import xgboost  # noqa: F401 # imported before the timed part

    yield from frames


def run(place: Place) -> None:
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import broadcast, pandas_udf

    session = SparkSession.builder.getOrCreate()
    work, model_file = work_of(place), str(place.model_file)
    features = list(work.features)
    scored = Path(place.folder) / "spark-scores"

    @pandas_udf("double")
    def score(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
        import xgboost as xgb

        booster = xgb.Booster({"nthread": 1}, model_file=model_file)
        for columns in batches:
            frame = pd.concat(columns, axis=1, keys=features)
            yield pd.Series(booster.inplace_predict(frame).astype("float64"))

    with duckdb.connect(place.shop.removeprefix("duckdb:///"), read_only=True) as shop:
        customers = session.createDataFrame(shop.sql("select * from customers").to_arrow_table())
    orders = session.read.parquet(f"{place.folder}/{w4.ORDERS}")
    joined = orders.join(broadcast(customers), "customer_id", "left")
    joined.select(work.key, score(*features).alias("score")).write.mode("overwrite").parquet(str(scored))
    with duckdb.connect(place.warehouses[PYSPARK].removeprefix("duckdb:///")) as warehouse:
        warehouse.execute(f"create table scores ({work.key} bigint primary key, score double)")
        warehouse.execute(f"insert into scores select * from read_parquet('{scored}/*.parquet')")


def stop() -> None:
    from pyspark.sql import SparkSession

    SparkSession.builder.getOrCreate().stop()
