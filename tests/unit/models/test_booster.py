"""Scoring: the same numbers as XGBoost's own, by name, and nothing repaired in silence."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.booster import ModelVersion
from penstock.models.registry import Registry
from penstock.run_types import Misfit
from penstock.spec.steps import ModelRef

COUNTRIES = ("NL", "AR", "FR")
SINGLE = (
    "binary:logistic", "binary:logitraw", "binary:hinge", "reg:squarederror", "reg:squaredlogerror", "reg:logistic",
    "reg:pseudohubererror", "reg:absoluteerror", "reg:gamma", "reg:tweedie", "count:poisson", "survival:cox",
    "survival:aft", "rank:ndcg", "rank:pairwise", "rank:map",
)  # fmt: skip
Save = Callable[..., Path]
Fit = Callable[..., xgb.Booster]
AsFrame = Callable[[pa.Table], pd.DataFrame]


def register(registry: Registry, file: Path, rows: pa.Table, **more: object) -> ModelVersion:
    registry.register("risk", file, rows, "champion", **more)  # type: ignore[arg-type]  # keywords of each test
    return registry.load(registry.resolve(ModelRef.model_validate("risk@champion")))


@pytest.fixture
def model(registry: Registry, save: Save, booster: xgb.Booster, rows: pa.Table) -> ModelVersion:
    return register(registry, save(booster), rows)


def with_column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


@pytest.mark.parametrize("objective", SINGLE)
def test_every_single_output_objective_scores_as_xgboost_predicts(
    objective: str, registry: Registry, save: Save, rows: pa.Table, fit: Fit, as_frame: AsFrame
) -> None:
    booster = fit(rows, objective)
    model = register(registry, save(booster), rows)

    scored = model.score(rows)

    expected = booster.predict(xgb.DMatrix(as_frame(rows), enable_categorical=True))
    assert scored.column_names == ["score"]
    assert scored.schema.field("score").type == pa.float64()
    np.testing.assert_allclose(scored["score"].to_numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
def test_multi_class_models_give_probabilities_and_the_predicted_class(
    objective: str, registry: Registry, save: Save, rows: pa.Table, fit: Fit, as_frame: AsFrame
) -> None:
    matrix = xgb.DMatrix(as_frame(rows), enable_categorical=True)
    model = register(registry, save(fit(rows, objective)), rows, classes=("low", "mid", "high"))

    scored = model.score(rows)

    assert scored.column_names == ["score_low", "score_mid", "score_high", "predicted_class"]
    probabilities = np.column_stack([scored[name].to_numpy() for name in scored.column_names[:3]])
    np.testing.assert_allclose(probabilities, fit(rows, "multi:softprob").predict(matrix), rtol=1e-6, atol=1e-6)
    numbers = fit(rows, "multi:softmax").predict(matrix).astype(int)
    assert scored["predicted_class"].to_pylist() == [("low", "mid", "high")[number] for number in numbers]


def test_a_quantile_model_gives_one_score_for_each_quantile(
    registry: Registry, save: Save, rows: pa.Table, fit: Fit, as_frame: AsFrame
) -> None:
    booster = fit(rows, "reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9])

    scored = register(registry, save(booster), rows).score(rows)

    expected = booster.predict(xgb.DMatrix(as_frame(rows), enable_categorical=True))
    assert scored.column_names == ["score_0", "score_1", "score_2"]
    np.testing.assert_allclose(scored["score_1"].to_numpy(), expected[:, 1], rtol=1e-6)


@pytest.mark.parametrize("kind", ["dart", "gblinear"])
def test_other_boosters_score_as_xgboost_predicts(kind: str, registry: Registry, save: Save, rows: pa.Table) -> None:
    numbers = rows.select(["visits", "known"])
    matrix = xgb.DMatrix(numbers.to_pandas(), rows["amount"].fill_null(0).to_numpy())
    booster = xgb.train({"booster": kind, "seed": 1} | ({"rate_drop": 0.4} if kind == "dart" else {}), matrix, 6)

    scored = register(registry, save(booster), numbers).score(numbers)

    np.testing.assert_allclose(scored["score"].to_numpy(), booster.predict(matrix), rtol=1e-6)


def test_reordered_columns_score_the_same(model: ModelVersion, rows: pa.Table) -> None:
    reordered = rows.select(["country", "known", "visits", "amount"]).append_column("extra", pa.nulls(len(rows)))

    assert model.score(reordered).equals(model.score(rows))


def test_chunked_tables_score_the_same(model: ModelVersion, rows: pa.Table) -> None:
    chunked = pa.concat_tables([rows.slice(0, 7), rows.slice(7, 100), rows.slice(107)])

    assert model.score(chunked).equals(model.score(rows))


def test_dictionary_columns_in_another_order_score_the_same(model: ModelVersion, rows: pa.Table) -> None:
    encoded = with_column(rows, "country", rows["country"].combine_chunks().dictionary_encode())

    assert model.score(encoded).equals(model.score(rows))


def test_decimals_and_narrow_types_score_the_same(model: ModelVersion, rows: pa.Table) -> None:
    amount = [None if value is None else Decimal(int(value)) for value in rows["amount"].to_pylist()]
    decimal = with_column(rows, "amount", pa.array(amount, pa.decimal128(12, 2)))
    double = with_column(rows, "amount", pa.array(amount, pa.decimal128(12, 2)).cast(pa.float64()))
    narrow = with_column(decimal, "visits", rows["visits"].cast(pa.int8()))

    assert model.score(narrow).equals(model.score(double))


def test_missing_columns_are_named(model: ModelVersion, rows: pa.Table) -> None:
    with pytest.raises(ModelMismatch, match="`country`") as raised:
        model.score(rows.drop_columns(["country", "visits"]))

    assert raised.value.columns == ("visits", "country")


def test_a_column_that_is_there_twice_is_an_error(model: ModelVersion, rows: pa.Table) -> None:
    with pytest.raises(ModelMismatch, match="more than once: `amount`"):
        model.score(rows.append_column("amount", rows["amount"]))


def test_an_unseen_category_refuses_its_row_only(model: ModelVersion, rows: pa.Table) -> None:
    countries = rows["country"].to_pylist()
    countries[3], countries[4] = "XX", None
    table = with_column(rows, "country", pa.array(countries))

    refused = model.refused_rows(table)

    assert refused == {3: (Misfit("country", "unseen category", "XX"),)}
    with pytest.raises(ModelMismatch, match=r"1 of .* rows \(unseen category\).*`country`") as error:
        model.score(table)
    assert "XX" not in str(error.value)


def test_every_kind_of_misfit_is_named_by_row(model: ModelVersion, rows: pa.Table) -> None:
    first = rows.slice(0, 5)
    table = pa.table(
        {
            "amount": [1.0, float("inf"), 1e300, float("nan"), None],
            "visits": [1.0, 2.5, float("-inf"), float("nan"), None],
            "known": pa.array([0, 1, 2, None, 1]),
            "country": first["country"],
        }
    )

    assert model.refused_rows(table) == {
        1: (Misfit("amount", "not finite"), Misfit("visits", "not a whole number")),
        2: (Misfit("amount", "not finite"), Misfit("visits", "not finite"), Misfit("known", "not a boolean")),
    }


def test_text_in_a_number_column_refuses_the_rows(model: ModelVersion, rows: pa.Table) -> None:
    table = with_column(rows, "amount", pa.array(["12.5", *[None] * (len(rows) - 1)]))

    assert model.refused_rows(table) == {0: (Misfit("amount", "string where a float is needed"),)}


def test_nulls_are_scored_as_missing_in_every_dtype(model: ModelVersion, booster: xgb.Booster, rows: pa.Table) -> None:
    holes = {
        name: [None if i % 3 == 0 else v for i, v in enumerate(rows[name].to_pylist())] for name in rows.schema.names
    }
    table = pa.table(holes, schema=rows.schema)
    frame = pd.DataFrame(
        {
            "amount": table["amount"].to_numpy(),
            "visits": table["visits"].to_numpy(),
            "known": table["known"].cast(pa.int8()).to_numpy(),
            "country": pd.Categorical(holes["country"], categories=list(COUNTRIES)),
        }
    )

    assert model.refused_rows(table) == {}
    expected = booster.predict(xgb.DMatrix(frame, enable_categorical=True))
    np.testing.assert_allclose(model.score(table)["score"].to_numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("name", ["amount", "visits", "known", "country"])
def test_an_all_null_column_is_scored(model: ModelVersion, rows: pa.Table, name: str, typed: bool) -> None:
    table = with_column(rows, name, pa.nulls(len(rows), rows.schema.field(name).type if typed else pa.null()))

    assert model.refused_rows(table) == {}
    assert model.score(table).num_rows == len(rows)


def test_zero_rows_give_zero_scores(model: ModelVersion, rows: pa.Table) -> None:
    scored = model.score(rows.slice(0, 0))

    assert scored.schema.equals(model.score(rows).schema)
    assert scored.num_rows == 0


def test_an_early_stopped_model_scores_with_its_best_iteration(
    registry: Registry, save: Save, rows: pa.Table, as_frame: AsFrame
) -> None:
    frame, label = as_frame(rows), np.random.default_rng(0).random(len(rows))  # noise: more rounds only overfit
    matrix = xgb.DMatrix(frame, label, enable_categorical=True)
    watch = xgb.DMatrix(frame[:60], 1 - label[:60], enable_categorical=True)
    booster = xgb.train({"seed": 1}, matrix, 40, evals=[(watch, "w")], early_stopping_rounds=5, verbose_eval=False)
    best = booster.best_iteration
    assert booster.num_boosted_rounds() > best + 1

    model = register(registry, save(booster), rows)

    assert model.manifest.best_iteration == best
    expected = booster.predict(matrix, iteration_range=(0, best + 1))
    assert not np.allclose(expected, booster.predict(matrix), rtol=1e-4)
    np.testing.assert_allclose(model.score(rows)["score"].to_numpy(), expected, rtol=1e-6)


def test_thread_counts_do_not_change_the_scores_nor_the_shared_booster(model: ModelVersion, rows: pa.Table) -> None:
    expected = model.score(rows)

    with ThreadPoolExecutor(4) as pool:
        scored = list(pool.map(lambda threads: model.score(rows, threads=threads), [1, 2, 1, 2, 1, 2]))

    assert all(table.equals(expected) for table in scored)


def test_few_rows_score_as_those_of_a_frame_and_without_another_booster(model: ModelVersion, rows: pa.Table) -> None:
    few = rows.slice(0, 5)

    scored = model.score(few), model.score(few, by_frame=True)

    assert scored[0].equals(scored[1])
    assert not model._by_threads  # a run would hold the model twice


def test_integer_categories_may_come_as_integers_text_or_floats(registry: Registry, save: Save, rows: pa.Table) -> None:
    codes = np.random.default_rng(2).choice([10, 20, 30], len(rows))
    frame = pd.DataFrame({"shop": pd.Categorical(codes), "visits": rows["visits"].to_numpy()})
    matrix = xgb.DMatrix(frame, (codes == 20).astype(float), enable_categorical=True)
    booster = xgb.train({"seed": 1}, matrix, 5)
    integers = pa.table({"shop": codes, "visits": rows["visits"]})

    model = register(registry, save(booster), integers)

    assert model.manifest.features[0].categories == ("10", "20", "30")
    for type_ in (pa.int64(), pa.string(), pa.float64()):
        table = with_column(integers, "shop", integers["shop"].cast(type_))
        np.testing.assert_allclose(model.score(table)["score"].to_numpy(), booster.predict(matrix), rtol=1e-6)


def test_a_model_without_feature_names_is_refused(registry: Registry, save: Save, rows: pa.Table) -> None:
    booster = xgb.train({}, xgb.DMatrix(np.ones((20, 2)), np.arange(20)), 2)

    with pytest.raises(ModelRefused, match=r"2 features without names\. Give the names with `features`"):
        registry.register("risk", save(booster), rows)


def test_categories_that_the_file_does_not_hold_must_be_given(registry: Registry, save: Save) -> None:
    codes = np.random.default_rng(3).integers(0, 3, 60)
    matrix = xgb.DMatrix(
        codes[:, None].astype(float),
        codes == 1,
        feature_names=["country"],
        feature_types=["c"],
        enable_categorical=True,
    )
    file = save(xgb.train({"seed": 1}, matrix, 3))
    reference = pa.table({"country": [COUNTRIES[code] for code in codes]})

    with pytest.raises(ModelRefused, match="`categories`"):
        registry.register("risk", file, reference)
    model = register(registry, file, reference, categories={"country": COUNTRIES})

    expected = xgb.Booster(model_file=file).predict(matrix)
    np.testing.assert_allclose(model.score(reference)["score"].to_numpy(), expected, rtol=1e-6)
