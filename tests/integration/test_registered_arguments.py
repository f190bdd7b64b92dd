"""What a model needs outside its file is honoured in runs: one model, steps, `check` and the Python face."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from typer.testing import CliRunner

from penstock import Project
from penstock.cli.app import app
from penstock.models.registry import Registry
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.shop import SPEC, START, Place, payments

STEPS = """models:
  - {name: first, model: risk-first@champion}
  - name: second
    model: risk-offset@champion
    inputs: {log_items: first_score}
"""


def predict(booster: xgb.Booster, rows: pa.Table, margin: np.ndarray) -> np.ndarray:
    """What the training code would say: 3 means missing, and its own link."""
    matrix = xgb.DMatrix(rows.select(["amount", "items"]).to_pandas(), missing=3, base_margin=margin)
    margins = booster.predict(matrix, output_margin=True, iteration_range=(0, 4)).astype(float)
    return np.asarray(1 / (1 + np.exp(-margins)))


def objective(margins: np.ndarray, matrix: xgb.DMatrix) -> tuple[np.ndarray, np.ndarray]:
    share = 1 / (1 + np.exp(-margins))
    return share - matrix.get_label(), share * (1 - share)


def register_offset(registry: Registry, place: Place) -> xgb.Booster:
    """Train with a missing value, a base margin and a custom objective, and register with expected outputs."""
    rows = payments(days=2, a_day=200, seed=99)
    margin = np.log(rows["items"].to_numpy())
    frame = rows.select(["amount", "items"]).to_pandas()
    label = (rows["amount"].to_numpy() > 25).astype(float)
    booster = xgb.train(
        {"seed": 1}, xgb.DMatrix(frame, label, missing=3, base_margin=margin), 6, obj=objective, verbose_eval=False
    )
    file = place.folder / "offset.ubj"
    booster.save_model(file)
    reference = rows.append_column("log_items", pa.array(margin))
    registry.register(
        "risk-offset",
        file,
        reference.append_column("said", pa.array(predict(booster, rows, margin))),
        "champion",
        missing=3,
        base_margin=["log_items"],
        link="sigmoid",
        iterations=4,
        expected="said",
    )
    return booster


@pytest.mark.parametrize("warehouse", DIALECTS)
def test_a_run_scores_as_the_training_code(warehouse: str, make_place: Callable[..., Place]) -> None:
    place = make_place(warehouse=warehouse, days=1, a_day=100)
    booster = register_offset(place.registry, place)
    features = "features: select *, ln(items) as log_items from payments\nmodel: risk-offset@champion"
    text = SPEC.replace("model: card-risk@champion", features)
    place.spec.write_text(text)

    checked = CliRunner().invoke(app, ["check", str(place.spec)])
    project, pipeline = Project(), parse_pipeline(text.encode(), "x")
    [planned] = project.plan(pipeline, "restate", START, START + timedelta(days=1)).intervals
    result = project.score_interval(pipeline, planned)

    assert checked.exit_code == 0, checked.stdout
    rows = payments(days=1, a_day=100)
    wanted = predict(booster, rows, np.log(rows["items"].to_numpy()))
    np.testing.assert_allclose(result.to_arrow()["score"].to_numpy(), wanted, rtol=1e-6)
    assert (rows["items"].to_numpy() == 3).any()


def test_a_step_takes_its_base_margin_from_an_earlier_step(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1, a_day=100)
    booster = register_offset(place.registry, place)
    train = payments(days=2, a_day=200, seed=98).select(["amount", "items"])
    matrix = xgb.DMatrix(train.to_pandas(), train["items"].to_numpy() * 1.1)
    first = xgb.train({"seed": 2}, matrix, 3)
    first.save_model(place.folder / "first.ubj")
    place.registry.register("risk-first", place.folder / "first.ubj", train, "champion")
    pipeline = parse_pipeline(SPEC.replace("model: card-risk@champion\n", STEPS).encode(), "x")

    project = Project()
    [planned] = project.plan(pipeline, "restate", START, START + timedelta(days=1)).intervals
    scores = project.score_interval(pipeline, planned).to_arrow()

    rows = payments(days=1, a_day=100)
    margin = first.predict(xgb.DMatrix(rows.select(["amount", "items"]).to_pandas()))
    np.testing.assert_allclose(scores["second_score"].to_numpy(), predict(booster, rows, margin), rtol=1e-6)


def test_a_run_without_the_base_margin_fails_by_name(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1, a_day=100)
    register_offset(place.registry, place)
    place.spec.write_text(SPEC.replace("card-risk@champion", "risk-offset@champion"))

    checked = CliRunner().invoke(app, ["check", str(place.spec)])

    assert checked.exit_code == 1
    assert "`log_items`" in checked.stdout
