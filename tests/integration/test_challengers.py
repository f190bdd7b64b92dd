"""Challengers: other versions score the same rows in the same run, and nothing of theirs touches the champion."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.ledger.reader import RunRecord, list_runs
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.report.card import run_card
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver
from tests.shop import SPEC, START, Place, payments

CHALLENGER = "challengers: [{model: card-risk@challenger}]\n"
END = START + timedelta(days=3)


def register(registry: Registry, *, columns: tuple[str, ...] = (), classes: int = 2, rounds: int = 3) -> None:
    """Register another version of the model, which sees some of the columns and gives other scores."""
    rows = payments(days=2, a_day=300, seed=7)
    amount = rows["amount"].to_numpy()
    label = np.digitize(amount, [20, 40][: classes - 1])
    names = pa.array([str(n) for n in label]) if classes > 2 else pa.array(label)
    frame = rows.select(list(columns or ("amount", "items", "country", "first"))).append_column("label", names)
    objective = {"objective": "multi:softprob"} if classes > 2 else {}
    train(frame, "label", rounds=rounds, **objective).register(registry, "card-risk", alias="challenger")


@dataclass
class Shop:
    """A place with a challenger in its spec."""

    place: Place

    def run(self, days: int = 3, *asked: Any) -> list[str]:
        driver = Driver(load_pipeline(self.place.spec), connect, self.place.registry)
        return driver.run(START + timedelta(days=days), *asked)

    def runs(self, variant: str = "", state: str = "") -> list[RunRecord]:
        """Return runs, the oldest interval first. A variant is given by its beginning."""
        found = [run for run in list_runs(self.place.warehouse, limit=1000) if run.variant.startswith(variant)]
        return sorted((run for run in found if state in ("", run.state)), key=lambda run: run.interval_key)

    def rows_of(self, run: RunRecord) -> dict[int, float]:
        query = sa.text("select payment_id, score from card_risk_scores__history where run_id = :run")
        with self.place.warehouse.reading() as connection:
            return dict(connection.execute(query, {"run": run.run_id}).tuples().all())

    def verify(self) -> None:
        assert verify_ledger(self.place.warehouse) == ()


@pytest.fixture
def shop(make_place: Callable[..., Place], request: pytest.FixtureRequest) -> Shop:
    dialect = getattr(request, "param", "sqlite")
    place = make_place(dialect, dialect, SPEC + CHALLENGER)
    register(place.registry)
    return Shop(place)


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
def test_a_challenger_scores_the_same_rows_in_a_run_of_its_own(shop: Shop) -> None:
    steps = shop.run()

    assert steps.count("challenger published") == 3
    champions, shadows = shop.runs("live"), shop.runs("shadow:card-risk/2")
    assert [run.state for run in (*champions, *shadows)] == ["published"] * 6
    for champion, shadow in zip(champions, shadows, strict=True):
        assert shadow.champion_run_id == champion.run_id
        assert shadow.model == "card-risk/2"
        assert shadow.rows_extracted == champion.rows_extracted
        mine, theirs = shop.rows_of(shadow), shop.rows_of(champion)
        assert mine.keys() == theirs.keys()
        assert mine != theirs
    assert {row[0] for row in view_rows(shop.place.warehouse)} == set().union(*map(shop.rows_of, champions))
    assert len(view_rows(shop.place.warehouse)) == sum(run.rows_scored or 0 for run in champions)
    shop.verify()


def test_the_champions_rows_are_the_same_with_and_without_a_challenger(shop: Shop) -> None:
    shop.run()
    beside = view_rows(shop.place.warehouse)
    shop.place.spec.write_text(SPEC)

    shop.run(3, "restate", START, END)

    assert view_rows(shop.place.warehouse) == beside
    shop.verify()


def lacks_a_feature(shop: Shop) -> None:
    """The challenger takes a column that the features do not have."""
    rows = payments(days=2, a_day=300, seed=7)
    label = pa.array((rows["amount"].to_numpy() > 20).astype(int))
    frame = rows.select(["items"]).append_column("visits", rows["items"]).append_column("label", label)
    train(frame, "label", rounds=3).register(shop.place.registry, "card-risk", alias="challenger")


def has_other_outputs(shop: Shop) -> None:
    register(shop.place.registry, classes=3)


def is_damaged(shop: Shop) -> None:
    manifest = shop.place.registry.manifest("card-risk", "2")
    file = Path(shop.place.registry.folder) / "card-risk" / "2" / manifest.file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.chmod(0o644)
    file.write_bytes(content)


def is_gone(shop: Shop) -> None:
    shop.place.spec.write_text(shop.place.spec.read_text().replace("@challenger", "@nobody"))


def refuses_rows(shop: Shop) -> None:
    """The challenger does not know a country that a quarter of the payments come from."""
    rows = payments(days=2, a_day=300, seed=7)
    rows = rows.filter(pa.compute.not_equal(rows["country"], "DE"))  # type: ignore[attr-defined]
    label = pa.array((rows["amount"].to_numpy() > 20).astype(int))
    frame = rows.select(["amount", "country"]).append_column("label", label)
    train(frame, "label", rounds=3).register(shop.place.registry, "card-risk", alias="challenger")


def fails_an_expectation(shop: Shop) -> None:
    """A critical expectation on scores that the champion meets and the challenger does not."""
    register(shop.place.registry, columns=("amount",), rounds=30)
    limit = "{type: expect_column_max_to_be_between, column: score, min_value: 0, max_value: 0.72}"
    text = shop.place.spec.read_text()
    shop.place.spec.write_text(text.replace("  scores:\n", f"  scores:\n    - {limit}\n"))


@pytest.mark.parametrize(
    ("harm", "state", "why"),
    [
        (lacks_a_feature, "failed", "visits"),
        (has_other_outputs, "failed", "other columns than the champion"),
        (is_damaged, "failed", "is refused"),
        (is_gone, "", "there is no model"),
        (refuses_rows, "halted", "were refused"),
        (fails_an_expectation, "halted", "column_max"),
    ],
)
def test_a_challenger_that_fails_leaves_the_champion_published(
    shop: Shop, harm: Callable[[Shop], None], state: str, why: str
) -> None:
    harm(shop)

    shop.run(1)

    [champion] = shop.runs("live")
    assert champion.state == "published"
    assert len(view_rows(shop.place.warehouse)) == champion.rows_scored
    for shadow in shop.runs("shadow:"):
        assert (shadow.state, why in (shadow.error or "")) == (state, True), shadow.error
    assert len(shop.runs("shadow:")) == (1 if state else 0)
    card = run_card(shop.place.warehouse, champion.run_id).replace("<br>", " ").replace("\\", "")
    assert why in card
    shop.verify()


@pytest.mark.usefixtures("prefect_api")
def test_the_real_flow_scores_challengers_and_goes_on_without_one_that_fails(shop: Shop) -> None:
    from penstock.flows.score import score

    extra = "challengers: [{model: card-risk@challenger}, {model: card-risk@nobody}, {model: card-risk@3}]\n"
    shop.place.spec.write_text(SPEC + extra)
    lacks_a_feature(shop)
    shop.place.registry.promote("card-risk", "2", "challenger")

    state = score(str(shop.place.spec), end="2026-01-03", return_state=True)

    assert state.is_completed(), state.message
    assert {(run.variant, run.state) for run in shop.runs()} == {
        ("live", "published"),
        ("shadow:card-risk/2", "published"),
        ("shadow:card-risk/3", "failed"),
    }
    assert len(shop.runs("live", "published")) == 2
    assert all("visits" in (run.error or "") for run in shop.runs("shadow:card-risk/3"))
    shop.verify()
