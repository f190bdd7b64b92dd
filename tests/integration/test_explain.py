"""`penstock explain` on three warehouses: what it shows of a key, and when it makes reasons itself."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.ledger.reader import list_runs
from penstock.ledger.writer import withdraw
from penstock.privacy.masking import make_masking
from penstock.settings import load_settings
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import DIALECTS
from tests.driver import Driver
from tests.integration.test_quarantine import change, run_score
from tests.integration.test_reasons import EVERY, LATER, REASONS, contributions_of_the_shop, reasons_of
from tests.shop import SPEC, START, Place, payments


def explain(key: str, *options: str) -> str:
    ended = CliRunner().invoke(app, ["explain", "card-risk.yaml", key, *options])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def explained(key: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(explain(key, "--json", *options))
    return found


def score(place: Place, times: int = 1) -> None:
    driver = Driver(load_pipeline(place.spec), connect, place.registry)
    for _ in range(times):
        assert driver.run(LATER, "restate", START, LATER)[-1] == "publish"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_score_is_shown_with_its_run_reasons_and_earlier_scores(
    make_place: Callable[..., Place], dialect: str
) -> None:
    place = make_place(dialect, dialect, spec=SPEC + REASONS, days=1, a_day=40)
    score(place, times=2)
    with place.warehouse.reading() as connection:
        blocked = connection.exec_driver_sql("select min(payment_id) from card_risk_scores_reasons").scalar_one()

    found, text = explained(str(blocked)), explain(str(blocked))

    newest, older = list_runs(place.warehouse)
    assert found["run"]["run_id"] == newest.run_id
    assert found["origin"] == "stored with the run"
    assert [(other["run_id"], other["state"]) for other in found["others"]] == [(older.run_id, "superseded")]
    theirs = contributions_of_the_shop(place, 40)[blocked]
    for reason in found["reasons"]:
        assert reason["contribution"] == pytest.approx(theirs[reason["feature"]], abs=1e-6)
    assert found["columns"]["decision"] == "block"
    assert newest.run_id[:8] in text
    assert "card-risk/1" in text
    assert newest.spec_fingerprint[:12] in text
    assert "Reasons: stored with the run" in text
    assert "█" in text
    assert [move["alias"] for move in found["promotions"]] == ["champion"]
    assert "Alias champion moved to card-risk/1" in text
    assert explained(str(blocked), "--run", older.run_id[:8])["run"]["state"] == "superseded"
    withdraw(place.warehouse, newest.run_id)
    assert explained(str(blocked))["run"]["state"] == "withdrawn"
    assert "has not scored this key" in explained("4711", "--run", older.run_id[:8])["absence"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_missing_reasons_are_made_only_from_the_same_score(make_place: Callable[..., Place], dialect: str) -> None:
    place = make_place(dialect, dialect, days=1, a_day=40)
    score(place)

    now = explained("7")
    change(place.shop, "update payments set amount = amount + 1000, items = 9 - items where payment_id = 7")
    changed = explained("7")
    change(place.shop, "delete from payments where payment_id = 7")
    gone = explained("7")

    assert now["origin"] == "made now, from the same score"
    theirs = contributions_of_the_shop(place, 40)[7]
    for reason in now["reasons"]:
        assert reason["contribution"] == pytest.approx(theirs[reason["feature"]], abs=1e-6)
    assert (changed["reasons"], gone["reasons"]) == ([], [])
    assert "the source or the spec has changed since: `score` is " in changed["origin"]
    assert "the source has no row of this key in the interval any more" in gone["origin"]


def test_a_row_beyond_the_budget_is_explained_on_demand(make_place: Callable[..., Place]) -> None:
    place = make_place(spec=SPEC + EVERY % (0, "note"), days=1, a_day=20)
    score(place)

    found = explained("3")

    assert found["origin"] == "made now, from the same score"
    assert [reason["rank"] for reason in found["reasons"]][:1] == [1]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_without_a_score_is_told_why(
    make_place: Callable[..., Place], dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of more than 16 characters")
    spec = SPEC.replace("expectations:\n", "features: select * from payments where payment_id != 5\nexpectations:\n", 1)
    place = make_place(dialect, dialect, spec=spec + "quarantine_limit: 0.5\n", days=2, a_day=20)
    change(place.shop, "update payments set amount = -5 where payment_id = 3")
    score(place)

    refused, excluded, later, unknown = (explained(key) for key in ("3", "5", "35", "4711"))
    assert CliRunner().invoke(app, ["forget", "card-risk.yaml", "7", "--yes"]).exit_code == 0
    forgotten = explained("7")

    assert [row["stage"] for row in refused["refusals"]] == ["payments"]
    assert "column_values_to_be_between" in refused["refusals"][0]["reasons"][0]
    assert "`features` leaves it out" in excluded["absence"]
    assert "Its interval is not published." in later["absence"]
    assert "does not have this key" in unknown["absence"]
    assert (forgotten["run"], len(forgotten["forgotten_at"])) == (None, 1)
    assert "were forgotten" in explain("7")


ORDERS = """
name: orders
sources:
  orders: {kind: sql, connection: shop, table: payments, key: [country, payment_id], private: {country: hash}}
model: card-risk@champion
destination: {connection: warehouse, table: order_scores}
partition_by: country
features: |
  select country, payment_id, amount, items, first, count(*) over (partition by country) as alike from orders
reasons: {when: score > 0.5, budget: {rows: 0}}
"""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_of_several_private_columns_is_explained(
    make_place: Callable[..., Place], dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of more than 16 characters")
    place = make_place(dialect, dialect, spec=ORDERS, days=1, a_day=40)
    pipeline = load_pipeline(place.spec)
    change(place.shop, "update payments set amount = null where payment_id = 5")
    masking = make_masking(pipeline, load_settings())
    assert Driver(pipeline, connect, place.registry, masking).run(LATER)[-1] == "publish"
    country = payments(days=1, a_day=40)["country"].to_pylist()[6]

    ended = CliRunner().invoke(
        app, ["explain", str(place.spec), json.dumps({"country": country, "payment_id": 7}), "--json"]
    )

    found = json.loads(ended.stdout)
    assert found["origin"] == "made now, from the same score"
    assert {r["value"] for r in found["reasons"] if r["feature"] == "country"} <= {"(private)"}
    assert found["key"] == {"country": country, "payment_id": "7"}


@pytest.mark.usefixtures("prefect_api")
def test_the_real_flow_stores_what_the_command_explains(make_place: Callable[..., Place]) -> None:
    place = make_place(spec=(SPEC + REASONS).replace("partition_rows: 150", "partition_rows: 15"), days=1, a_day=40)

    run_score(place, end="2026-01-02")

    [run] = list_runs(place.warehouse)
    assert (run.state, run.partitions) == ("published", 3)
    blocked = reasons_of(place.warehouse)[0]["payment_id"]
    assert explained(str(blocked))["origin"] == "stored with the run"
    card = CliRunner().invoke(app, ["show", run.run_id[:8]]).stdout
    assert "with reasons" in card
