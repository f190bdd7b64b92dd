"""Training: an ordered holdout, fixed categories, and a model that registers as it is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from penstock.errors import ModelMismatch, ModelRefused
from penstock.models.groups import cut_between_groups, gather_groups
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.spec.steps import ModelRef


@pytest.fixture
def labelled(rows: pa.Table) -> pa.Table:
    return rows.append_column("late", pc.cast(pc.greater(rows["visits"], 5), pa.int64()))


def test_a_trained_model_registers_and_scores(registry: Registry, labelled: pa.Table) -> None:
    trained = train(labelled, "late", rounds=8)

    manifest = trained.register(registry, "late-risk", "champion")

    model = registry.load(registry.resolve(ModelRef.model_validate("late-risk@champion")))
    assert manifest.features == trained.features
    assert set(manifest.metrics) == {"auc", "logloss"}
    assert manifest.metrics["auc"] > 0.95
    assert model.score(labelled).num_rows == len(labelled)


def test_the_same_frame_and_seed_give_the_same_bytes(labelled: pa.Table) -> None:
    assert train(labelled, "late", rounds=5).content == train(labelled, "late", rounds=5).content


def test_text_labels_become_the_classes(registry: Registry, rows: pa.Table) -> None:
    kind = pa.array([("low", "mid", "high")[v // 5] for v in rows["visits"].to_pylist()])
    trained = train(rows.append_column("kind", kind), "kind", ["visits", "country"], "multi:softprob", rounds=8)

    manifest = trained.register(registry, "kinds")

    assert manifest.outputs == ("score_high", "score_low", "score_mid", "predicted_class")
    predicted = registry.load(registry.resolve(ModelRef.model_validate("kinds@1"))).score(rows)["predicted_class"]
    assert np.mean(np.array(predicted.to_pylist()) == np.array(kind.to_pylist())) > 0.95


def test_the_holdout_is_the_newest_rows(labelled: pa.Table) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = pa.array([start + timedelta(hours=hour) for hour in range(len(labelled))])
    shuffled = labelled.append_column("at", times).take(pa.array(np.random.default_rng(1).permutation(len(labelled))))

    trained = train(shuffled, "late", rounds=3, order_by="at")

    assert (trained.trained_from, trained.trained_until) == (start, start + timedelta(hours=191))
    assert "at" not in [feature.name for feature in trained.features]


def test_training_stops_early_and_keeps_the_best_iteration(rows: pa.Table) -> None:
    noise = rows.append_column("noise", pa.array(np.random.default_rng(4).random(len(rows))))

    trained = train(noise, "noise", objective="reg:squarederror", rounds=200, early_stopping=5)

    assert trained.best_iteration is not None
    assert trained.best_iteration < 150


def test_a_null_label_is_an_error_not_a_dropped_row(labelled: pa.Table) -> None:
    holes = labelled.set_column(4, "late", pa.array([None, *labelled["late"].to_pylist()[1:]]))

    with pytest.raises(ModelRefused, match=r"`late` is NULL in 1 row\."):
        train(holes, "late")


@pytest.fixture
def ranked() -> pa.Table:
    """Baskets of five goods, shuffled; the cheapest of each is what is wanted."""
    rng, baskets = np.random.default_rng(3), 80
    price = rng.permuted(np.tile(np.arange(5.0), (baskets, 1)), axis=1).ravel() + np.repeat(rng.random(baskets), 5)
    basket, shuffled = np.repeat(np.arange(baskets), 5), rng.permutation(baskets * 5)
    frame = pa.table({"basket": basket, "price": price, "wanted": (price < 1).astype(np.int64), "week": basket // 8})
    return frame.take(pa.array(shuffled))


def test_a_ranking_model_learns_the_order_within_its_groups(registry: Registry, ranked: pa.Table) -> None:
    trained = train(ranked, "wanted", objective="rank:ndcg", group=["basket"], order_by="week", rounds=20)

    manifest = trained.register(registry, "baskets", "champion")

    model = registry.load(registry.resolve(ModelRef.model_validate("baskets@champion")))
    scores = ranked.append_column("score", model.score(ranked)["score"]).to_pandas()
    best = scores.loc[scores.groupby("basket")["score"].idxmax()]
    assert (manifest.outputs, manifest.group, manifest.feature_names) == (("score",), ("basket",), ("price",))
    assert set(manifest.metrics) == {"ndcg", "ndcg@5"}
    assert best["wanted"].all()


def test_the_holdout_of_a_ranking_model_is_made_of_whole_groups(ranked: pa.Table) -> None:
    gathered, groups = gather_groups(ranked, ["basket"])

    cut = cut_between_groups(groups, 323)  # a fifth would begin within the 65th group

    assert cut == 320
    assert set(gathered["basket"].to_pylist()[:cut]).isdisjoint(gathered["basket"].to_pylist()[cut:])
    assert sorted(gathered["price"].to_pylist()) == sorted(ranked["price"].to_pylist())


def test_a_ranking_objective_and_groups_go_together(ranked: pa.Table) -> None:
    for objective, group in (("rank:ndcg", []), ("binary:logistic", ["basket"])):
        with pytest.raises(ModelRefused, match="Only `rank:\\*` takes `group`"):
            train(ranked, "wanted", ["price"], objective, group=group)


def test_a_column_that_is_no_feature_is_named(labelled: pa.Table) -> None:
    dated = labelled.append_column("day", pa.nulls(len(labelled), pa.date32()))

    with pytest.raises(ModelMismatch, match="`day`"):
        train(dated, "late")
    with pytest.raises(ModelMismatch, match="`nope`"):
        train(labelled, "late", ["nope"])


@pytest.mark.parametrize("name", ["amount[eur]", "amount<5"])
def test_names_that_xgboost_refuses_are_refused_with_its_reason(labelled: pa.Table, name: str) -> None:
    renamed = labelled.rename_columns([name, *labelled.column_names[1:]])

    with pytest.raises(ModelRefused, match="may not contain"):
        train(renamed, "late")


def test_a_model_is_saved_as_ubjson_only(labelled: pa.Table, tmp_path: Path) -> None:
    trained = train(labelled, "late", rounds=2)

    assert trained.save(tmp_path / "m.ubj").read_bytes() == trained.content
    with pytest.raises(ModelRefused, match=r"`\.ubj`"):
        trained.save(tmp_path / "m.pkl")
