"""Two scorings by the labels of the same rows, as scikit-learn measures them."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sklearn.metrics import brier_score_loss, roc_auc_score
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.ledger.reader import list_runs
from penstock.models.training import train
from penstock.privacy.masking import make_masking
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.prune import prune
from penstock.upkeep.prune_plan import plan_prune
from tests.conftest import DIALECTS
from tests.driver import Driver
from tests.integration.test_labels import LABELS, NOW, Shop, guess_labels
from tests.shop import SPEC, START, Place, payments


def restate_with_second_version(shop: Shop) -> None:
    """Score all days again with a version of fewer trees, after some payments of the first day were removed."""
    place = shop.place
    rows = payments(days=2, a_day=400, seed=98).select(["amount", "items", "country", "first"])
    label = pa.array((rows["amount"].to_numpy() > 25).astype(int))
    train(rows.append_column("label", label), "label", rounds=2).register(place.registry, "card-risk")
    with place.shop.writing() as connection:
        connection.execute(sa.text("delete from payments where payment_id <= 40"))
    spec = place.spec.with_name("second.yaml")
    spec.write_text(place.spec.read_text().replace("card-risk@champion", "card-risk@2"))
    pipeline = load_pipeline(spec)
    driver = Driver(pipeline, shop.connect, place.registry, make_masking(pipeline, shop.settings))
    driver.run(NOW, "restate", START, START + timedelta(days=3))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_both_are_measured_on_the_rows_that_both_scored_and_that_have_labels(
    make_place: Callable[..., Place], dialect: str
) -> None:
    shop = Shop(make_place(dialect, dialect, spec=SPEC + LABELS))
    shop.score()
    one = shop.scores()
    labels = {key: label for key, label in guess_labels(one).items() if key % 5}
    shop.report([(key, label, NOW + timedelta(minutes=key)) for key, label in labels.items()])
    shop.collect()
    restate_with_second_version(shop)
    two = shop.scores()

    found = compare(shop)

    same = sorted(one.keys() & two.keys())
    judged = [key for key in same if key in labels]
    assert (len(one) - len(same), found["rows"]["only_a"]) == (40, 40)
    labelled = found["labelled"]
    assert (labelled["column"], labelled["rows"], labelled["judged"]) == ("score", len(same), len(judged))
    y = np.array([labels[key] for key in judged])
    for side, scores in (("metrics_a", one), ("metrics_b", two)):
        p = np.array([scores[key] for key in judged])
        metrics = {name: labelled[side][name]["value"] for name in ("auc", "brier", "calibration")}
        expected = {"auc": roc_auc_score(y, p), "brier": brier_score_loss(y, p), "calibration": p.mean() - y.mean()}
        assert metrics == pytest.approx(expected, abs=1e-5)
    shown = invoke(shop)
    assert f"`score` by the labels of the same rows, {len(judged)} of {len(same)} rows:" in shown
    assert "auc" in shown


def test_without_collected_labels_the_rest_is_compared(make_place: Callable[..., Place]) -> None:
    shop = Shop(make_place(spec=SPEC + LABELS))
    shop.score()
    restate_with_second_version(shop)

    assert compare(shop)["labelled"] is None


def test_intervals_whose_labels_were_pruned_are_left_out_and_named(make_place: Callable[..., Place]) -> None:
    labels = LABELS.replace("mature: 20d", "mature: 1d\n  missing: negative")  # a pruned label would become negative
    shop = Shop(make_place(spec=f"{SPEC}{labels}retention: {{labels: 30d}}\n"))
    shop.score()
    days = shop.scores("payment_id - 1")
    shop.report([(key, 1, NOW - timedelta(hours=30) if day < 500 else NOW) for key, day in days.items()])
    shop.collect()
    restate_with_second_version(shop)
    prune(shop.warehouse, plan_prune(shop.warehouse, shop.pipeline, NOW + timedelta(days=30, hours=-25)))

    told = invoke(shop)
    labelled = compare(shop)["labelled"]
    measured = CliRunner().invoke(
        app, ["monitor", "performance", str(shop.place.spec), "--as-of", "2026-02-20", "--model", "2", "--json"]
    )

    gone = "labels seen before 2026-01-03 00:00 UTC are pruned; 2 runs of older intervals are left out"
    assert gone in told
    assert (labelled["judged"], labelled["pruned"]["runs"]) == (250, 2)
    assert labelled["metrics_a"]["calibration"]["value"] < 0  # all labels that are left are 1
    assert labelled["metrics_a"]["pr_auc"]["value"] == 1
    [first] = json.loads(measured.stdout)
    assert (first["runs"], first["rows_judged"]) == (1, 250)
    assert gone in measured.stderr


def compare(shop: Shop) -> Any:
    return json.loads(invoke(shop, "--json"))


def invoke(shop: Shop, *options: str) -> str:
    assert {run.model for run in list_runs(shop.warehouse, limit=100)} == {"card-risk/1", "card-risk/2"}
    arguments = ["monitor", "compare", str(shop.place.spec), "card-risk/1", "card-risk/2", *options]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout
