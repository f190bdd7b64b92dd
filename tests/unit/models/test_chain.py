"""Steps over rows in memory, with real boosters: what is taken, what is skipped, and what is refused."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.errors import ExpressionError, FeaturesError, ModelMismatch
from penstock.models.booster import ModelVersion, version
from penstock.models.chain import score_step
from penstock.models.columns import FeatureColumn, read_column
from penstock.models.manifest import Feature
from penstock.models.needs import needed_columns
from penstock.privacy.masking import NO_MASKING
from penstock.run.partition_options import PartitionOptions
from penstock.run_types import Features, Misfit
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import ModelRef
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import payments
from tests.steps import STEPS, train_steps

CONDITION = "screen_score > 0.5 and items > 1"
Models = dict[str, ModelVersion]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    registry = train_steps(Path(tmp_path_factory.mktemp("models")))
    names = {"screen": "risk-screen@champion", "deep": "risk-deep@champion"}
    return {step: registry.load(registry.resolve(ModelRef.model_validate(name))) for step, name in names.items()}


def read(spec: str = STEPS) -> Pipeline:
    return parse_pipeline(spec.encode(), "x.yaml")


def run_steps(pipeline: Pipeline, models: Models, rows: pa.Table) -> Features:
    features = Features(rows, rows.num_rows, 0, (), ())
    for step in pipeline.steps:
        features = score_step(pipeline, features, step, models[step.name], PartitionOptions(NO_MASKING, 60))
    return features


def test_a_condition_that_is_null_is_as_one_that_is_false(models: Models) -> None:
    rows = payments(days=1, a_day=40)
    pipeline = read(STEPS.replace(CONDITION, "case when items > 4 then true end"))

    scored = run_steps(pipeline, models, rows).table

    assert [s is not None for s in scored["deep_score"].to_pylist()] == [i > 4 for i in rows["items"].to_pylist()]
    assert scored["screen_score"].null_count == 0


@pytest.mark.parametrize("condition", ["items < 0", "items > 0"])
def test_a_step_that_takes_no_row_or_every_row_still_gives_its_column(models: Models, condition: str) -> None:
    scored = run_steps(read(STEPS.replace(CONDITION, condition)), models, payments(days=1, a_day=10)).table

    assert scored["deep_score"].null_count == (10 if condition == "items < 0" else 0)
    assert scored.schema.field("deep_score").type == scored.schema.field("screen_score").type


def test_no_rows_at_all_give_empty_columns(models: Models) -> None:
    scored = run_steps(read(), models, payments(days=1, a_day=10).slice(0, 0))

    assert scored.outputs == {"screen": ("screen_score",), "deep": ("deep_score",)}
    assert scored.table.num_rows == 0


def test_scores_stay_with_their_rows_where_some_are_refused(models: Models) -> None:
    rows = payments(days=1, a_day=60)
    whole = run_steps(read(), models, rows).table
    scored = {row["payment_id"]: row["deep_score"] for row in whole.to_pylist()}
    bad = next(key for key, score in scored.items() if score is not None)
    country = ["XX" if key == bad else c for key, c in zip(scored, rows["country"].to_pylist(), strict=True)]

    found = run_steps(read(), models, rows.set_column(5, "country", pa.array(country)))

    assert {row["payment_id"]: row["deep_score"] for row in found.table.to_pylist()} == {
        key: score for key, score in scored.items() if key != bad
    }
    [[reason]] = [refusal.reasons for refusal in found.refusals]
    assert reason == Misfit("country", "unseen category", "XX", step="deep")
    assert reason.text == "step deep: `country`: unseen category 'XX'"


@pytest.mark.parametrize(("lacking", "times"), [(0, 1), (1, 2)])
def test_columns_are_converted_once_for_misfits_and_scores_unless_a_row_is_refused(
    models: Models, monkeypatch: pytest.MonkeyPatch, lacking: int, times: int
) -> None:
    rows = payments(days=1, a_day=20)
    amounts = [float("inf")] * lacking + rows["amount"].to_pylist()[lacking:]
    rows = rows.set_column(rows.column_names.index("amount"), "amount", pa.array(amounts))
    converted: list[str] = []

    def counted(feature: Feature, *arguments: Any) -> FeatureColumn:
        converted.append(feature.name)
        return read_column(feature, *arguments)

    monkeypatch.setattr(version, "read_column", counted)
    spec = read()

    score_step(spec, Features(rows, 20, 0, (), ()), spec.steps[0], models["screen"], PartitionOptions(NO_MASKING, 60))

    assert converted.count("amount") == times


def test_an_input_that_is_not_there_is_told_with_its_step(models: Models) -> None:
    with pytest.raises(ModelMismatch, match=r"for step `deep` .*`opinion`"):
        run_steps(read(STEPS.replace("inputs: {opinion: screen_score}", "inputs: []")), models, payments(1, 10))


def test_an_input_for_a_feature_that_the_model_does_not_have_is_told(models: Models) -> None:
    spec = STEPS.replace("{opinion: screen_score}", "{opinion: screen_score, opinoin: screen_score}")

    with pytest.raises(ModelMismatch, match=r"features that `inputs` of step `deep` names: `opinoin`"):
        run_steps(read(spec), models, payments(1, 10))


def test_a_feature_that_bears_an_outputs_name_is_refused(models: Models) -> None:
    rows = payments(1, 10)

    with pytest.raises(FeaturesError, match="`Screen_Score`"):
        run_steps(read(), models, rows.append_column("Screen_Score", rows["amount"]))


@pytest.mark.parametrize(
    ("condition", "told"),
    [("items", "not a condition that is true or false"), ("missing > 1", "missing"), ("country::int > 1", "fails")],
)
def test_a_condition_that_cannot_be_evaluated_is_told_with_its_step(models: Models, condition: str, told: str) -> None:
    spec = STEPS.replace(CONDITION, condition)

    with pytest.raises(ExpressionError, match=f"`when` of step `deep`.*{told}"):
        run_steps(read(spec), models, payments(1, 10))


def test_needed_columns_are_those_that_no_step_and_no_decision_gives(models: Models) -> None:
    needed = needed_columns(read(), {step: model.manifest for step, model in models.items()})

    assert sorted(needed) == ["amount", "country", "first", "items"]


def test_a_base_margin_is_needed_like_a_feature(models: Models) -> None:
    manifests = {step: model.manifest for step, model in models.items()}
    manifests["deep"] = manifests["deep"].model_copy(update={"base_margin": ("exposure",)})

    assert "exposure" in needed_columns(read(), manifests)
