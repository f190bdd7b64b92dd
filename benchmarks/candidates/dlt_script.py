"""dlt and XGBoost on W1's work: `sql_table` reads the orders, and a transformer scores and loads them.

The settings are those that dlt's documentation gives for big tables on Postgres: ConnectorX reads Arrow tables, and
Parquet files are loaded with ADBC. To load the orders too, and to read them back, took 2.5 times the processor time.
There are no checks and no primary key.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from urllib.parse import quote

import pyarrow as pa

from benchmarks.place import Place
from benchmarks.workload import work_of

DLT = "dlt"
BATCH = 100_000


def ready(place: Place) -> None:
    import connectorx  # noqa: F401 # imported before the timed part
    import dlt.destinations.impl.postgres.postgres
    import dlt.sources.sql_database  # noqa: F401 # imported before the timed part
    import xgboost  # noqa: F401 # imported before the timed part

    folder = Path(place.folder) / DLT
    rmtree(folder, ignore_errors=True)  # it knows the tables of the last round
    os.environ["DLT_DATA_DIR"] = str(folder)


def run(place: Place) -> None:
    import dlt
    import sqlalchemy as sa
    import xgboost as xgb
    from dlt.sources.sql_database import sql_table

    work = work_of(place)
    orders = sql_table(
        sa.create_engine(place.shop),
        "orders",
        backend="connectorx",
        backend_kwargs={"conn": _libpq_url(place.shop), "return_type": "arrow_stream", "batch_size": BATCH},
        reflection_level="full_with_precision",
        included_columns=[work.key, *work.features],
    )
    booster = xgb.Booster(model_file=str(place.model_file))

    @dlt.transformer(data_from=orders, name="scores", write_disposition="append")
    def score(rows: pa.Table) -> Iterator[pa.Table]:
        scores = booster.inplace_predict(rows.select(list(work.features)).to_pandas())
        yield pa.table({work.key: rows[work.key], "score": pa.array(scores.astype("float64"))})

    pipeline = dlt.pipeline(
        "scores",
        destination=dlt.destinations.postgres(_libpq_url(place.warehouses[DLT])),
        dataset_name="public",
        pipelines_dir=os.environ["DLT_DATA_DIR"],
    )
    pipeline.run(score, loader_file_format="parquet")


def _libpq_url(url: str) -> str:
    """Return the URL with a socket's folder as its host, where dlt wants it, and not among the parameters."""
    import sqlalchemy as sa

    whole = sa.make_url(url)
    host = quote(str(whole.query.get("host", whole.host)), safe="")
    moved = whole.set(drivername="postgresql", host="HOST", query={}).render_as_string(hide_password=False)
    return moved.replace("HOST", host, 1)
