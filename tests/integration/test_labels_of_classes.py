"""Labels of a model with several classes: named in the label, and measured as scikit-learn does, by run and slice."""

import json
import re
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sklearn.metrics import accuracy_score, log_loss, recall_score, roc_auc_score
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.errors import NotMeasured
from penstock.labels.collect import collect_labels
from penstock.ledger.reader import list_runs
from penstock.models.measuring import collect_and_measure
from penstock.models.training import train
from penstock.privacy.masking import NO_MASKING
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.integration.test_drift import call
from tests.integration.test_labels import LABELS, LATER, NOW, Shop
from tests.shop import SPEC, START, Place, payments

MakePlace = Callable[..., Place]
CLASSES = ("high", "low", "mid")  # in the order of the model's outputs
TEXT = "value: \"list_extract(['high', 'low', 'mid'], is_fraud + 1)\""
WITH_WORST = "value: \"if(is_fraud > 2, 'worst', list_extract(['high', 'low', 'mid'], is_fraud + 1))\""
MODEL = "model: class-risk@champion"
TWO_STEPS = "models: [{name: one, model: class-risk@champion}, {name: two, model: class-risk@champion}]"
MADE_SCORE = "decide: {score: two_score_high}\n"
ALERT = "  alert: {accuracy: {above: 0.2}}\n"


def make_shop(make_place: MakePlace, dialect: str = "sqlite", labels: str = LABELS, model: str = "") -> Shop:
    """Score three days with a model of three classes."""
    spec = SPEC.replace("model: card-risk@champion", model or MODEL)
    place = make_place(dialect, dialect, spec=spec + labels.replace("value: is_fraud", TEXT))
    rows = payments(days=2, a_day=300, seed=7).select(["amount", "items", "country", "first"])
    amounts = rows["amount"].to_numpy()
    names = pa.array(np.where(amounts < 15, "low", np.where(amounts < 35, "mid", "high")))
    trained = train(rows.append_column("label", names), "label", objective="multi:softprob", rounds=3)
    trained.register(place.registry, "class-risk", alias="champion")
    shop = Shop(place)
    shop.score()
    return shop


def draw_classes(shop: Shop) -> tuple[dict[int, np.ndarray], dict[int, int]]:
    """Return the probabilities of the classes by payment, and classes that are drawn with them."""
    columns = [shop.scores(f"score_{name}") for name in CLASSES]
    scores = {key: np.array([column[key] for column in columns]) for key in columns[0]}
    rng = np.random.default_rng(7)
    return scores, {key: int(rng.choice(3, p=row / row.sum())) for key, row in scores.items()}


def measure(shop: Shop) -> None:
    found = collect_and_measure(shop.pipeline, shop.settings, shop.connect, shop.place.registry, LATER)
    assert not found.unmeasured


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_metrics_of_runs_and_slices_are_those_of_scikit_learn(make_place: MakePlace, dialect: str) -> None:
    shop = make_shop(make_place, dialect, LABELS + ALERT)
    scores, labels = draw_classes(shop)
    labels = {key: label for key, label in labels.items() if key % 7}
    shop.report([(key, label, NOW) for key, label in labels.items()])
    measure(shop)
    countries = shop.scores("country")

    command = ["monitor", "performance", str(shop.place.spec)]
    [total] = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    slices = json.loads(CliRunner().invoke(app, [*command, "--by", "country", "--json"]).stdout)
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "120"}).stdout

    assert (total["runs"], total["rows_judged"], total["rows_scored"]) == (3, len(labels), len(scores))
    for found in [total, *slices]:
        country = (found["slice"] or {}).get("country")
        keys = [key for key in labels if country in (None, countries[key])]
        p, y = np.array([scores[key] for key in keys]), np.array([labels[key] for key in keys])
        recall = recall_score(y, p.argmax(axis=1), average=None, labels=[0, 1, 2])
        wanted = {
            "auc": roc_auc_score(y, p / p.sum(axis=1, keepdims=True), multi_class="ovr"),
            "log_loss": log_loss(y, p / p.sum(axis=1, keepdims=True)),
            "accuracy": accuracy_score(y, p.argmax(axis=1)),
            **{f"recall of {name}": recall[place] for place, name in enumerate(CLASSES)},
        }
        assert {name: found["metrics"][name]["value"] for name in wanted} == pytest.approx(wanted, abs=1e-5)
    assert len(slices) == len(set(countries.values()))
    assert re.search(r"precision of high +0\.\d{4} +0\.\d{4} to", shown)
    with shop.warehouse.reading() as connection:
        alerts = connection.execute(sa.text("select metric from penstock_performance_alerts")).scalars()
        assert list(alerts) == ["accuracy"]
    assert verify_ledger(shop.warehouse) == ()


