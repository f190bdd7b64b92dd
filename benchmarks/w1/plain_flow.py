"""W1 as people write it in Prefect: pandas, Great Expectations on the frame, a `DMatrix`, `to_sql`.

Its table has no primary key (`to_sql` makes none), which is to its advantage.
"""

import sys

import great_expectations as gx
import pandas as pd
import sqlalchemy as sa
import xgboost as xgb
from prefect import flow, task

from benchmarks.candidate import timed
from benchmarks.place import Place
from benchmarks.w1 import work


@task(retries=3)
def extract(url: str) -> pd.DataFrame:
    query = sa.text(f"select * from {work.TABLE} where created_at >= :start and created_at < :end")
    with sa.create_engine(url).connect() as connection:
        return pd.read_sql(query, connection, params={"start": work.START, "end": work.END})


@task
def validate(frame: pd.DataFrame) -> None:
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("orders")
    batch = asset.add_batch_definition_whole_dataframe("batch").get_batch({"dataframe": frame})
    suite = context.suites.add(gx.ExpectationSuite(name="orders"))
    for type_, arguments in work.EXPECTATIONS:
        suite.add_expectation(gx.expectations.registry.get_expectation_impl(type_)(**arguments))
    result = batch.validate(suite)
    if not result.success or len(result.results) != len(work.EXPECTATIONS):
        raise ValueError("validation failed")


@task
def score(frame: pd.DataFrame, model_file: str) -> pd.DataFrame:
    booster = xgb.Booster(model_file=model_file)
    probabilities = booster.predict(xgb.DMatrix(frame[list(work.FEATURES)]))
    return pd.DataFrame({"order_id": frame["order_id"], "score": probabilities})


@task(retries=3)
def load(scores: pd.DataFrame, url: str) -> int:
    scores.to_sql(work.SCORES, sa.create_engine(url), schema="plain", if_exists="append", index=False, chunksize=10_000)
    return len(scores)


@flow
def score_orders(shop: str, warehouse: str, model_file: str) -> int:
    frame = extract(shop)
    validate(frame)
    return load(score(frame, model_file), warehouse)


if __name__ == "__main__":
    place = Place.read(sys.argv[1])
    file = str(place.models / work.MODEL / "1" / "model.ubj")
    with timed():
        score_orders(place.shop, place.warehouse, file)
