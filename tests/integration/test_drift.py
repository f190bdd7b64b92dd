"""Drift is counted in the partitions, judged in the audit, and kept in the ledger."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.deployments.deploy.automations import define_automations
from penstock.deployments.deploy.specs import refuse_drift
from penstock.errors import DriftRefused, RunNotFound, SpecError
from penstock.ledger.profiles import read_profiles
from penstock.ledger.reader import list_runs, validations_of
from penstock.ledger.tables import profiles as profiles_table
from penstock.models.training import train
from penstock.privacy.masking import MaskingPolicy
from penstock.report.card import run_card
from penstock.run_types import ColumnProfile, ModelPin, ScoringRun, Validation
from penstock.scoring_steps import ScoringSteps
from penstock.settings import Settings
from penstock.spec.yaml_file import load_pipeline, parse_pipeline
from penstock.tasks import events
from penstock.tasks.process_resources import connect
from penstock.upkeep.prune import prune
from penstock.upkeep.prune_plan import plan_prune
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS, view_rows
from tests.driver import Driver
from tests.shop import SPEC, START, Place, payments, payments_table

MakePlace = Callable[..., Place]
PAYMENTS = payments_table()
PRIVATE = SPEC.replace("key: [payment_id]", "key: [payment_id]\n    private: {country: hash}").replace(
    ", keep: [amount, country]", ", keep: [amount]"
)


def spec_with(drift: str, partition_rows: int = 150, base: str = SPEC) -> str:
    return base.replace("partition_rows: 150", f"partition_rows: {partition_rows}\ndrift: {drift}")


def driver_of(place: Place) -> Driver:
    return Driver(load_pipeline(place.spec), connect, place.registry)


def change_payments(place: Place, day: int, **values: Any) -> None:
    """Change the payments of one day of 600, as an application would."""
    change_payments_where(place, PAYMENTS.c.payment_id.between(day * 600 + 1, (day + 1) * 600), **values)


def change_payments_where(place: Place, chosen: Any, **values: Any) -> None:
    with place.shop.writing() as connection:
        connection.execute(sa.update(PAYMENTS).where(chosen).values(**values))


def retrain(place: Place) -> None:
    """Register a second version, with other reference rows, as champion."""
    rows = payments(days=1, a_day=700, seed=3)
    label = pa.array((rows["amount"].to_numpy() > 25).astype(np.int64))
    frame = rows.select(["amount", "items", "country", "first"]).append_column("label", label)
    train(frame, "label", rounds=3).register(place.registry, "card-risk", alias="champion")


def forget_counts(place: Place) -> None:
    """Make the registered manifest one of an older version of Penstock."""
    file = place.registry.folder / "card-risk" / "1" / "manifest.json"
    manifest = json.loads(file.read_text())
    for distribution in manifest["reference"].values():
        del distribution["counts"], distribution["nulls"]
    del manifest["reference_scores"]
    file.write_text(json.dumps(manifest))


def use_store(place: Place) -> Settings:
    return Settings(model_store=place.registry.folder)


def drift_of(place: Place, run_id: str) -> list[Validation]:
    return [v for v in validations_of(place.warehouse, run_id) if v.stage == "drift"]


def newest_profiles(place: Place) -> dict[str, ColumnProfile]:
    return read_profiles(place.warehouse, list_runs(place.warehouse)[0].run_id)


def test_a_run_like_the_reference_has_profiles_and_no_alarm(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {'*': critical}}"), days=1, a_day=600)
    driver_of(place).run(START + timedelta(days=1))

    run = list_runs(place.warehouse)[0]
    assert run.state == "published"
    profiles = newest_profiles(place)
    assert set(profiles) == {"amount", "items", "country", "first", "score"}
    assert {each.counts.rows for each in profiles.values()} == {600}
    assert all(each.baseline and each.baseline.name == "card-risk/1" for each in profiles.values())
    (found,) = drift_of(place, run.run_id)
    assert found.outcome == "passed"
    assert found.expectation == "5 columns against the reference rows of card-risk/1"
    assert verify_ledger(place.warehouse) == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_counts_are_the_same_for_1_4_and_40_partitions(make_place: MakePlace, dialect: str) -> None:
    place = make_place(warehouse=dialect, days=1, a_day=600)
    change_payments_where(place, PAYMENTS.c.payment_id % 7 == 0, amount=None, items=None, country="XX")
    seen = []
    for rows in (600, 150, 15):
        place.spec.write_text(spec_with("{against: model, slices: [country, first]}\nquarantine_limit: 0.5", rows))
        driver_of(place).run(START + timedelta(days=1), "restate", START, START + timedelta(days=1))
        run = list_runs(place.warehouse, states=["published"])[0]
        assert run.partitions == 600 // rows
        seen.append({name: (each.counts, each.baseline, each.slice) for name, each in newest_profiles(place).items()})
    assert seen[0] == seen[1] == seen[2]
    assert verify_ledger(place.warehouse) == ()


def test_unseen_categories_are_counted_though_the_model_refuses_their_rows(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {country: warning}}\nquarantine_limit: 0.5"), a_day=600)
    change_payments_where(place, PAYMENTS.c.payment_id % 5 == 0, country="XX")
    driver_of(place).run(START + timedelta(days=1))

    run = list_runs(place.warehouse)[0]
    profile = newest_profiles(place)["country"]
    assert run.state == "published"
    assert run.rows_quarantined == 120
    assert (profile.counts.rows, profile.counts.counts[-1]) == (600, 120)
    assert profile.alarm == "warning"
    (found,) = drift_of(place, run.run_id)
    assert found.expectation == "`country`: PSI below 0.25"


def test_a_shift_of_nulls_is_an_alarm_of_its_own(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {items: warning}}"), days=1, a_day=600)
    change_payments_where(place, PAYMENTS.c.payment_id % 10 == 0, items=None)
    driver_of(place).run(START + timedelta(days=1))

    (found,) = drift_of(place, list_runs(place.warehouse)[0].run_id)
    assert found.expectation == "`items`: NULLs within 0.05"
    assert "NULLs 0.0% → 10.0%" in found.observed


@pytest.mark.parametrize("dialect", DIALECTS)
def test_critical_drift_halts_and_readers_see_what_they_saw(make_place: MakePlace, dialect: str) -> None:
    place = make_place(
        warehouse=dialect, spec=spec_with("{against: model, watch: {amount: critical}}"), days=2, a_day=600
    )
    driver_of(place).run(START + timedelta(days=1))
    before = view_rows(place.warehouse)
    change_payments(place, 1, amount=PAYMENTS.c.amount * 10)
    steps = driver_of(place).run(START + timedelta(days=2))

    assert "drift: `amount`: PSI below 0.25 (PSI " in steps[-1]
    halted, published = list_runs(place.warehouse)
    assert (halted.state, published.state) == ("halted", "published")
    assert view_rows(place.warehouse) == before
    assert newest_profiles(place)["amount"].alarm == "critical"
    assert verify_ledger(place.warehouse) == ()


def test_an_alarm_is_new_once_an_episode(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {amount: warning}}"), days=4, a_day=600)
    for day in (1, 2):
        change_payments(place, day, amount=PAYMENTS.c.amount * 10)
    for day in range(1, 5):
        driver_of(place).run(START + timedelta(days=day))

    runs = list_runs(place.warehouse)[::-1]
    profiles = [read_profiles(place.warehouse, run.run_id)["amount"] for run in runs]
    assert [each.alarm for each in profiles] == [None, "warning", "warning", None]
    assert [each.episode for each in profiles] == [None, runs[1].run_id, runs[1].run_id, None]


def test_previous_is_the_newest_published_run_before(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: previous, watch: {amount: warning}}"), days=3, a_day=600)
    for day in (0, 1):
        driver_of(place).run(START + timedelta(days=day + 1))
    change_payments(place, 2, amount=PAYMENTS.c.amount * 10)
    driver_of(place).run(START + timedelta(days=3))

    first, second, third = list_runs(place.warehouse)[::-1]
    (none,) = drift_of(place, first.run_id)
    assert none.observed == "there is no such published run, so nothing is judged"
    (steady,) = drift_of(place, second.run_id)
    assert steady.outcome == "passed"
    (moved,) = drift_of(place, third.run_id)
    assert moved.outcome == "noted"
    assert f"against run {second.run_id[:8]} (2026-01-02 → 01-03)" in moved.observed
    assert newest_profiles(place)["amount"].baseline.name == second.run_id


def test_same_weekday_is_the_run_of_seven_days_before(make_place: MakePlace) -> None:
    place = make_place(
        spec=spec_with("{against: same_weekday, watch: {amount: info}, least_rows: 20}"), days=8, a_day=30
    )
    driver_of(place).run(START + timedelta(days=8))

    first, *others, last = list_runs(place.warehouse)[::-1]
    assert len(others) == 6
    assert newest_profiles(place)["amount"].baseline.name == first.run_id
    assert read_profiles(place.warehouse, others[-1].run_id)["amount"].baseline is None
    assert drift_of(place, last.run_id)[0].outcome == "passed"


def test_a_run_can_be_compared_with_a_named_run(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model}"), days=2, a_day=600)
    driver_of(place).run(START + timedelta(days=1))
    named = list_runs(place.warehouse)[0].run_id
    place.spec.write_text(spec_with(f"{{against: '{named[:12]}'}}"))
    driver_of(place).run(START + timedelta(days=2))
    assert newest_profiles(place)["score"].baseline.name == named

    place.spec.write_text(spec_with("{against: '0123456789ab'}"))
    (refused,) = driver_of(place).run(START + timedelta(days=2), "restate", START, START + timedelta(days=1))[-1:]
    assert refused == f"failed: {RunNotFound('0123456789ab')}"


def test_bins_of_another_version_are_not_compared_and_the_note_names_both(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: previous}"), days=2, a_day=600)
    driver_of(place).run(START + timedelta(days=1))
    retrain(place)
    driver_of(place).run(START + timedelta(days=2))

    notes = drift_of(place, list_runs(place.warehouse)[0].run_id)
    refused = next(v for v in notes if v.observed.startswith("not compared"))
    assert refused.observed == "not compared: their bins are of card-risk/2 here, and of card-risk/1 there"
    assert "`amount`" in refused.expectation
    assert newest_profiles(place)["amount"].baseline is None
    assert newest_profiles(place)["first"].baseline is not None


def test_few_rows_are_counted_and_not_judged(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {'*': critical}}"), days=1, a_day=60)
    change_payments(place, 0, amount=PAYMENTS.c.amount * 100)
    driver_of(place).run(START + timedelta(days=1))

    run = list_runs(place.warehouse)[0]
    assert run.state == "published"
    (note,) = drift_of(place, run.run_id)
    assert note.observed == "60 rows are fewer than `least_rows: 500`, so they are not judged"
    assert note.observed in " ".join(call("monitor", "drift", "card-risk.yaml").split())


def test_the_names_of_private_categories_are_not_stored(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model}", base=PRIVATE), days=1, a_day=600)
    driver = replace(driver_of(place), masking=MaskingPolicy(load_pipeline(place.spec).private_columns, b"s" * 32))
    driver.run(START + timedelta(days=1))

    profiles = newest_profiles(place)
    assert profiles["country"].edges is None
    assert profiles["first"].edges == ("false", "true")
    with place.warehouse.reading() as connection:
        stored = connection.execute(sa.select(profiles_table)).all()
    assert "DE" not in str(stored)


def test_prune_removes_the_profiles_with_the_rows(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model}\nretention: {keep_runs: 0}"), days=1, a_day=600)
    driver = driver_of(place)
    driver.run(START + timedelta(days=1))
    driver.run(START + timedelta(days=1), "restate", START, START + timedelta(days=1))
    newer, older = list_runs(place.warehouse)
    prune(place.warehouse, plan_prune(place.warehouse, driver.pipeline, START + timedelta(days=30)))

    assert read_profiles(place.warehouse, older.run_id) == {}
    assert len(read_profiles(place.warehouse, newer.run_id)) == 5
    assert verify_ledger(place.warehouse) == ()


def test_verify_finds_profiles_that_do_not_count_the_rows(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model}"), days=1, a_day=600)
    driver_of(place).run(START + timedelta(days=1))
    with place.warehouse.writing() as connection:
        score = profiles_table.c.column_name == "score"
        connection.execute(sa.update(profiles_table).where(score).values(nulls=1))

    (found,) = verify_ledger(place.warehouse)
    assert found.invariant == "profiles count the rows of their run"
    assert found.rows == (f"{list_runs(place.warehouse)[0].run_id} `score`: 601 rows, 600 scored",)


def test_a_model_without_counts_is_refused_and_the_remedy_is_named(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model}"), days=1, a_day=30)
    forget_counts(place)
    driver = driver_of(place)
    (refused,) = driver.run(START + timedelta(days=1))[-1:]

    assert refused.startswith("failed: model `card-risk/1` has no counts of its reference rows for `amount`")
    assert refused.endswith("`penstock models register card-risk FILE --reference ROWS`.")
    with pytest.raises(DriftRefused):
        refuse_drift(use_store(place), [driver.pipeline])


def test_a_column_that_is_none_is_refused_with_the_nearest_name(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {amont: critical}}"), days=1, a_day=30)
    (refused,) = driver_of(place).run(START + timedelta(days=1))[-1:]

    assert refused == (
        "failed: model `card-risk/1` has no feature and no score `amont`, which `drift.watch` names. "
        "Did you mean `amount`? Correct the name in the spec."
    )


@pytest.mark.parametrize(
    ("drift", "base", "why"),
    [
        ("{against: yesterday}", SPEC, "`yesterday` is nothing to compare with"),
        (
            "{against: same_weekday}",
            SPEC.replace("grain: 1d", "grain: month"),
            "an `interval` whose `grain` divides a week",
        ),
        ("{watch: {amount: halt}}", SPEC, "critical"),
        ("{slices: [country]}", PRIVATE, "`drift.slices` names `country`, which is private"),
    ],
)
def test_a_drift_that_cannot_be_judged_is_refused(drift: str, base: str, why: str) -> None:
    with pytest.raises(SpecError, match=re.escape(why)):
        parse_pipeline(spec_with(drift, base=base).encode(), "x")


def call(*arguments: str, exit_code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "140"})
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == exit_code, ended.output
    return ended.output


def test_the_command_and_the_card_show_both_distributions_and_the_partition(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {amount: warning, '*': info}}"), days=1, a_day=600)
    change_payments_where(place, PAYMENTS.c.payment_id > 450, amount=PAYMENTS.c.amount * 1000)
    driver_of(place).run(START + timedelta(days=1))
    run = list_runs(place.warehouse)[0]

    printed, card = call("monitor", "drift", "card-risk.yaml"), run_card(place.warehouse, run.run_id)
    (amount,) = [line for line in printed.splitlines() if line.startswith("amount")]
    assert "warning" in amount
    assert "partition 4 (451 to …)" in amount
    assert "█" in amount
    assert "Drift against card-risk/1" in printed
    assert "## Drift against `card-risk/1`" in card
    assert "| amount | " in card
    assert "⚠ warning" in card
    shown = json.loads(call("monitor", "drift", "card-risk.yaml", "--run", run.run_id[:8], "--json"))
    worst = shown["compared"][0]
    assert (worst["column"], worst["alarm"], worst["alarm_since"]) == ("amount", "warning", run.run_id)
    assert (worst["farthest_partition"], sum(worst["counts"]), shown["counted_only"]) == (3, 600, [])
    assert json.loads(call("show", run.run_id, "--json"))["drift"][0]["psi"] == worst["psi"]


def test_a_pipeline_without_profiles_says_what_to_do(make_place: MakePlace) -> None:
    place = make_place(days=1, a_day=30)
    assert (
        call("monitor", "drift", "card-risk.yaml") == "no run has profiles: give the pipeline a `drift:` and run it\n"
    )
    driver_of(place).run(START + timedelta(days=1))
    assert json.loads(call("monitor", "drift", "card-risk.yaml", "--json"))["run_id"] is None


def test_check_says_how_many_columns_are_compared(make_place: MakePlace) -> None:
    make_place(spec=spec_with("{against: model}"), days=1, a_day=60)
    assert "✓ drift: 5 columns compared with `model`" in call("check", "card-risk.yaml", "--end", "2026-01-02")


def test_check_refuses_what_a_run_would_refuse(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model}"), days=1, a_day=60)
    forget_counts(place)
    refused = call("check", "card-risk.yaml", "--end", "2026-01-02", exit_code=1)
    assert "✗ drift: model `card-risk/1` has no counts of its reference rows for `amount`" in refused


def test_only_the_alarms_that_begin_are_announced(make_place: MakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {amount: warning}}"), days=2, a_day=600)
    change_payments_where(place, PAYMENTS.c.payment_id > 0, amount=PAYMENTS.c.amount * 1000)
    results = []
    audit = ScoringSteps.audit
    monkeypatch.setattr(ScoringSteps, "audit", lambda *given: results.append(audit(*given)) or results[-1])
    driver_of(place).run(START + timedelta(days=2))

    assert [[alarm.expectation for alarm in result.new_alarms] for result in results] == [
        ["`amount`: PSI below 0.25"],
        [],
    ]


def test_drift_that_begins_is_one_event_and_the_automation_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: emitted.append(event))
    pipeline = parse_pipeline(f"{SPEC}notify: {{on_drift: [slack-webhook/team]}}\n".encode(), "x")
    run = ScoringRun("a" * 32, pipeline, None, ModelPin("card-risk", "1", "d" * 64), "token")
    alarms = [
        Validation("drift", f"`{column}`: PSI below 0.25", "warning", 600, 0, "noted", "PSI 0.9", unit="values")
        for column in ("amount", "items")
    ]
    events.announce_drift(run, [])
    events.announce_drift(run, alarms)

    (event,) = emitted
    assert event["event"] == "penstock.run.drifted"
    assert event["payload"]["message"] == (
        "`amount`: PSI below 0.25 (warning): PSI 0.9\n`items`: PSI below 0.25 (warning): PSI 0.9"
    )
    (automation,) = define_automations(pipeline, {"slack-webhook/team": uuid4()})
    assert automation.name == "penstock: card-risk on drift"
    assert automation.trigger.expect == {event["event"]}
    assert automation.trigger.match.root == {"prefect.resource.id": event["resource"]["prefect.resource.id"]}