def test_labels_of_no_class_are_left_out_and_counted(make_place: MakePlace) -> None:
    shop = make_shop(make_place, labels=LABELS + ALERT)
    _, labels = draw_classes(shop)
    shop.report([(key, label if key > 12 else 7, NOW) for key, label in labels.items()])
    shop.place.spec.write_text(shop.place.spec.read_text().replace(TEXT, WITH_WORST))
    shop.pipeline = load_pipeline(shop.place.spec)

    found = collect_and_measure(shop.pipeline, shop.settings, shop.connect, shop.place.registry, LATER)
    shown = CliRunner().invoke(app, ["monitor", "performance", str(shop.place.spec)]).stdout

    assert (found.unmeasured, found.measured_runs) == ((), 3)
    assert "12 labels of no class of the model left out" in found.describe()
    assert "738 of 750 scored rows of 3 runs count (98%), 750 labelled, 12 labels of no class of the model" in shown
    assert verify_ledger(shop.warehouse) == ()


def test_what_says_no_class_is_refused_by_name(make_place: MakePlace) -> None:
    shop = make_shop(make_place)
    shop.report([(1, 1, NOW), (2, 2, NOW + timedelta(hours=1))])
    spec = shop.place.spec.read_text()

    def check(text: str) -> str:
        shop.place.spec.write_text(text)
        shown = call("check", shop.place.spec.name, "--start", "2026-01-01", "--end", "2026-01-02", exit_code=1)
        return "\n".join(line for line in shown.splitlines() if " labels: " in line)

    known = "which is no class of the model: it has `high`, `low`, `mid`"
    assert f"gives `worst`, {known}" in check(spec.replace(TEXT, "value: \"'worst'\""))
    assert f"gives `1`, {known}" in check(spec.replace(TEXT, "value: is_fraud"))
    some = spec.replace(TEXT, WITH_WORST.replace("> 2", "> 1"))
    assert "1 label of the sample of no class of the model, left out" in check(some)
    assert "`decide` makes a `score`, and its model" in check(spec.replace(MODEL, TWO_STEPS) + MADE_SCORE)
    negative = spec.replace("mature: 20d", "mature: 20d\n  missing: negative")
    assert "`missing: negative` does not say which class" in check(negative)

    shop.pipeline = load_pipeline(shop.place.spec)
    with pytest.raises(NotMeasured, match="does not say which class"):
        collect_and_measure(shop.pipeline, shop.settings, shop.connect, shop.place.registry, LATER)


def test_classes_with_a_made_score_are_compared_without_labels(make_place: MakePlace) -> None:
    shop = make_shop(make_place, labels=LABELS + MADE_SCORE, model=TWO_STEPS)
    shop.report([(1, 1, NOW)])
    collect_labels(shop.pipeline, shop.connect, NO_MASKING, LATER, 60, text=True)
    shop.score(mode="restate", start=START, end=START + timedelta(days=3))
    both = [run.run_id for run in list_runs(shop.warehouse, limit=9) if run.interval_start == START]

    shown = call("monitor", "compare", str(shop.place.spec), *both)

    assert f"A is {both[0]}, B is {both[1]}" in shown
    assert "by the labels" not in shown
