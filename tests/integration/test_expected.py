"""The performance that is expected of rows without a label is shown beside what was measured, and apart from it."""

import json
from collections.abc import Callable

import pytest

from penstock.monitor import expected_performance
from tests.conftest import DIALECTS
from tests.integration.test_drift import call
from tests.integration.test_labels import NOW, Shop, guess_labels, make_shop

__all__ = ["make_shop"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_expected_is_named_so_and_is_of_the_other_rows(
    make_shop: Callable[..., Shop], dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected_performance, "LEAST_ROWS", 300)
    shop = make_shop(dialect)
    scores = shop.scores()
    labels = guess_labels(scores)
    shop.report([(key, label, NOW) for key, label in labels.items() if key <= 500])
    shop.collect()

    [shown] = json.loads(call("monitor", "performance", "card-risk.yaml", "--json"))
    labelled = sum(key <= 500 for key in scores)
    assert (shown["rows_judged"], shown["expected"]["calibrated_on"]) == (labelled, labelled)
    assert shown["expected"]["rows"] == len(scores) - labelled
    assert set(shown["expected"]["metrics"]) == {"auc", "pr_auc", "precision at 0.5", "recall at 0.5"}
    assert shown["expected"]["metrics"]["auc"] == pytest.approx(shown["metrics"]["auc"]["value"], abs=0.1)
    if dialect == "sqlite":
        told = call("monitor", "performance", "card-risk.yaml")
        rows = shown["expected"]["rows"]
        assert f"expected of {rows} rows without a label, from scores calibrated on {labelled} labelled rows" in told
        assert "expected" not in call("monitor", "performance", "card-risk.yaml", "--by", "country")
        monkeypatch.setattr(expected_performance, "LEAST_ROWS", 1_000)
        assert "expected" not in call("monitor", "performance", "card-risk.yaml")
