"""A survival model is measured by the order of its events, over all rows of a run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from penstock.errors import NotMeasured
from penstock.labels.performance import add_up, list_judged_runs, read_performance, refresh_performance
from penstock.models.measuring import collect_and_measure
from penstock.models.registry import Registry
from tests.integration.test_labels import LABELS, LATER, NOW, Shop
from tests.shop import SPEC, Place, payments
from tests.unit.monitor.test_survival_sums import count_by_hand

MakePlace = Callable[..., Place]
WIDE = SPEC.replace("0.0001", "0").replace("0.9999", "99999")


def register(registry: Registry, folder: Path, objective: str) -> None:
    rows = payments(days=2, a_day=400, seed=5).select(["amount", "items"])
    days = rows["items"].to_numpy() + 1.0
    matrix = xgb.DMatrix(rows.to_pandas(), label=days)
    if objective == "survival:aft":
        matrix.set_float_info("label_lower_bound", days)
        matrix.set_float_info("label_upper_bound", days)
    booster = xgb.train({"objective": objective, "max_depth": 2, "nthread": 1}, matrix, 5)
    booster.save_model(folder / "model.ubj")
    registry.register("card-risk", folder / "model.ubj", rows, "champion")


def make_shop(make_place: MakePlace, objective: str, labels: str = LABELS) -> Shop:
    shop = Shop(make_place(spec=WIDE + labels))
    register(shop.place.registry, shop.place.folder, objective)
    shop.score()
    return shop


@pytest.mark.parametrize("objective", ["survival:cox", "survival:aft"])
def test_concordance_is_that_of_all_rows_of_each_run(make_place: MakePlace, objective: str) -> None:
    shop = make_shop(make_place, objective)
    scores = shop.scores()
    rng = np.random.default_rng(4)
    labels = {key: int(rng.integers(1, 30)) * (1 if rng.random() < 0.4 else -1) for key in scores}
    shop.report([(key, label, NOW) for key, label in labels.items()])
    shop.collect()
    assert refresh_performance(shop.warehouse, shop.question()).runs == 3

    [total] = add_up(read_performance(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk")))
    sign, days = 1 if objective == "survival:cox" else -1, range(3)
    of_days = [[(sign * s, labels[key]) for key, s in scores.items() if (key - 1) // 250 == day] for day in days]
    pairs, concordant = np.sum([count_by_hand(rows) for rows in of_days], axis=0)  # type: ignore[arg-type]
    found = total.rows.sums.metrics()["concordance"]
    assert found.value == pytest.approx(concordant / pairs, abs=1e-9)
    assert (found.low or 1) < found.value < (found.high or 0)
    of_slices = add_up(read_performance(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk")), by="country")
    assert sum(each.rows.judged for each in of_slices) == total.rows.judged == len(labels)


def test_a_time_of_0_is_refused(make_place: MakePlace) -> None:
    shop = make_shop(make_place, "survival:cox")
    shop.report([(1, 0, NOW)])

    done = collect_and_measure(shop.pipeline, shop.settings, shop.connect, shop.place.registry, LATER)

    assert done.measured_runs == 2  # the others have no label yet
    assert "gives 0, which is no time of an event" in done.describe()


def test_missing_labels_cannot_be_negative(make_place: MakePlace) -> None:
    shop = make_shop(make_place, "survival:cox", LABELS + "  missing: negative\n")
    shop.collect()
    with pytest.raises(NotMeasured, match="for how long a row was without its event"):
        collect_and_measure(shop.pipeline, shop.settings, shop.connect, shop.place.registry, LATER)
