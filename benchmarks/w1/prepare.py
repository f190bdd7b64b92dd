"""Fill the source and register the model; a process of its own, so that its memory is nobody's."""

import sys
from datetime import timedelta

import numpy as np
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from benchmarks.place import Place, adbc_url
from benchmarks.w1 import work
from models.registry import Registry
from models.training import train

_SAMPLE = 50_000


def make_rows(rows: int) -> pa.Table:
    """Return the source's rows: normal numbers, spread over one day in the order of the key."""
    rng = np.random.default_rng(1)
    micros = np.linspace(0, timedelta(days=1) / timedelta(microseconds=1), rows, endpoint=False).astype(
        "timedelta64[us]"
    )
    created = np.datetime64(work.START.replace(tzinfo=None), "us") + micros
    return pa.table(
        {
            "order_id": pa.array(np.arange(1, rows + 1)),
            "created_at": pa.array(created).cast(pa.timestamp("us", "UTC")),
            **{name: pa.array(rng.standard_normal(rows)) for name in work.FEATURES},
        }
    )


def fill_source(place: Place, rows: pa.Table) -> None:
    """Write the rows the way a database holds them: with a primary key, and analyzed."""
    with dbapi.connect(adbc_url(place.shop), autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(work.TABLE, rows, mode="create")
        cursor.execute(f"ALTER TABLE {work.TABLE} ADD PRIMARY KEY (order_id)")
        cursor.execute(f"VACUUM ANALYZE {work.TABLE}")


def register_model(place: Place, rows: pa.Table) -> None:
    """Train on a sample and register the model as champion."""
    sample = rows.slice(0, _SAMPLE).select(list(work.FEATURES))
    signal = sample["f00"].to_numpy() * sample["f01"].to_numpy() + sample["f02"].to_numpy()
    noise = np.random.default_rng(2).standard_normal(sample.num_rows)
    labelled = sample.append_column("label", pa.array((signal + noise > 0).astype(np.int64)))
    trained = train(labelled, "label", rounds=work.TREES, holdout=0, params={"max_depth": work.DEPTH})
    trained.register(Registry(place.models), work.MODEL, alias="champion")


def main(file: str) -> None:
    place = Place.read(file)
    rows = make_rows(max(place.rows, _SAMPLE))
    fill_source(place, rows.slice(0, place.rows))
    register_model(place, rows)


if __name__ == "__main__":
    main(sys.argv[1])
