"""Drift that halted is accepted, becomes the baseline, and is judged again by other limits."""

from collections.abc import Callable
from datetime import timedelta

from penstock.ledger.pointer_moves import moves_of
from penstock.ledger.profiles import find_baseline
from penstock.ledger.reader import list_runs
from penstock.spec.drift import Drift
from penstock.upkeep.acceptance import accept_run
from penstock.upkeep.replay import NewLimits, replay
from penstock.upkeep.verify import verify_ledger
from tests.integration.test_drift import PAYMENTS, change_payments, change_payments_where, driver_of, spec_with
from tests.shop import START, Place

MakePlace = Callable[..., Place]


def test_drift_that_halted_is_accepted_and_becomes_the_baseline(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{against: previous, watch: {amount: critical}}"), days=3, a_day=600)
    driver = driver_of(place)
    driver.run(START + timedelta(days=1))
    change_payments(place, 1, amount=900.0)
    change_payments(place, 2, amount=900.0)
    driver.run(START + timedelta(days=2))
    halted = list_runs(place.warehouse, limit=1)[0]
    assert halted.state == "halted"
    assert "drift: `amount`" in (halted.error or "")

    accept_run(place.warehouse, halted.run_id, "Ada", "new prices")
    driver.run(START + timedelta(days=3))

    [newest, *_] = list_runs(place.warehouse)
    assert newest.state == "published"
    baseline = find_baseline(place.warehouse, newest, "previous")
    assert baseline is not None
    assert baseline.run_id == halted.run_id
    assert [move.state_before for move in moves_of(place.warehouse, halted.run_id)] == ["halted"]
    assert verify_ledger(place.warehouse) == ()


def test_another_limit_of_drift_is_judged_on_stored_profiles(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{watch: {amount: critical}}"), days=2, a_day=600)
    driver = driver_of(place)
    driver.run(START + timedelta(days=1))
    change_payments(place, 1, amount=900.0)
    driver.run(START + timedelta(days=2))

    def halts(psi: float) -> list[bool]:
        assert driver.pipeline.drift is not None
        limits = NewLimits(drift=driver.pipeline.drift.with_psi(psi))
        return [bool(each.halts) for each in replay(place.warehouse, driver.pipeline, limits)]

    assert halts(0.25) == [False, True]
    assert halts(1000.0) == [False, False]


def test_a_replay_names_the_limit_that_is_exceeded(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with("{watch: {items: warning}}"), days=1, a_day=600)
    change_payments_where(place, PAYMENTS.c.payment_id % 10 == 0, items=None)
    driver = driver_of(place)
    driver.run(START + timedelta(days=1))

    [replayed] = replay(place.warehouse, driver.pipeline, NewLimits(drift=driver.pipeline.drift))

    assert [each.expectation for each in replayed.validations] == ["`items`: NULLs within 0.05"]


def test_runs_without_profiles_are_named(make_place: MakePlace) -> None:
    place = make_place(days=1, a_day=600)
    driver = driver_of(place)
    driver.run(START + timedelta(days=1))

    [replayed] = replay(place.warehouse, driver.pipeline, NewLimits(drift=Drift()))

    assert (replayed.has_profiles, replayed.halts) == (False, ())
