"""Runs with reasons on three warehouses: whose reasons, how many, and what reaches them afterwards."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import xgboost as xgb

from penstock.database.connections import Database
from penstock.ledger.reader import list_runs, validations_of
from penstock.privacy.masking import HIDDEN, MaskingPolicy
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.driver import Driver
from tests.shop import SPEC, START, Place, payments

REASONS = """
decide: {decision: "case when score > 0.5 then 'block' else 'pass' end"}
reasons: {when: "decision = 'block'", top: 2, direction: raises, texts: {amount: The amount is unusual}}
"""
EVERY = "\nreasons: {when: score >= 0, budget: {rows: %s}, over_budget: %s}\n"
LATER = START + timedelta(days=1)


def drive(place: Place, **fields: Any) -> str:
    """Score the first day and return the last step."""
    pipeline = load_pipeline(place.spec)
    pipeline = pipeline.model_copy(update=fields) if fields else pipeline
    return Driver(pipeline, connect, place.registry).run(LATER)[-1]


def reasons_of(database: Database, what: str = "card_risk_scores__reasons") -> list[dict[str, Any]]:
    with database.reading() as connection:
        rows = connection.exec_driver_sql(f"select * from {what} order by payment_id, rank").mappings().all()
    return [dict(row) for row in rows]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_blocked_rows_have_the_reasons_of_xgboost_in_words(make_place: Callable[..., Place], dialect: str) -> None:
    place = make_place(dialect, dialect, spec=SPEC + REASONS, days=1, a_day=60)

    assert drive(place) == "publish"

    found = reasons_of(place.warehouse)
    with place.warehouse.reading() as connection:
        query = "select payment_id, decision from card_risk_scores order by payment_id"
        decided = dict(connection.exec_driver_sql(query).tuples().all())
    blocked = {key for key, decision in decided.items() if decision == "block"}
    assert {row["payment_id"] for row in found} == blocked
    assert 0 < len(blocked) < 60
    theirs = contributions_of_the_shop(place)
    for row in found:
        assert row["contribution"] == pytest.approx(theirs[row["payment_id"]][row["feature"]], abs=1e-6)
    assert all(row["contribution"] > 0 for row in found)
    assert {row["rank"] for row in found} == {1, 2}
    amounts = [row for row in found if row["feature"] == "amount"]
    assert {row["text"] for row in amounts} == {"The amount is unusual"}
    assert {row["text"] for row in found} - {"The amount is unusual"} <= {"items", "country", "first"}
    given = {row["payment_id"]: row["amount"] for row in payments(days=1, a_day=60).to_pylist()}
    assert all(row["value"] == repr(given[row["payment_id"]]) for row in amounts)
    [run] = list_runs(place.warehouse)
    assert (run.rows_explained, run.rows_over_budget) == (len(blocked), 0)
    assert len(reasons_of(place.warehouse, "card_risk_scores_reasons")) == len(found)
    assert verify_ledger(place.warehouse) == ()


def contributions_of_the_shop(place: Place, a_day: int = 60) -> dict[int, dict[str, float]]:
    """What XGBoost itself says of the payments, by key and feature."""
    model = place.registry.load(place.registry.resolve("card-risk@champion"))
    rows = payments(days=1, a_day=a_day)
    frame = rows.select(list(model.manifest.feature_names)).to_pandas()
    for feature in model.manifest.features:
        if feature.dtype == "category":
            frame[feature.name] = frame[feature.name].astype(_category(feature.categories))
    found = model.booster.predict(xgb.DMatrix(frame, enable_categorical=True), pred_contribs=True)
    names = model.manifest.feature_names
    return {
        key: dict(zip(names, map(float, row), strict=False))
        for key, row in zip(rows["payment_id"].to_pylist(), found, strict=True)
    }


def _category(names: tuple[str, ...]) -> Any:
    import pandas as pd

    return pd.CategoricalDtype(list(names))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_budget_is_kept_and_every_partition_size_explains_the_same_rows(
    make_place: Callable[..., Place], dialect: str
) -> None:
    place = make_place(dialect, dialect, spec=SPEC + EVERY % (150, "note"), days=1, a_day=400)
    pipeline = load_pipeline(place.spec)
    explained = []
    for rows in (400, 100, 10):
        driver = Driver(pipeline.model_copy(update={"partition_rows": rows}), connect, place.registry)
        assert driver.run(LATER, "restate", START, LATER)[-1] == "publish"
        found = reasons_of(place.warehouse, "card_risk_scores_reasons")
        beyond = {row["payment_id"] for row in found if row["text"] == "budget"}
        explained.append({row["payment_id"] for row in found} - beyond)
        [run] = list_runs(place.warehouse, states=["published"])
        assert run.partitions == 400 // rows
        assert (run.rows_explained, run.rows_over_budget) == (len(explained[-1]), len(beyond))
        assert len(explained[-1]) + len(beyond) == run.rows_scored
        [note] = [v for v in validations_of(place.warehouse, run.run_id) if v.stage == "reasons"]
        assert (note.outcome, note.unexpected) == ("noted", len(beyond))
        assert verify_ledger(place.warehouse) == ()
    assert 60 < len(explained[0]) <= 150
    assert explained[0] == explained[1] == explained[2]


def test_rows_beyond_the_budget_halt_a_run_that_says_so(make_place: Callable[..., Place]) -> None:
    place = make_place(spec=SPEC + EVERY % (10, "halt"), days=1, a_day=40)

    ended = drive(place)

    assert ended.startswith("halted: ")
    assert "reasons: within the budget" in ended
    assert reasons_of(place.warehouse, "card_risk_scores_reasons") == []


def test_private_values_are_hidden_in_reasons(make_place: Callable[..., Place]) -> None:
    spec = (SPEC + REASONS).replace("keep: [amount, country]", "keep: [country]")
    spec = spec.replace("updated_column: updated_at", "updated_column: updated_at\n    private: {amount: hash}")
    place = make_place(spec=spec, days=1, a_day=40)
    pipeline = load_pipeline(place.spec)

    Driver(pipeline, connect, place.registry, MaskingPolicy(pipeline.private_columns, b"s" * 16)).run(LATER)

    values = {row["value"] for row in reasons_of(place.warehouse) if row["feature"] == "amount"}
    assert values == {HIDDEN}
