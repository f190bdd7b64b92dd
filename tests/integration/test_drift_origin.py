"""Where drift comes from: the source, the slice, and the step of several models."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from penstock.ledger.reader import list_runs
from penstock.privacy.masking import MaskingPolicy
from penstock.report.card import run_card
from penstock.run_types import FarthestSlice
from penstock.upkeep.verify import verify_ledger
from tests.integration.test_drift import (
    PAYMENTS,
    call,
    change_payments_where,
    drift_of,
    driver_of,
    newest_profiles,
    spec_with,
)
from tests.shop import SPEC, START, Place
from tests.steps import STEPS, train_steps

MakePlace = Callable[..., Place]
DAY = timedelta(days=1)
SLICED = "{against: model, watch: {amount: warning}, slices: [country]}"


def test_the_slice_that_drift_comes_from_is_named(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with(SLICED), days=1, a_day=600)
    change_payments_where(place, PAYMENTS.c.country == "FR", amount=PAYMENTS.c.amount * 1000)
    driver_of(place).run(START + DAY)

    found = newest_profiles(place)["amount"]
    assert found.alarm == "warning"
    assert found.slice is not None
    assert (found.slice.column, found.slice.value) == ("country", "FR")
    assert found.slice.psi_without < 0.1
    shown = f"country FR ({found.slice.psi_without:.3f} without)"
    assert shown in run_card(place.warehouse, list_runs(place.warehouse)[0].run_id)
    assert "mostly in" in call("monitor", "drift", "card-risk.yaml")


def test_drift_of_all_rows_comes_from_no_slice(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with(SLICED), days=1, a_day=600)
    change_payments_where(place, PAYMENTS.c.payment_id > 0, amount=PAYMENTS.c.amount * 10)
    driver_of(place).run(START + DAY)
    assert newest_profiles(place)["amount"].slice is None
    assert "mostly in" not in call("monitor", "drift", "card-risk.yaml")


def test_a_column_with_too_many_values_is_noted_and_not_sliced(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: model, slices: [payment_id, first]}"), days=1, a_day=600)
    change_payments_where(place, PAYMENTS.c.first, amount=PAYMENTS.c.amount * 1000)
    driver_of(place).run(START + DAY)
    notes = {note.expectation: note.observed for note in drift_of(place, list_runs(place.warehouse)[0].run_id)}
    assert notes["by `payment_id`"] == "not sliced: it has more than 50 values"
    assert isinstance(newest_profiles(place)["amount"].slice, FarthestSlice)


def test_the_sources_of_a_feature_are_named(make_place: MakePlace) -> None:
    features = """sources:
  payments:
    kind: sql
    connection: shop
    table: payments
    key: [payment_id]
    updated_column: updated_at
  customers: {kind: sql, connection: shop, query: "select payment_id as id, items from payments", key: [id]}
features: |
  select p.payment_id, p.amount, country, p.first, c.items from payments p left join customers c on c.id = p.payment_id
