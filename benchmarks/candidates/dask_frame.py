"""Dask on W1's work: `read_sql_table`, `map_partitions`, `to_sql`, on a local cluster of two processes.

It reads in partitions along the primary key, as Dask's documentation says, and writes them at the same time, with
pandas' documented way to use Postgres' `COPY`. There are no checks and no primary key.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from benchmarks.place import Place
from benchmarks.workload import work_of

DASK = "dask"
PARTITIONS = 8


def ready(place: Place) -> None:
    """Start the workers, and import the libraries there."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    Client(cluster).run(import_libraries)


def import_libraries() -> None:
    import dask.dataframe  # noqa: F401 # imported before the timed part
    import psycopg  # noqa: F401 # imported before the timed part
    import xgboost  # noqa: F401 # imported before the timed part


def run(place: Place) -> None:
    import dask.dataframe as dd

    work = work_of(place)
    rows = dd.read_sql_table("orders", place.shop, work.key, npartitions=PARTITIONS, columns=list(work.features))
    meta = pd.DataFrame({"score": pd.Series(dtype="float64")}, index=pd.Index([], dtype="int64", name=work.key))
    scores = rows.map_partitions(score_rows, str(place.model_file), meta=meta)
    scores.to_sql("scores", place.warehouses[DASK], if_exists="append", parallel=True, method=copy_rows)


def stop() -> None:
    from distributed import default_client

    client = default_client()
    client.close()
    client.cluster.close()


def score_rows(frame: pd.DataFrame, model_file: str) -> pd.DataFrame:
    import xgboost as xgb

    booster = xgb.Booster({"nthread": 1}, model_file=model_file)
    return pd.DataFrame({"score": booster.inplace_predict(frame).astype("float64")}, index=frame.index)


def copy_rows(table: Any, connection: Any, columns: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert with `COPY`: the parameter `method` of pandas' `to_sql`."""
    names = ", ".join(f'"{name}"' for name in columns)
    with connection.connection.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
