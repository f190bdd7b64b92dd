"""A spec that names the columns of its key in another order finds all that it found before."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.labels.performance import list_judged_runs, read_performance, refresh_performance
from penstock.ledger.migration_fills import FILLS
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import performance
from penstock.privacy.masking import make_masking
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.driver import SETTINGS, Driver
from tests.integration.test_labels import Shop
from tests.shop import SPEC, START, Place, train_model

BEFORE, AFTER = "key: [payment_id, country]", "key: [country, payment_id]"
REFUSED, RELEASED, SCORED = 3, 4, 7
SCENE = SPEC.replace("key: [payment_id]", f"{BEFORE}\n    private: {{country: hash}}").replace(
    "keep: [amount, country]", "keep: [amount]"
)
SCENE += """
quarantine_limit: 0.5
seal: true
reasons: {when: "true", budget: {rows: 40}}
challengers: [{model: card-risk@challenger, share: 0.5}]
labels:
  source: {kind: sql, connection: shop, table: outcomes, key: [payment_id, country]}
  value: is_fraud
  seen_at: reported_at
"""
DAY = START + timedelta(days=1)


def command(*words: str) -> str:
    ended = CliRunner().invoke(app, list(words))
    assert ended.exit_code == 0, ended.output
    return ended.output


class Scene(Shop):
    """A day that is scored, sealed, explained and labelled, with two refused rows, one of them released."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        train_model(self.settings.models_folder, alias="challenger", rounds=3)
        outcomes = "select payment_id, country, 1 as is_fraud, created_at as reported_at from payments"
        with place.shop.writing() as connection:
            refused = f"update payments set amount = -5 where payment_id in ({REFUSED}, {RELEASED})"
            connection.execute(sa.text(refused))
            connection.execute(sa.text(f"create table outcomes as {outcomes}"))
            found = connection.execute(sa.text("select payment_id, country from payments"))
            self.countries = dict(found.tuples().all())

    def run(self, *asked: Any) -> list[str]:
        masking = make_masking(self.pipeline, self.settings)
        settings = SETTINGS.model_copy(update={"seal_key": self.settings.seal_key})
        return Driver(self.pipeline, self.connect, self.place.registry, masking, settings).run(DAY, *asked)

    def key(self, payment_id: int) -> str:
        return json.dumps({"payment_id": payment_id, "country": self.countries[payment_id]})

    def explain(self, payment_id: int) -> Any:
        return json.loads(command("explain", str(self.place.spec), self.key(payment_id), "--json"))

    def labelled(self) -> int:
        refresh_performance(self.warehouse, self.question())
        judged = [run for run in list_judged_runs(self.warehouse, "card-risk") if run.variant == "live"]
        return sum(each.all_rows.labelled for each in read_performance(self.warehouse, judged))

    def sampled(self) -> set[int]:
        """Return the keys of the rows that the challenger scored last."""
        newest = next(run.run_id for run in list_runs(self.warehouse) if run.variant.startswith("shadow:"))
        query = sa.text("select payment_id from card_risk_scores__history where run_id = :run")
        with self.warehouse.reading() as connection:
            return set(connection.execute(query, {"run": newest}).scalars())


@pytest.fixture
def scene(make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Scene:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of more than sixteen letters")
    monkeypatch.setenv("PENSTOCK_SEAL_KEY", "another secret of more than sixteen letters")
    dialect = getattr(request, "param", "sqlite")
    made = Scene(make_place(dialect, dialect, spec=SCENE, days=1, a_day=40))
    assert made.run()[-1] == "challenger published"
    command("quarantine", "release", str(made.place.spec), "--key", made.key(RELEASED), "--yes", "--no-run")
    assert made.collect().new == 40
    return made


@pytest.mark.parametrize("scene", DIALECTS, indirect=True)
def test_another_order_of_the_key_orphans_nothing(scene: Scene) -> None:
    sampled = scene.sampled()
    scene.place.spec.write_text(scene.place.spec.read_text().replace(BEFORE, AFTER))
    scene.pipeline = load_pipeline(scene.place.spec)
    spec = str(scene.place.spec)

    assert scene.collect().new == 0
    assert scene.labelled() == 38
    told = scene.explain(SCORED)
    assert (len(told["labels"]), told["seal"], told["origin"]) == (1, "holds", "stored with the run")
    assert len(scene.explain(REFUSED)["refusals"]) == 2  # of the champion and of the challenger
    assert "every seal holds" in command("ledger", "check-seals", spec)
    assert scene.run()[-1] == "challenger published"  # the released row
    assert scene.explain(RELEASED)["run"]["state"] == "published"
    assert scene.sampled() - {RELEASED} == sampled
    assert len(scene.explain(SCORED)["others"]) == 1 + 2 * (SCORED in sampled)
    removed = command("forget", spec, scene.key(REFUSED), "--yes")
    assert [name in removed for name in ("penstock_quarantine", "penstock_labels")] == [True, True]
    assert scene.explain(REFUSED)["refusals"] == scene.explain(REFUSED)["labels"] == []
    assert len(scene.explain(REFUSED)["forgotten_at"]) == 1
    assert verify_ledger(scene.warehouse) == ()


@pytest.mark.parametrize("scene", DIALECTS, indirect=True)
def test_labels_in_the_order_of_a_spec_get_that_of_the_names(scene: Scene) -> None:
    """As version 10 of the ledger stored them. One of them is there in both orders."""
    stored = scene.stored()
    with scene.warehouse.writing() as connection:
        for key, *_ in stored[1:]:
            as_before = json.dumps(dict(reversed(json.loads(key).items())))
            statement = sa.text("update penstock_labels set key = :before where key = :key")
            connection.execute(statement, {"before": as_before, "key": key})
        first = json.dumps(dict(reversed(json.loads(stored[0][0]).items())))
        columns = "pipeline, :before, seen_at, value, collected_at, addition"
        again = sa.text(f"insert into penstock_labels select {columns} from penstock_labels where key = :key")
        connection.execute(again, {"before": first, "key": stored[0][0]})
    assert scene.labelled() < 38

    marks = sa.select(sa.func.min(performance.c.additions), sa.func.max(performance.c.additions))
    with scene.warehouse.writing() as connection:
        FILLS[11](connection)
        assert connection.execute(marks).one() == (-1, -1)  # all runs are measured again

    assert scene.stored() == stored
    assert scene.labelled() == 38
    with scene.warehouse.writing() as connection:
        before = connection.execute(marks).one()
        FILLS[11](connection)
        assert connection.execute(marks).one() == before != (-1, -1)
    assert scene.collect().new == 0
