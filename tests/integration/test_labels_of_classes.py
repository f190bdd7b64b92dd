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
from penstock.models.measuring import collect_and_measure
from penstock.models.training import train
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.integration.test_labels import LABELS, LATER, NOW, Shop
from tests.shop import SPEC, Place, payments

MakePlace = Callable[..., Place]
CLASSES = ("high", "low", "mid")  # in the order of the model's outputs
TEXT = "value: \"list_extract(['high', 'low', 'mid'], is_fraud + 1)\""
ALERT = "  alert: {accuracy: {above: 0.2}}\n"


def make_shop(make_place: MakePlace, dialect: str = "sqlite", labels: str = LABELS) -> Shop:
    """Score three days with a model of three classes."""
    spec = SPEC.replace("card-risk@champion", "class-risk@champion")
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


def test_a_label_that_is_no_class_and_what_says_no_class_are_refused_by_name(make_place: MakePlace) -> None:
    shop = make_shop(make_place)
    shop.report([(1, 1, NOW), (2, 2, NOW + timedelta(hours=1))])
    spec = shop.place.spec.read_text()

    def fails_with(text: str, day: int) -> str:
        shop.place.spec.write_text(text)
        shop.pipeline = load_pipeline(shop.place.spec)
        try:
            now = LATER + timedelta(days=day)
            found = collect_and_measure(shop.pipeline, shop.settings, shop.connect, shop.place.registry, now)
        except NotMeasured as error:  # of all runs
            return str(error)
        return " ".join(found.unmeasured)

    assert "gives `worst`, which is no class of the model: it has `high`, `low`, `mid`" in fails_with(
        spec.replace(TEXT, "value: \"'worst'\""), day=0
    )
    assert "`missing: negative` does not say which class" in fails_with(
        spec.replace("mature: 20d", "mature: 20d\n  missing: negative"), day=1
    )
    assert "gives `1`, which is no class" in fails_with(spec.replace(TEXT, "value: is_fraud"), day=2)
