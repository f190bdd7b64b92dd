"""The floor of W1: read, predict, append, one after the other; no orchestration, no checks, no second try."""

import sys

import pandas as pd
import pyarrow as pa
import xgboost as xgb
from adbc_driver_postgresql import dbapi

from benchmarks.candidate import timed
from benchmarks.place import Place, adbc_url
from benchmarks.w1 import work


def score(place: Place) -> None:
    with dbapi.connect(adbc_url(place.shop)) as connection, connection.cursor() as cursor:
        cursor.execute(f"select order_id, {', '.join(work.FEATURES)} from {work.TABLE}")
        rows = cursor.fetch_arrow_table()
    booster = xgb.Booster(model_file=str(place.models / work.MODEL / "1" / "model.ubj"))
    frame = pd.DataFrame({name: rows[name].to_numpy() for name in work.FEATURES}, copy=False)
    scores = pa.table({"order_id": rows["order_id"], "score": booster.inplace_predict(frame).astype("float64")})
    with dbapi.connect(adbc_url(place.warehouse)) as connection, connection.cursor() as cursor:
        cursor.execute(f"create table floor.{work.SCORES} (order_id bigint primary key, score double precision)")
        cursor.adbc_ingest(work.SCORES, scores, mode="append", db_schema_name="floor")
        connection.commit()


if __name__ == "__main__":
    place = Place.read(sys.argv[1])
    with timed():
        score(place)
