"""`penstock models import-sklearn` on the command line, and a run with what it wrote."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
import xgboost as xgb
from typer.testing import CliRunner

from penstock.cli.app import app
from tests.shop import Place

pytest.importorskip("skops", reason="the extra `sklearn` is not installed")

from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skops import io as skops_io  # after the check that it is there

SPEC = """
name: people
sources:
  people: {kind: files, path: people/*.csv, format: csv, key: [person]}
features: |
%s
model: people@champion
destination: {connection: warehouse, table: people_scores}
"""


@pytest.fixture
def place(make_place: Callable[..., Place], prefect_api: str) -> Place:
    return make_place(a_day=60)


def make_people(folder: Path) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    people = pd.DataFrame(
        {
            "person": range(1, 301),
            "age": rng.integers(18, 90, 300).astype(float),
            "income": rng.lognormal(8, 1, 300).round(2),
            "city": rng.choice(["Köln", "NA", "O'Hare"], 300),
        }
    )
    people.loc[::8, "age"] = np.nan
    (folder / "people").mkdir()
    people.to_csv(folder / "people/day.csv", index=False)
    return people


def fit(people: pd.DataFrame) -> Pipeline:
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    prepare = make_column_transformer((numbers, ["age", "income"]), (OneHotEncoder(handle_unknown="ignore"), ["city"]))
    label = (people["age"].fillna(60) + people["income"] / 100 + 20 * (people["city"] == "NA") > 80).astype(int)
    return make_pipeline(prepare, xgb.XGBClassifier(n_estimators=8, max_depth=4, n_jobs=1)).fit(people, label)


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return f"{done.exit_code}\n{done.output}"


def test_a_run_scores_with_the_written_query_as_the_pipeline_does(place: Place) -> None:
    people = make_people(place.folder)
    pipeline = fit(people)
    skops_io.dump(pipeline, place.folder / "people.skops")

    said = invoke(
        "models", "import-sklearn", "people", "people.skops", "--rows", "people/day.csv", "--source", "people",
        "--key", "person", "--alias", "champion",
    )  # fmt: skip
    assert said.startswith("0\nregistered people/1"), said
    assert "verified: 300 rows have the features and outputs of the Pipeline" in said
    query = (place.folder / "people.features.sql").read_text(encoding="utf-8")
    (place.folder / "people.yaml").write_text(SPEC % textwrap.indent(query, "  "), encoding="utf-8")
    ended = invoke("run", "people.yaml")

    assert ended.startswith("0\n"), ended
    with place.warehouse.engine.connect() as connection:
        scores = connection.execute(sa.text("select person, score from people_scores order by person")).all()
    assert [person for person, _ in scores] == list(range(1, 301))
    np.testing.assert_allclose([s for _, s in scores], pipeline.predict_proba(people)[:, 1], rtol=1e-6)


def test_a_file_that_exists_is_not_overwritten(place: Place) -> None:
    people = make_people(place.folder)
    skops_io.dump(fit(people), place.folder / "people.skops")
    (place.folder / "mine.sql").write_text("select 1")

    said = invoke(
        "models", "import-sklearn", "people", "people.skops", "--rows", "people/day.csv", "--source", "people",
        "--output", "mine.sql",
    )  # fmt: skip

    assert said.startswith("2\n")
    assert (place.folder / "mine.sql").read_text() == "select 1"
    assert "people" not in place.registry.names()
