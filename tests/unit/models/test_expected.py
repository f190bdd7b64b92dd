"""What a model needs outside its file: the manifest has it, and outputs of the training code prove it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.booster import ModelVersion
from penstock.models.manifest import Manifest
from penstock.models.registry import Registry
from penstock.run_types import Misfit

Save = Callable[..., Path]
Fit = Callable[..., xgb.Booster]
AsFrame = Callable[[pa.Table], pd.DataFrame]
ROWS = 400


@pytest.fixture(scope="module")
def numbers() -> pa.Table:
    """Numbers with -999 for what is not known, an exposure and two margins."""
    rng = np.random.default_rng(6)
    income = rng.normal(2, 3, ROWS).round(3)
    income[::3] = -999
    return pa.table(
        {
            "income": income,
            "children": np.where(rng.random(ROWS) < 0.2, -999, rng.integers(0, 5, ROWS)),
            "log_exposure": rng.normal(0, 1, ROWS),
            "second": rng.normal(0, 1, ROWS),
            "third": rng.normal(0, 1, ROWS),
        }
    )


def frame_of(numbers: pa.Table) -> pd.DataFrame:
    return numbers.select(["income", "children"]).to_pandas()


def label(numbers: pa.Table) -> np.ndarray:
    income = numbers["income"].to_numpy()
    return (np.where(income == -999, 1.0, income) + np.random.default_rng(7).normal(size=ROWS) > 1).astype(float)


def logistic(margins: np.ndarray, matrix: xgb.DMatrix) -> tuple[np.ndarray, np.ndarray]:
    share = 1 / (1 + np.exp(-margins))
    return share - matrix.get_label(), share * (1 - share)


def softmax(margins: np.ndarray, matrix: xgb.DMatrix) -> tuple[np.ndarray, np.ndarray]:
    margins = margins.reshape(ROWS, 3)
    shares = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    hit = np.eye(3)[matrix.get_label().astype(int)]
    return shares - hit, np.maximum(2 * shares * (1 - shares), 1e-6)


def register(registry: Registry, file: Path, rows: pa.Table, **more: Any) -> ModelVersion:
    registry.register("risk", file, rows, "champion", **more)
    return registry.load(registry.resolve("risk@champion"))


def with_expected(rows: pa.Table, outputs: np.ndarray) -> pa.Table:
    return rows.append_column("predicted", pa.array(np.asarray(outputs, np.float64)))


# --- the missing value ---------------------------------------------------------------------------


def fit_missing(numbers: pa.Table, missing: float) -> tuple[xgb.Booster, np.ndarray]:
    """Train as `XGBClassifier(missing=…)` does, and return what it predicts."""
    matrix = xgb.DMatrix(frame_of(numbers), label(numbers), missing=missing)
    booster = xgb.train({"objective": "binary:logistic", "seed": 1}, matrix, 8)
    return booster, booster.predict(matrix)


@pytest.mark.parametrize("missing", [-999.0, 0.0, 3.0])
def test_the_missing_value_of_the_training_code_is_missing_in_every_row(
    registry: Registry, save: Save, numbers: pa.Table, missing: float
) -> None:
    booster, wanted = fit_missing(numbers, missing)

    model = register(registry, save(booster), with_expected(numbers, wanted), missing=missing, expected="predicted")

    assert (model.manifest.missing, model.manifest.verified_rows) == (missing, ROWS)
    np.testing.assert_array_equal(model.score(numbers)["score"].to_numpy(), wanted.astype(float))
    if missing == -999:
        nulls = pa.table(
            {n: pa.array(numbers[n].to_numpy(), mask=numbers[n].to_numpy() == -999) for n in numbers.column_names}
        )
        np.testing.assert_array_equal(model.score(nulls)["score"].to_numpy(), wanted.astype(float))
        assert model.manifest.reference["income"].null_share == pytest.approx(134 / ROWS)


def test_a_missing_value_that_was_not_given_is_found_by_the_expected_outputs(
    registry: Registry, save: Save, numbers: pa.Table
) -> None:
    booster, wanted = fit_missing(numbers, -999.0)

    with pytest.raises(ModelRefused, match=r"differ from the expected ones in \d+ of 400.*agree with `missing` -999"):
        registry.register("risk", save(booster), with_expected(numbers, wanted), expected="predicted")

    assert registry.names() == ()


@pytest.mark.parametrize("missing", [0.0, 1.0, 7.0])
def test_the_code_of_a_category_may_be_the_missing_value(registry: Registry, save: Save, missing: float) -> None:
    """With `missing=0` XGBoost also takes the first category for missing."""
    rng = np.random.default_rng(0)
    codes, size = rng.integers(-1, 10, ROWS), rng.normal(size=ROWS)
    names = [f"c{at}" for at in range(10)]
    frame = pd.DataFrame({"city": pd.Categorical.from_codes(codes, categories=names), "size": size})
    label = rng.normal(size=11)[codes] * 2 + size * (codes == missing)
    matrix = xgb.DMatrix(frame, label, missing=missing, enable_categorical=True)
    booster = xgb.train({"seed": 1, "max_depth": 4}, matrix, 8)
    city = pa.array([None if code < 0 else names[code] for code in codes])
    rows = pa.table({"city": city, "size": size})
    wanted = booster.predict(matrix)

    model = register(registry, save(booster), with_expected(rows, wanted), missing=missing, expected="predicted")

    np.testing.assert_array_equal(model.score(rows)["score"].to_numpy(), wanted.astype(float))


# --- the base margin -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gbtree", "dart", "gblinear"])
def test_a_base_margin_is_read_from_its_column(registry: Registry, save: Save, numbers: pa.Table, kind: str) -> None:
    margin = numbers["log_exposure"].to_numpy()
    matrix = xgb.DMatrix(frame_of(numbers) / 1000, label(numbers) * 4, base_margin=margin)
    rows = numbers.set_column(0, "income", pa.array(numbers["income"].to_numpy() / 1000))
    rows = rows.set_column(1, "children", pa.array(numbers["children"].to_numpy() / 1000))
    more = {"rate_drop": 0.3} if kind == "dart" else {}
    booster = xgb.train({"objective": "count:poisson", "booster": kind, "seed": 1} | more, matrix, 6)
    wanted = booster.predict(matrix)

    with pytest.raises(ModelRefused, match="differ from the expected ones"):
        registry.register("risk", save(booster), with_expected(rows, wanted), expected="predicted")
    model = register(
        registry, save(booster), with_expected(rows, wanted), base_margin=["log_exposure"], expected="predicted"
    )

    assert model.manifest.input_names == ("income", "children", "log_exposure")
    np.testing.assert_allclose(model.score(rows)["score"].to_numpy(), wanted, rtol=1e-6)


def test_a_row_without_a_base_margin_is_refused(registry: Registry, save: Save, numbers: pa.Table) -> None:
    matrix = xgb.DMatrix(frame_of(numbers), label(numbers), base_margin=numbers["log_exposure"].to_numpy())
    booster = xgb.train({"objective": "count:poisson"}, matrix, 4)
    model = register(registry, save(booster), numbers, base_margin=["log_exposure"])
    margins = numbers["log_exposure"].to_pylist()
    broken = numbers.set_column(2, "log_exposure", pa.array([None, float("nan"), float("inf"), *margins[3:]]))

    assert model.refused_rows(broken) == {
        0: (Misfit("log_exposure", "no base margin"),),
        1: (Misfit("log_exposure", "no base margin"),),
        2: (Misfit("log_exposure", "not finite"),),
    }
    with pytest.raises(ModelMismatch, match="`log_exposure`"):
        model.score(numbers.drop_columns(["log_exposure"]))
    with pytest.raises(ModelMismatch, match="`exposure`"):
        registry.register("risk", save(booster), numbers, base_margin=["exposure"])


def test_a_model_of_several_classes_has_a_margin_for_each(registry: Registry, save: Save, numbers: pa.Table) -> None:
    columns = ["log_exposure", "second", "third"]
    margins = np.column_stack([numbers[c].to_numpy() for c in columns])
    matrix = xgb.DMatrix(frame_of(numbers), np.arange(ROWS) % 3, base_margin=margins)
    booster = xgb.train({"objective": "multi:softprob", "num_class": 3}, matrix, 4)
    wanted = booster.predict(matrix)

    with pytest.raises(ModelRefused, match="1 column is given as its base margin, and it has 3 outputs"):
        registry.register("risk", save(booster), numbers, base_margin=["second"])
    model = register(
        registry,
        save(booster),
        numbers,
        base_margin=columns,
        classes=("a", "b", "c"),
        expected=pa.table({f"score_{c}": wanted[:, at] for c, at in (("b", 1), ("c", 2), ("a", 0))}),
    )

    np.testing.assert_array_equal(model.score(numbers)["score_c"].to_numpy(), wanted[:, 2].astype(float))


def test_a_feature_may_be_the_base_margin_too(registry: Registry, save: Save, numbers: pa.Table) -> None:
    margin = numbers["children"].to_numpy()
    matrix = xgb.DMatrix(frame_of(numbers), label(numbers), base_margin=margin, missing=-999)
    booster = xgb.train({"seed": 1}, matrix, 4)
    rows = with_expected(numbers, booster.predict(matrix))

    model = register(registry, save(booster), rows, base_margin=["children"], missing=-999, expected="predicted")

    assert model.manifest.verified_rows == ROWS
    assert model.manifest.input_names == ("income", "children")


# --- the link ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [{}, {"base_score": 0.0}])
def test_a_custom_objective_is_refused_until_its_link_is_given(
    registry: Registry, save: Save, numbers: pa.Table, start: dict[str, float]
) -> None:
    booster = xgb.train({"seed": 1} | start, xgb.DMatrix(frame_of(numbers), label(numbers)), 8, obj=logistic)
    margins = booster.predict(xgb.DMatrix(frame_of(numbers)))
    rows = with_expected(numbers, 1 / (1 + np.exp(-margins.astype(float))))

    with pytest.raises(ModelRefused, match="a custom objective may have trained it"):
        registry.register("risk", save(booster), numbers)
    with pytest.raises(ModelRefused, match="agree with `link` sigmoid"):
        registry.register("risk", save(booster), rows, expected="predicted")
    model = register(registry, save(booster), rows, link="sigmoid", expected="predicted")

    np.testing.assert_allclose(model.score(numbers)["score"].to_numpy(), rows["predicted"].to_numpy(), rtol=1e-12)


@pytest.mark.parametrize(("link", "make"), [("exp", np.exp), ("identity", np.asarray)])
def test_every_link_makes_outputs_of_margins(
    registry: Registry, save: Save, numbers: pa.Table, link: str, make: Callable[[np.ndarray], np.ndarray]
) -> None:
    matrix = xgb.DMatrix(frame_of(numbers), label(numbers))
    booster = xgb.train({"seed": 1, "objective": "binary:logistic"}, matrix, 8)

    model = register(registry, save(booster), numbers, link=link)

    wanted = make(booster.predict(matrix, output_margin=True).astype(float))
    np.testing.assert_allclose(model.score(numbers)["score"].to_numpy(), wanted, rtol=1e-12)


def test_a_classifier_of_scikit_learn_with_a_custom_objective_is_refused(
    registry: Registry, save: Save, numbers: pa.Table
) -> None:
    booster = xgb.train({"seed": 1}, xgb.DMatrix(frame_of(numbers), label(numbers) * 3), 4)
    booster.set_attr(scikit_learn=json.dumps({"_estimator_type": "classifier"}))

    with pytest.raises(ModelRefused, match="a custom objective may have trained it"):
        registry.register("risk", save(booster), numbers)


def test_a_custom_objective_of_several_classes_is_refused_until_its_link_is_given(
    registry: Registry, save: Save, numbers: pa.Table
) -> None:
    matrix = xgb.DMatrix(frame_of(numbers), np.arange(ROWS) % 3)
    booster = xgb.train({"num_class": 3, "seed": 1}, matrix, 4, obj=softmax)
    margins = booster.predict(matrix, output_margin=True).astype(float)
    wanted = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)

    with pytest.raises(ModelRefused, match="`link`: softmax"):
        registry.register("risk", save(booster), numbers)
    outputs = pa.table({str(at): wanted[:, at] for at in range(3)})
    model = register(registry, save(booster), numbers, link="softmax", classes=("a", "b", "c"), expected=outputs)

    np.testing.assert_allclose(model.score(numbers)["score_b"].to_numpy(), wanted[:, 1], rtol=1e-6)
    with pytest.raises(ModelRefused, match="needs a model with several classes"):
        registry.register("risk", save(fit_missing(numbers, -999)[0]), numbers, link="softmax")


def test_a_model_of_xgboosts_own_objective_needs_no_link(registry: Registry, save: Save, numbers: pa.Table) -> None:
    booster = xgb.train({"seed": 1}, xgb.DMatrix(frame_of(numbers), label(numbers)), 4)

    assert register(registry, save(booster), numbers).manifest.link is None


# --- the rounds ----------------------------------------------------------------------------------


def fit_early_stopped(numbers: pa.Table, kind: str = "gbtree") -> xgb.Booster:
    matrix = xgb.DMatrix(frame_of(numbers), label(numbers))
    noise = xgb.DMatrix(frame_of(numbers), np.random.default_rng(0).random(ROWS))
    params = {"seed": 1, "booster": kind}
    return xgb.train(params, matrix, 30, evals=[(noise, "w")], early_stopping_rounds=5, verbose_eval=False)


@pytest.mark.parametrize("kind", ["gbtree", "dart"])
def test_training_code_that_predicts_with_all_rounds_is_found_and_honoured(
    registry: Registry, save: Save, numbers: pa.Table, kind: str
) -> None:
    booster = fit_early_stopped(numbers, kind)
    rounds = booster.num_boosted_rounds()
    rows = with_expected(numbers, booster.predict(xgb.DMatrix(frame_of(numbers))))

    with pytest.raises(ModelRefused, match=f"agree with `iterations` {rounds}"):
        registry.register("risk", save(booster), rows, expected="predicted")
    model = register(registry, save(booster), rows, iterations=rounds, expected="predicted")

    assert (model.manifest.rounds, model.manifest.best_iteration) == (rounds, booster.best_iteration)
    np.testing.assert_allclose(model.score(numbers)["score"].to_numpy(), rows["predicted"].to_numpy(), rtol=1e-6)


def test_rounds_that_the_file_does_not_have_are_refused(registry: Registry, save: Save, numbers: pa.Table) -> None:
    booster = fit_missing(numbers, -999)[0]
    linear = xgb.train({"booster": "gblinear"}, xgb.DMatrix(frame_of(numbers), label(numbers)), 4)

    with pytest.raises(ModelRefused, match="cannot score with 9 boosting rounds: it has 8"):
        registry.register("risk", save(booster), numbers, iterations=9)
    with pytest.raises(ModelRefused, match="a linear model always scores with all"):
        registry.register("risk", save(linear), numbers, iterations=2)
    with pytest.raises(ModelRefused, match="`iterations`"):
        registry.register("risk", save(booster), numbers, iterations=0)


# --- expected outputs ----------------------------------------------------------------------------


def test_expected_outputs_become_the_golden_rows(registry: Registry, save: Save, numbers: pa.Table) -> None:
    booster, wanted = fit_missing(numbers, -999.0)
    nudged = wanted.astype(float) * (1 + 5e-7)

    manifest = registry.register(
        "risk", save(booster), with_expected(numbers, nudged), missing=-999, expected="predicted"
    )

    golden = {row.outputs["score"] for row in manifest.golden}
    assert golden <= set(nudged.tolist())
    assert max(nudged) in golden
    assert registry.load(registry.resolve("risk@1")).manifest == manifest
    with pytest.raises(ModelRefused, match=r"differ from the expected ones in \d+ of 400"):
        registry.register(
            "risk", save(booster), with_expected(numbers, nudged * (1 + 3e-6)), missing=-999, expected="predicted"
        )


def test_an_error_in_small_outputs_is_found_beside_a_large_one(
    registry: Registry, save: Save, numbers: pa.Table
) -> None:
    scale = np.where(np.arange(ROWS) == 0, 1e6, 1.0)
    matrix = xgb.DMatrix(frame_of(numbers), label(numbers), base_margin=np.log(scale))
    booster = xgb.train({"objective": "count:poisson", "seed": 1}, matrix, 4)
    wanted = booster.predict(matrix).astype(float)
    wanted[7] *= 1.01
    rows = with_expected(numbers, wanted).append_column("scale", pa.array(np.log(scale)))

    with pytest.raises(ModelRefused, match="differ from the expected ones in 1 of 400 rows"):
        registry.register("risk", save(booster), rows, base_margin=["scale"], expected="predicted")


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("predictions", "the reference rows have no column `predictions`"),
        (["income", "children"], "2 columns of expected outputs were given, and its outputs are `score`"),
        (pa.table({"score": [0.5]}), "1 expected outputs were given for 400 reference rows"),
        (pa.table({"score": ["a"] * ROWS}), "are string, not numbers"),
        (pa.table({"score": [None, *[0.5] * (ROWS - 1)]}), "1 expected value of `score` is NULL"),
        (
            pa.table({"score": [float("nan"), *[0.5] * (ROWS - 1)]}),
            "1 expected value of `score` is NULL",
        ),
    ],
)
def test_expected_outputs_that_do_not_fit_are_refused(
    registry: Registry, save: Save, numbers: pa.Table, expected: Any, message: str
) -> None:
    with pytest.raises(ModelRefused, match=message):
        registry.register("risk", save(fit_missing(numbers, -999.0)[0]), numbers, expected=expected)


def test_the_predicted_class_alone_may_be_expected(
    registry: Registry, save: Save, rows: pa.Table, fit: Fit, as_frame: AsFrame
) -> None:
    booster = fit(rows, "multi:softmax")
    classes = ("low", "mid", "high")
    numbers = booster.predict(xgb.DMatrix(as_frame(rows), enable_categorical=True)).astype(int)
    predicted = rows.append_column("kind", pa.array([classes[number] for number in numbers]))

    model = register(registry, save(booster), predicted, classes=classes, expected="kind")

    assert model.manifest.verified_rows == len(rows)
    with pytest.raises(ModelRefused, match="the first gives `predicted_class`"):
        registry.register("risk", save(booster), predicted, classes=classes[::-1], expected="kind")


def test_a_ranking_model_is_compared_by_its_margins(
    registry: Registry, save: Save, rows: pa.Table, fit: Fit, as_frame: AsFrame
) -> None:
    booster = fit(rows, "rank:ndcg")
    wanted = booster.predict(xgb.DMatrix(as_frame(rows), enable_categorical=True))

    model = register(registry, save(booster), with_expected(rows, wanted), group=["country"], expected="predicted")

    assert model.manifest.verified_rows == len(rows)


# --- rows that cannot be scored --------------------------------------------------------------------


def test_reference_rows_that_cannot_be_scored_are_refused_beyond_a_share(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table
) -> None:
    cities = pa.array(["XX" if at % 4 == 0 else c for at, c in enumerate(rows["country"].to_pylist())])
    broken = rows.set_column(3, "country", cities)

    with pytest.raises(
        ModelRefused, match=r"cannot score 60 of 240 reference rows.*unseen category 'XX'.*`max_unscorable`"
    ):
        registry.register("risk", save(booster), broken)
    with pytest.raises(ModelRefused, match="cannot score 60 of 240"):
        registry.register("risk", save(booster), broken, max_unscorable=0.24)
    manifest = registry.register("risk", save(booster), broken, max_unscorable=0.25)

    assert (manifest.reference_rows, manifest.unscorable_rows, manifest.verified_rows) == (240, 60, None)
    with pytest.raises(ModelRefused, match="`max_unscorable` is 25"):
        registry.register("risk", save(booster), broken, max_unscorable=25)


def test_expected_outputs_of_rows_that_cannot_be_scored_are_not_compared(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table, as_frame: AsFrame
) -> None:
    wanted = booster.predict(xgb.DMatrix(as_frame(rows), enable_categorical=True)).astype(float)
    cities = pa.array(["XX" if at == 5 else c for at, c in enumerate(rows["country"].to_pylist())])
    outputs = pa.table({"score": pa.array(wanted, mask=np.arange(len(rows)) == 5)})

    manifest = registry.register(
        "risk", save(booster), rows.set_column(3, "country", cities), expected=outputs, max_unscorable=0.01
    )

    assert (manifest.unscorable_rows, manifest.verified_rows) == (1, 239)


# --- manifests of before -------------------------------------------------------------------------


def test_a_manifest_of_before_reads_as_before(
    registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table, as_frame: AsFrame
) -> None:
    registry.register("risk", save(booster), rows)
    path = registry.folder / "risk/1/manifest.json"
    manifest = json.loads(path.read_text())
    new = ("iterations", "missing", "base_margin", "link", "reference_rows", "unscorable_rows", "verified_rows")
    path.write_text(json.dumps({key: value for key, value in manifest.items() if key not in new}))

    model = registry.load(registry.resolve("risk@1"))

    wanted = booster.predict(xgb.DMatrix(as_frame(rows), enable_categorical=True))
    np.testing.assert_array_equal(model.score(rows)["score"].to_numpy(), wanted.astype(float))
    assert isinstance(model.manifest, Manifest)
    assert (model.manifest.verified_rows, model.manifest.reference_rows) == (None, None)