"""
    place = make_place(days=1, a_day=600)
    head, _, rest = SPEC.partition("sources:")
    base = head + features + rest[rest.index("expectations:") :]
    place.spec.write_text(spec_with("{against: model}", base=base))
    driver_of(place).run(START + DAY)

    profiles = newest_profiles(place)
    assert {name: each.sources for name, each in profiles.items()} == {
        "amount": ("payments",),
        "country": ("payments",),
        "first": ("payments",),
        "items": ("customers",),
        "score": (),
    }
    card = run_card(place.warehouse, list_runs(place.warehouse)[0].run_id)
    assert "| items | customers |" in card


def make_chain(make_place: MakePlace, drift: str, partition_rows: int = 150) -> Place:
    place = make_place(days=2, a_day=600)
    train_steps(place.registry.folder)
    place.spec.write_text(spec_with(drift, partition_rows, STEPS))
    return place


def test_each_step_of_several_models_has_its_own_features_and_score(make_place: MakePlace) -> None:
    place = make_chain(make_place, "{against: model, watch: {screen.amount: critical, '*': info}, slices: [country]}")
    driver = driver_of(place)
    driver.run(START + DAY)
    run, profiles = list_runs(place.warehouse)[0], newest_profiles(place)
    assert run.state == "published"
    steps = {"screen": ("amount", "items"), "deep": ("amount", "country", "first", "items", "opinion")}
    features = {f"{step}.{feature}": step for step, names in steps.items() for feature in names}
    assert set(profiles) == {*features, "screen_score", "deep_score"}
    rows = {each.counts.rows for name, each in profiles.items() if name.startswith("screen")}
    deep = {each.counts.rows for name, each in profiles.items() if name.startswith("deep")}
    assert rows == {600}
    assert len(deep) == 1
    assert 0 < deep.pop() < 600  # those that `when` chooses
    assert {each.model for name, each in profiles.items() if name.startswith("deep")} == {"risk-deep/1"}
    assert profiles["screen.amount"].baseline
    assert profiles["screen.amount"].baseline.name == "risk-screen/1"
    assert profiles["screen.amount"].sources == ("payments",)
    assert profiles["deep.opinion"].sources == ()
    assert verify_ledger(place.warehouse) == ()

    change_payments_where(place, PAYMENTS.c.payment_id > 600, amount=PAYMENTS.c.amount * 10)
    driver.run(START + 2 * DAY)
    halted = list_runs(place.warehouse)[0]
    assert halted.state == "halted"
    assert "drift: `screen.amount`: PSI below 0.25" in (halted.error or "")
    assert "against the reference rows of risk-screen/1" in (halted.error or "")
    assert "Drift against `risk-deep/1, risk-screen/1`" in run_card(place.warehouse, halted.run_id)
    assert verify_ledger(place.warehouse) == ()


def test_the_counts_of_steps_are_the_same_however_the_rows_are_cut(make_place: MakePlace) -> None:
    place, seen = make_chain(make_place, "{against: previous}"), []
    change_payments_where(place, PAYMENTS.c.payment_id % 9 == 0, country="XX", amount=PAYMENTS.c.amount * 50)
    for rows in (600, 100):
        place.spec.write_text(spec_with("{against: model}\nquarantine_limit: 0.5", rows, STEPS))
        driver_of(place).run(START + DAY, "restate", START, START + DAY)
        run = list_runs(place.warehouse, states=["published"])[0]
        assert run.rows_quarantined
        seen.append({name: each.counts for name, each in newest_profiles(place).items()})
        assert verify_ledger(place.warehouse) == ()
    assert seen[0] == seen[1]
    unseen = seen[0]["deep.country"].counts[-1]
    assert unseen > 0
    assert seen[0]["deep_score"].rows == seen[0]["deep.country"].rows - unseen


def test_steps_are_compared_with_an_earlier_run(make_place: MakePlace) -> None:
    place = make_chain(make_place, "{against: previous}")
    driver = driver_of(place)
    for day in (1, 2):
        driver.run(START + day * DAY)
    newest, first = list_runs(place.warehouse)
    assert newest.state == "published"
    assert {each.baseline and each.baseline.name for each in newest_profiles(place).values()} == {first.run_id}


def test_a_version_of_a_step_without_counts_is_named(make_place: MakePlace) -> None:
    place = make_chain(make_place, "{watch: {amont: critical}}")
    (refused,) = driver_of(place).run(START + DAY)[-1:]
    assert "has no feature and no score `amont`, which `drift.watch` names" in refused
    assert "risk-deep/1" in refused


def test_the_names_of_private_inputs_of_a_step_are_not_stored(make_place: MakePlace) -> None:
    place = make_chain(make_place, "{watch: {deep.country: info, deep.first: info}}")
    text = place.spec.read_text().replace(
        "key: [payment_id]", "key: [payment_id]\n    private: {country: hash, land: hash}"
    )
    text = text.replace(", keep: [amount, country]", ", keep: [amount]").replace(
        "{opinion: screen_score}", "{opinion: screen_score, country: land}"
    )
    place.spec.write_text(f"{text}features: select * exclude (country), country as land from payments\n")
    driver = driver_of(place)
    replace(driver, masking=MaskingPolicy(driver.pipeline.private_columns, b"s" * 32)).run(START + DAY)
    profiles = newest_profiles(place)
    assert profiles["deep.country"].edges is None
    assert profiles["deep.first"].edges == ("false", "true")
