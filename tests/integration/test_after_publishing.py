"""One pipeline with drift, a challenger, reasons and labels: what each adds holds while the others are there."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.cli.opening import connector
from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.tables import metadata, runs
from penstock.settings import load_settings
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver
from tests.shop import SPEC, START, Place, payments_table, train_model

pytestmark = pytest.mark.slow

DAYS, A_DAY = 3, 600
EVERYTHING = """
decide: {decision: "case when score > 0.5 then 'block' else 'pass' end"}
drift: {against: model, watch: {amount: critical, "*": info}}
challengers: [{model: card-risk@challenger}]
reasons: {when: "decision = 'block'", top: 2}
labels:
  source: {kind: sql, connection: shop, table: chargebacks, key: [payment_id]}
  value: is_fraud
  seen_at: reported_at
  mature: 20d
  slices: [country]
retention: {keep_runs: 0, unpublished: 1m}
"""
REASONS, HISTORY = "card_risk_scores__reasons", "card_risk_scores__history"


class Everything:
    """A shop whose pipeline asks for all of it, with two days like the reference and one of ten times the amounts."""

    def __init__(self, place: Place) -> None:
        self.place = place
        train_model(place.registry.folder, alias="challenger", rounds=3)
        payments = payments_table()
        newest = payments.c.payment_id > (DAYS - 1) * A_DAY
        labels = sa.Table(
            "chargebacks",
            sa.MetaData(),
            sa.Column("payment_id", sa.BigInteger),
            sa.Column("is_fraud", sa.Integer),
            sa.Column("reported_at", sa.DateTime),
        )
        labels.create(place.shop.engine)
        seen = (START + timedelta(days=2)).replace(tzinfo=None)
        rows = [{"payment_id": n, "is_fraud": n % 3 // 2, "reported_at": seen} for n in range(1, DAYS * A_DAY + 1)]
        with place.shop.writing() as connection:
            connection.execute(sa.update(payments).where(newest).values(amount=payments.c.amount * 10))
            connection.execute(labels.insert(), rows)

    def run(self, *asked: Any) -> list[str]:
        driver = Driver(load_pipeline(self.place.spec), connector(load_settings()), self.place.registry)
        return driver.run(START + timedelta(days=DAYS), *asked)

    def runs(self, variant: str, state: str = "published") -> list[RunRecord]:
        found = [run for run in list_runs(self.place.warehouse, limit=100) if run.variant.startswith(variant)]
        return sorted((run for run in found if run.state == state), key=lambda run: run.interval_key)

    def ids_in(self, table: str) -> set[str]:
        with self.place.warehouse.reading() as connection:
            found = connection.execute(sa.text(f"select distinct run_id from {table}")).scalars().all()
        return {str(run_id).replace("-", "") for run_id in found}

    def blocked(self) -> int:
        with self.place.warehouse.reading() as connection:
            query = "select min(payment_id) from card_risk_scores where decision = 'block'"
            return int(connection.execute(sa.text(query)).scalar_one())

    def verify(self) -> None:
        assert verify_ledger(self.place.warehouse) == ()

    def call(self, *arguments: str) -> str:
        ended = CliRunner().invoke(app, [*arguments])
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    def tell(self, *arguments: str) -> Any:
        return json.loads(self.call(*arguments, "--json"))


@pytest.fixture(params=DIALECTS)
def everything(
    make_place: Callable[..., Place], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Everything:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of more than sixteen letters")
    dialect = request.param
    return Everything(make_place("sqlite", dialect, spec=SPEC + EVERYTHING, days=DAYS, a_day=A_DAY))


def test_reasons_and_profiles_are_the_champions_alone(everything: Everything) -> None:
    everything.run()

    champions, shadows = everything.runs("live"), everything.runs("shadow:")
    [halted] = everything.runs("live", "halted")
    assert (len(champions), len(shadows)) == (DAYS - 1, DAYS - 1)
    live = {run.run_id for run in (*champions, halted)}
    assert everything.ids_in("penstock_profiles") == live
    assert everything.ids_in(REASONS) == live
    assert all(run.rows_explained for run in champions)
    assert not any(run.rows_explained for run in shadows)
    everything.verify()


def test_a_halt_by_drift_is_accepted_with_its_reasons_and_without_its_challenger(everything: Everything) -> None:
    everything.run()
    [halted] = everything.runs("live", "halted")
    before = len(view_rows(everything.place.warehouse))

    everything.call("accept", halted.run_id, "--reason", "the currency changed", "--by", "Ada", "--yes")

    assert len(view_rows(everything.place.warehouse)) == before + (halted.rows_scored or 0)
    assert len(everything.runs("live")) == DAYS
    assert len(everything.runs("shadow:")) == DAYS - 1
    assert everything.run()[-1] == "plan", "an accepted interval is left alone"
    everything.verify()


def test_labels_judge_champion_and_challenger_on_the_same_rows_and_explain_shows_all(everything: Everything) -> None:
    everything.run()
    spec = str(everything.place.spec)
    everything.call("labels", "collect", spec)

    measured = everything.tell("monitor", "performance", spec)
    compared = everything.tell("monitor", "compare", spec, "card-risk/1", "card-risk/2")
    key = everything.blocked()
    explained = everything.tell("explain", spec, str(key))

    counted = {each["model"]: each["rows_labelled"] for each in measured}
    assert set(counted) == {"card-risk/1", "card-risk/2"}
    assert len({*counted.values()}) == 1
    assert compared["rows"]["both"] == sum(run.rows_scored or 0 for run in everything.runs("live"))
    assert len(explained["reasons"]) == 2
    assert {other["variant"] for other in explained["others"]} == {"shadow:card-risk/2"}
    assert [label["value"] for label in explained["labels"]] == [key % 3 // 2]
    assert {each["column"]: each["alarm"] for each in explained["drift"]}["amount"] is None
    shown = everything.call("explain", spec, str(key))
    assert f"{key % 3 // 2}, seen 2026-01-03 00:00 UTC" in shown
    assert "Drift of its run against card-risk/1" in shown
    everything.verify()


def test_a_challenger_promoted_backwards_can_be_explained_and_rolled_back(everything: Everything) -> None:
    everything.run()
    spec, key = str(everything.place.spec), everything.blocked()
    before = view_rows(everything.place.warehouse)
    move = ("publish", "--pipeline", spec, "--reason", "better", "--by", "Ada", "--yes", "--scored-by")

    everything.call(*move, "card-risk/2")

    assert {run.model for run in everything.runs("live")} == {"card-risk/2"}
    assert everything.tell("explain", spec, str(key))["run"]["model_version"] == "2"
    everything.verify()

    everything.call(*move, "card-risk/1")

    assert view_rows(everything.place.warehouse) == before
    everything.verify()


def test_erasure_and_pruning_reach_everything(everything: Everything) -> None:
    everything.run()
    spec, key = str(everything.place.spec), everything.blocked()
    everything.call("labels", "collect", spec)
    with everything.place.shop.writing() as connection:
        connection.execute(sa.text(f"delete from chargebacks where payment_id = {key}"))

    everything.call("forget", spec, str(key), "--yes")

    with everything.place.warehouse.reading() as connection:
        for table in (HISTORY, REASONS):
            found = connection.execute(sa.text(f"select count(*) from {table} where payment_id = {key}"))
            assert found.scalar_one() == 0, table
        for table in metadata.tables.values():
            texts = [column for column in table.columns if isinstance(column.type, sa.Text)]
            for column in texts:
                holds = sa.select(sa.func.count()).select_from(table).where(column == f'{{"payment_id": "{key}"}}')
                assert connection.execute(holds).scalar_one() == 0, column
    everything.verify()

    ended = {run.run_id for run in everything.runs("", "halted")}
    with everything.place.warehouse.writing() as connection:
        connection.execute(sa.update(runs).where(runs.c.run_id.in_(ended)).values(started_at=START, finished_at=START))
    everything.call("prune", spec, "--yes")

    assert not ended & (
        everything.ids_in(HISTORY) | everything.ids_in(REASONS) | everything.ids_in("penstock_profiles")
    )
    everything.verify()
