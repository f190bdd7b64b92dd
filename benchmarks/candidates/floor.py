"""The floor: read, predict, append, one after the other, without orchestration, checks or retries."""

import pandas as pd
import pyarrow as pa
import xgboost as xgb

from benchmarks.moving import create_table, read_rows
from benchmarks.place import Place
from benchmarks.workload import FLOOR, Work, work_of

TABLE = "scores"


def ready(place: Place) -> None:
    import duckdb  # noqa: F401 # imported before the timed part


def run(place: Place) -> None:
    read_and_score(place, work_of(place), place.warehouses[FLOOR])


def read_and_score(place: Place, work: Work, warehouse: str) -> None:
    rows = read_rows(place.shop, work.select, pa.schema([(work.key, pa.int64())]))
    create_table(warehouse, TABLE, score_rows(place, work, rows), work.key)


def score_rows(place: Place, work: Work, rows: pa.Table) -> pa.Table:
    """Predict without checks. A category that the model does not know would raise an error."""
    booster = xgb.Booster(model_file=str(place.model_file))
    known = booster.get_categories(export_to_arrow=True).to_arrow() if work.categories else []
    categories = {name: pd.Index(values.to_pylist()) for name, values in known if values is not None}
    columns = {name: _read(rows[name], categories.get(name)) for name in work.features}
    scores = booster.inplace_predict(pd.DataFrame(columns, copy=False))
    return pa.table({work.key: rows[work.key], "score": pa.array(scores.astype("float64"))})


def _read(column: "pa.ChunkedArray", categories: "pd.Index | None") -> object:
    if categories is None:
        return column.to_numpy()
    codes = pa.compute.index_in(column, value_set=pa.array(categories)).fill_null(-1)
    return pd.Categorical.from_codes(codes.to_numpy(), categories=categories)
