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
from typer.testing import CliRunner

from penstock import Project
from penstock.cli.app import app
from penstock.errors import PublishRefused, SettingsError, SpecError
from penstock.ledger.quarantine import count_rows, quarantined_rows
from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.releases import release_rows
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.privacy.masking import NO_MASKING
from penstock.privacy.row_key import RowKey
from penstock.report.card import run_card
from penstock.run_types import ModelPin, ScoringRun
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks import process_resources
from penstock.tasks.process_resources import connect
from penstock.upkeep.erasure import ErasureRequest, erase
from penstock.upkeep.live_changes import publish_with_rows
from penstock.upkeep.prune import prune
from penstock.upkeep.prune_plan import plan_prune
from penstock.upkeep.rename import rename_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver, lapse_leases
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
def test_the_real_flow_scores_challengers_and_goes_on_without_one_that_fails(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.flows.score import score

    monkeypatch.setenv("PENSTOCK_RUNNER", "processes:2")
    process_resources.settings.cache_clear()
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


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
def test_a_shadow_is_published_backwards_in_time_and_the_others_follow(shop: Shop) -> None:
    register(shop.place.registry, columns=("amount",))
    shop.place.spec.write_text(SPEC + "challengers: [{model: card-risk@2}, {model: card-risk@3}]\n")
    shop.run()
    champions = shop.runs("live")
    second, third = shop.runs("shadow:card-risk/2"), shop.runs("shadow:card-risk/3")

    publish_with_rows(shop.place.warehouse, [run.run_id for run in second[:2]], "Ada", "it sees more")

    live = shop.runs("live", "published")
    assert [run.run_id for run in live] == [second[0].run_id, second[1].run_id, champions[2].run_id]
    assert all((run.champion_run_id, run.share) == (None, None) for run in live)
    assert [run.state for run in champions] == ["published"] * 3  # as read before
    assert [run.champion_run_id for run in shop.runs("shadow:card-risk/3")] == [run.run_id for run in live]
    expected = shop.rows_of(live[0]) | shop.rows_of(live[1]) | shop.rows_of(live[2])
    assert {row[0]: row[1] for row in view_rows(shop.place.warehouse)} == expected
    assert shop.run() == ["resolve", "collect logs", "plan"]  # nothing is due, and no row is late
    shop.verify()
    publish_with_rows(shop.place.warehouse, [run.run_id for run in champions[:2]], "Ada", "it does not")
    assert [run.run_id for run in shop.runs("live", "published")] == [run.run_id for run in champions]
    assert [run.champion_run_id for run in shop.runs("shadow:card-risk/3")] == [run.run_id for run in champions]
    assert len(third) == 3
    shop.verify()


def test_a_share_takes_the_same_keys_whatever_the_partitions(shop: Shop) -> None:
    chosen = []
    for size in (40, 150, 1000):
        text = SPEC.replace("partition_rows: 150", f"partition_rows: {size}")
        shop.place.spec.write_text(f"{text}challengers: [{{model: card-risk@challenger, share: 0.3}}]\n")
        shop.run(3, "restate", START, END)
        runs = shop.runs("shadow:", "published")
        chosen.append(set().union(*map(shop.rows_of, runs)))
        for run in runs:
            parts = (run.rows_scored, run.rows_quarantined, run.rows_excluded)
            assert run.rows_extracted == sum(part or 0 for part in parts) == 250
            assert run.share == 0.3
    assert chosen[0] == chosen[1] == chosen[2]
    assert 150 < len(chosen[0]) < 300
    with pytest.raises(PublishRefused, match=r"share of the rows: .* scored 30\.0%"):
        publish_with_rows(shop.place.warehouse, [shop.runs("shadow:", "published")[0].run_id], "Ada", "it is better")
    shop.verify()


def test_a_challenger_that_is_the_champion_is_left_out(shop: Shop) -> None:
    shop.place.registry.promote("card-risk", "1", "challenger")

    shop.run(1)

    assert [run.variant for run in shop.runs()] == ["live"]
    card = run_card(shop.place.warehouse, shop.runs()[0].run_id)
    assert "not scored: it is<br>card-risk/1" in card or "it is card-risk/1" in card.replace("<br>", " ")


def test_a_restate_supersedes_the_challengers_runs_too(shop: Shop) -> None:
    shop.run()

    shop.run(3, "restate", START, START + timedelta(days=1))

    first = [run for run in shop.runs("shadow:") if run.interval_start == START]
    assert sorted(run.state for run in first) == ["published", "superseded"]
    newer = next(run for run in first if run.state == "published")
    older = next(run for run in first if run.state == "superseded")
    assert older.replaced_by_run_id == newer.run_id
    assert newer.champion_run_id in {run.run_id for run in shop.runs("live", "published")}
    shop.verify()


def test_a_challenger_whose_champion_is_published_and_whose_process_died_is_given_up(shop: Shop) -> None:
    driver = Driver(load_pipeline(shop.place.spec), connect, shop.place.registry)
    steps = driver.steps(START + timedelta(days=1))
    while next(steps) != "publish":
        pass
    steps.close()
    [champion], [shadow] = shop.runs("live"), shop.runs("shadow:")
    assert (champion.state, shadow.state) == ("published", "running")
    shop.verify()
    lapse_leases(shop.place.warehouse)

    shop.run(1)

    assert [run.state for run in shop.runs()] == ["published", "abandoned"]
    shop.verify()


def test_refused_rows_of_a_challenger_are_its_own(shop: Shop) -> None:
    refuses_rows(shop)
    shop.place.spec.write_text(shop.place.spec.read_text() + "quarantine_limit: 0.5\n")

    shop.run(1)

    [champion], [shadow] = shop.runs("live"), shop.runs("shadow:")
    assert (champion.rows_quarantined, shadow.rows_quarantined) == (0, 61)
    assert quarantined_rows(shop.place.warehouse, "card-risk") == []
    refused = quarantined_rows(shop.place.warehouse, run_id=shadow.run_id, limit=100)
    assert (len(refused), count_rows(shop.place.warehouse, "card-risk")) == (61, 0)
    with pytest.raises(SettingsError, match=f"its champion's run {champion.run_id[:8]}"):
        release_rows(shop.place.warehouse, shadow.run_id, refused, "Ada", "they are right")
    shop.verify()


def test_plan_check_and_runs_name_the_challengers(shop: Shop) -> None:
    def invoke(*arguments: str) -> str:
        return " ".join(CliRunner().invoke(app, arguments).output.split())

    listed = (
        "challengers: [{model: card-risk@challenger, share: 0.5}, {model: card-risk@1}, {model: card-risk@nobody}]\n"
    )
    shop.place.spec.write_text(SPEC + listed)
    spec = str(shop.place.spec)

    plan, check = invoke("plan", spec, "--end", "2026-01-02"), invoke("check", spec)

    assert "challenger card-risk/2: 50.0% of the rows" in plan
    assert "challenger card-risk@1 would not be scored: it is card-risk/1, the champion's version" in plan
    assert "challenger card-risk@nobody would not be scored: there is no model" in plan
    assert "card-risk/2 scores 50.0% of the rows" in check
    assert "challenger `card-risk@nobody`" in check
    shop.run(1)
    assert " shadow published 1" in invoke("runs")
    shown = invoke("show", shop.runs("shadow:")[0].run_id)
    assert f"Challenger of run {shop.runs('live')[0].run_id[:8]}, scores 50.0% of the rows" in shown


def test_challengers_go_with_one_model(shop: Shop) -> None:
    steps = SPEC.replace("model: card-risk@champion", "models: [{name: screen, model: card-risk@champion}]")
    shop.place.spec.write_text(steps + CHALLENGER)

    with pytest.raises(SpecError, match="`challengers` go with `model`, not with `models`"):
        load_pipeline(shop.place.spec)


def test_python_scores_challengers_in_the_same_order(shop: Shop) -> None:
    project = Project()
    pipeline = project.load_pipeline(str(shop.place.spec))
    [planned] = project.plan(pipeline, now=START + timedelta(days=1)).intervals

    result = project.score_interval(pipeline, planned)

    [shadow] = shop.runs("shadow:")
    assert (shadow.state, shadow.champion_run_id, shadow.rows_scored) == ("published", result.run_id, result.scored)
    shop.verify()


def test_prune_forget_and_rename_reach_the_runs_of_challengers(shop: Shop) -> None:
    shop.run(1)
    shop.run(1, "restate", START, START + timedelta(days=1))
    shop.place.spec.write_text(shop.place.spec.read_text() + "retention: {keep_runs: 0}\n")
    pipeline, warehouse = load_pipeline(shop.place.spec), shop.place.warehouse

    pruned = prune(warehouse, plan_prune(warehouse, pipeline, START + timedelta(days=9)))

    assert [(each.kind, each.of, each.rows) for each in pruned] == [("replaced rows", "2 runs", 500)]
    [key, *_] = shop.rows_of(shop.runs("live", "published")[0])
    asked = ErasureRequest(pipeline, RowKey({"payment_id": str(key)}))
    assert erase(warehouse, asked, NO_MASKING, b"secret")["card_risk_scores__history"] == 2
    rename_pipeline(warehouse, "card-risk", pipeline.model_copy(update={"name": "card-risk-2"}))
    assert {run.pipeline for run in shop.runs()} == {"card-risk-2"}
    shop.verify()


def test_an_event_says_which_challenger_failed_and_why(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.tasks import events

    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: sent.append(event))
    lacks_a_feature(shop)
    driver = Driver(load_pipeline(shop.place.spec), connect, shop.place.registry)
    steps = driver.run(START + timedelta(days=1))
    [shadow] = shop.runs("shadow:")

    events.announce_challenger(
        ScoringRun("f" * 32, driver.pipeline, None, ModelPin("card-risk", "1", ""), ""),
        *(shadow.run_id, shadow.model, shadow.state, shadow.error or ""),
    )

    assert any(step.startswith("challenger failed: model `card-risk/3`") for step in steps)
    [event] = sent
    assert event["event"] == "penstock.challenger.failed"
    assert event["payload"]["run_id"] == shadow.run_id
    assert "visits" in event["payload"]["message"]


def test_accepting_a_halted_champion_names_the_challengers_that_ended_with_it(shop: Shop) -> None:
    day = START + timedelta(days=1)
    shop.place.spec.write_text(shop.place.spec.read_text().replace("min_value: 10}", "min_value: 9999}"))
    assert shop.run(1)[-1].startswith("halted")
    [champion], [shadow] = shop.runs("live"), shop.runs("shadow:")

    accept = ["accept", champion.run_id, "--reason", "the day is short", "--by", "Ada", "--yes"]
    told = " ".join(CliRunner().invoke(app, accept).output.split())

    assert f"still halted: card-risk/2 (run {shadow.run_id[:8]}), whose scores nobody has judged" in told
    restate = "penstock run card-risk --restate --start 2026-01-01T00:00:00Z --end 2026-01-02T00:00:00Z"
    assert restate in told
    assert [run.state for run in (*shop.runs("live"), *shop.runs("shadow:"))] == ["published", "halted"]
    shop.verify()
    shop.place.spec.write_text(shop.place.spec.read_text().replace("min_value: 9999}", "min_value: 10}"))
    shop.run(1, "restate", START, day)
    assert {run.variant for run in shop.runs(state="published")} == {"live", "shadow:card-risk/2"}
    shop.verify()
