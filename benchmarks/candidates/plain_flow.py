"""A Prefect flow as people usually write it: pandas, Great Expectations on the frame, a `DMatrix`, `to_sql`.

Its table has no primary key (`to_sql` creates none), which makes it quicker.
"""

import great_expectations as gx
import pandas as pd
import sqlalchemy as sa
import xgboost as xgb
from prefect import flow, task

from benchmarks.place import Place
from benchmarks.workload import PLAIN, Work, work_of


@task(retries=3)
def extract(url: str, query: str) -> pd.DataFrame:
    with sa.create_engine(url).connect() as connection:
        return pd.read_sql(sa.text(query), connection)


@task
def validate(frame: pd.DataFrame, expectations: list[tuple[str, dict[str, object]]]) -> None:
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("orders")
    batch = asset.add_batch_definition_whole_dataframe("batch").get_batch({"dataframe": frame})
    suite = context.suites.add(gx.ExpectationSuite(name="orders"))
    for type_, arguments in expectations:
        suite.add_expectation(gx.expectations.registry.get_expectation_impl(type_)(**arguments))
    result = batch.validate(suite)
    if not result.success or len(result.results) != len(expectations):
        raise ValueError("validation failed")


@task
def score(frame: pd.DataFrame, work: Work, model_file: str) -> pd.DataFrame:
    booster = xgb.Booster(model_file=model_file)
    frame = frame.astype(dict.fromkeys(work.categories, "category"))
    rows = xgb.DMatrix(frame[list(work.features)], enable_categorical=True)
    return pd.DataFrame({work.key: frame[work.key], "score": booster.predict(rows)})


@task(retries=3)
def load(scores: pd.DataFrame, url: str) -> int:
    scores.to_sql("scores", sa.create_engine(url), if_exists="append", index=False, chunksize=10_000)
    return len(scores)


@flow(validate_parameters=False)
def score_orders(shop: str, warehouse: str, work: Work, model_file: str) -> int:
    frame = extract(shop, work.select)
    validate(frame, list(work.expectations))
    return load(score(frame, work, model_file), warehouse)


def run(place: Place) -> None:
    score_orders(place.shop, place.warehouses[PLAIN], work_of(place), str(place.model_file))
