"""Runs with reasons on three warehouses: whose reasons, how many, and what reaches them afterwards."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from click.testing import Result
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import Database, open_database
from penstock.errors import SpecError
from penstock.explain.reasons import state_keys
from penstock.interval import DataInterval
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.reader import list_runs, validations_of
from penstock.ledger.writer import Totals, publish
from penstock.models.training import train
from penstock.privacy.masking import HIDDEN, MaskingPolicy
from penstock.run.explained_rows import ReasonCounts, write_reasons
from penstock.run.load import load_partition
from penstock.run.reasons_table import BUDGET
from penstock.run_types import ChosenRows, Features, ModelPin, Partition, ReasonRows, ScoredRows
from penstock.spec.yaml_file import load_pipeline, parse_pipeline
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
    assert len(explained[0]) == 150
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


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], input="y\n")


def test_plan_and_check_show_what_reasons_cost_and_whom_they_concern(make_place: Callable[..., Place]) -> None:
    make_place(spec=SPEC + REASONS, days=1, a_day=40)

    planned, checked = invoke("plan", "card-risk.yaml"), invoke("check", "card-risk.yaml")

    assert "reasons: 40 rows at most, 0.0 s CPU (" in planned.stdout
    assert re.search(r"reasons: explains \d+ of 40 sample rows: decision = 'block'", checked.stdout), checked.stdout


def test_plan_shows_how_many_rows_the_budget_explains(make_place: Callable[..., Place]) -> None:
    make_place(spec=SPEC + EVERY % (20, "note"), days=1, a_day=40)

    planned = json.loads(invoke("plan", "card-risk.yaml", "--json").stdout)["intervals"][0]["reasons"]
    shown = invoke("plan", "card-risk.yaml").stdout

    assert (planned["rows"], planned["most_rows"]) == (40, 20)
    assert "reasons: 20 of 40 rows at most, 0.0 s CPU (" in shown
    assert "if `when` chooses more, these say `budget`" in " ".join(shown.split())


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_a_text_for_an_unknown_feature_is_refused_with_the_nearest(
    make_place: Callable[..., Place], prefect_api: str, command: str
) -> None:
    make_place(spec=SPEC + REASONS.replace("amount:", "amuont:"), days=1, a_day=20)

    ended = invoke(command, "card-risk.yaml")

    assert ended.exit_code != 0
    assert "text for `amuont`" in ended.output
    assert "`amount`" in ended.output


def test_a_condition_of_an_unknown_column_is_refused_with_the_nearest() -> None:
    named = SPEC + "features: select payment_id, created_at, updated_at, amount, items, country from payments\n"
    with pytest.raises(SpecError, match=r"`reasons.when` needs `decison`.*`decision`"):
        parse_pipeline((named + REASONS.replace("decision =", "decison =")).encode(), "x")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_prune_and_forget_reach_the_reasons(
    make_place: Callable[..., Place], dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of more than 16 characters")
    spec = SPEC + EVERY % (1000, "note") + "retention: {keep_runs: 0}\n"
    place = make_place(dialect, dialect, spec=spec, days=1, a_day=20)
    driver = Driver(load_pipeline(place.spec), connect, place.registry)
    for _ in range(2):
        driver.run(LATER, "restate", START, LATER)
    assert len({str(row["run_id"]) for row in reasons_of(place.warehouse)}) == 2

    pruned = invoke("prune", "card-risk.yaml")
    kept = {str(row["run_id"]) for row in reasons_of(place.warehouse)}
    erased = invoke("forget", "card-risk.yaml", "7", "--yes")

    assert "reasons" in pruned.stdout
    assert len(kept) == 1
    assert "card_risk_scores__reasons" in erased.stdout
    assert {row["payment_id"] for row in reasons_of(place.warehouse)} == set(range(1, 21)) - {7}
    assert verify_ledger(place.warehouse) == ()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        ("delete from card_risk_scores__reasons where payment_id = 4", "a published run has its reasons"),
        ("update card_risk_scores__reasons set payment_id = 99 where payment_id = 4", "each reason is of a scored row"),
        ("update penstock_runs set rows_over_budget = 3", "a published run has its reasons"),
    ],
)
def test_the_ledger_is_verified_with_its_reasons(
    make_place: Callable[..., Place], dialect: str, change: str, invariant: str
) -> None:
    place = make_place(dialect, dialect, spec=SPEC + EVERY % (1000, "note"), days=1, a_day=20)
    assert drive(place) == "publish"

    with place.warehouse.writing() as connection:
        connection.exec_driver_sql(change)

    assert [violation.invariant for violation in verify_ledger(place.warehouse)] == [invariant]


STEPS = SPEC.replace(
    "model: card-risk@champion\n",
    "models:\n"
    "  - {name: screen, model: card-risk@champion}\n"
    "  - {name: deep, model: deep-risk@champion, inputs: {opinion: screen_score}, when: screen_score > 0.4}\n",
).replace("column: score,", "column: screen_score,")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_of_several_steps_the_deciding_one_is_explained(make_place: Callable[..., Place], dialect: str) -> None:
    spec = STEPS + "reasons: {when: screen_score > 0, top: 9}\n"
    place = make_place(dialect, dialect, spec=spec, days=1, a_day=60)
    rows = payments(days=1, a_day=200, seed=4)
    opinion = np.random.default_rng(4).random(200)
    frame = rows.select(["amount", "items"]).append_column("opinion", pa.array(opinion))
    label = pa.array(((opinion > 0.5) & (rows["amount"].to_numpy() > 20)).astype(int))
    train(frame.append_column("label", label), "label", rounds=5).register(
        place.registry, "deep-risk", alias="champion"
    )

    assert drive(place) == "publish"

    found = reasons_of(place.warehouse)
    left_out = {row["payment_id"] for row in found if row["text"] == "not scored"}
    assert {row["feature"] for row in found} == {"amount", "opinion", None}
    assert 0 < len(left_out) < 60
    [run] = list_runs(place.warehouse)
    assert run.rows_explained == 60 - len(left_out)
    with place.warehouse.reading() as connection:
        query = "select payment_id, screen_score from card_risk_scores"
        screened = dict(connection.exec_driver_sql(query).tuples().all())
    opinions = {row["payment_id"]: row["value"] for row in found if row["feature"] == "opinion"}
    assert all(float(value) == pytest.approx(screened[key], abs=1e-7) for key, value in opinions.items())
    assert verify_ledger(place.warehouse) == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_that_outgrows_its_type_gets_a_wider_one_in_both_tables(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str], dialect: str
) -> None:
    warehouse = open_database(use_settings(warehouse=database_url(dialect, "warehouse")), "warehouse")
    pipeline = parse_pipeline((SPEC + EVERY % (9, "note")).encode(), "x")
    pin = ModelPin("card-risk", "1", "d" * 64)
    for day, key in enumerate((pa.array([7], pa.int64()), pa.array([Decimal(10**20)], pa.decimal128(21, 0)))):
        interval = DataInterval(START + timedelta(days=day), START + timedelta(days=day + 1))
        run = claim(warehouse, ClaimRequest(pipeline, interval, pin, "due", 60.0))
        assert run is not None
        row = {"rank": pa.array([1], pa.int32()), "feature": ["amount"], "contribution": [0.5], "value": ["1"]}
        made = pa.table({"payment_id": key, **row, "text": ["amount"]})
        reasons = ReasonRows(state_keys(pa.table({"payment_id": key}), BUDGET), ChosenRows())
        rows = pa.table({"payment_id": key, "score": [0.5]})
        scored = ScoredRows(rows, Features(rows, 1, 0, (), ()), (), (), (), reasons=reasons)
        load_partition(warehouse, run, Partition(0, 1, None, None, 1), scored, {}, 1)
        write_reasons(warehouse, run, [made], ReasonCounts(1, 0))
        publish(warehouse, run, Totals(1, 1, 0, 0, 1, 0), ())

    assert [int(row["payment_id"]) for row in reasons_of(warehouse, "card_risk_scores_reasons")] == [7, 10**20]
    assert verify_ledger(warehouse) == ()
