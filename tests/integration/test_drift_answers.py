"""A person acknowledges drift or snoozes it, and no message is sent meanwhile."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from penstock.errors import NoDriftAlarm
from penstock.ledger.drift_answers import DriftAnswer, answer_alarms, choose_messages, lasting_episodes, read_answers
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import drift_answers
from penstock.report.card import run_card
from penstock.report.status import read_status
from penstock.report.status_sections import build_status
from penstock.scoring_steps import ScoringSteps
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.integration.test_drift import PAYMENTS, call, change_payments, change_payments_where, driver_of, spec_with
from tests.shop import START, Place

MakePlace = Callable[..., Place]
DAY = timedelta(days=1)
WATCHED = "{against: model, watch: {amount: warning}}"


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many alarms each audit sends a message about."""
    sent: list[int] = []
    audit = ScoringSteps.audit

    def count(*given: object) -> object:
        result = audit(*given)  # type: ignore[arg-type]
        sent.append(len(result.new_alarms))
        return result

    monkeypatch.setattr(ScoringSteps, "audit", count)
    return sent


def make_drifting(make_place: MakePlace, days: int = 3, **given: object) -> Place:
    """Make a shop whose amounts drift on every day."""
    place = make_place(spec=spec_with(WATCHED), days=days, a_day=600, **given)
    change_payments_where(place, PAYMENTS.c.payment_id > 0, amount=PAYMENTS.c.amount * 10)
    return place


def move_snooze(place: Place, until: datetime) -> None:
    """Let time pass: a snooze ends at another moment."""
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(drift_answers).values(silent_until=until))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_acknowledged_episode_sends_nothing_until_it_ends(
    make_place: MakePlace, dialect: str, messages: list[int]
) -> None:
    place = make_drifting(make_place, days=4, warehouse=dialect)
    change_payments(place, 2, amount=PAYMENTS.c.amount / 10)
    driver_of(place).run(START + DAY)
    (answered,) = answer_alarms(place.warehouse, "card-risk", ["amount"], "Ada", "new prices", datetime.now(UTC))
    for day in (2, 3, 4):
        driver_of(place).run(START + day * DAY)

    assert messages == [1, 0, 0, 1]
    first = list_runs(place.warehouse)[-1]
    assert (answered.run_id, answered.answer and answered.answer.episode) == (first.run_id, first.run_id)
    (again,) = lasting_episodes(place.warehouse, "card-risk")
    assert again.run_id == list_runs(place.warehouse)[0].run_id
    assert not again.is_answered(datetime.now(UTC))
    assert verify_ledger(place.warehouse) == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_snooze_ends_by_time_and_one_run_sends_the_message_again(
    make_place: MakePlace, dialect: str, messages: list[int]
) -> None:
    place = make_drifting(make_place, days=4, warehouse=dialect)
    driver, now = driver_of(place), datetime.now(UTC)
    driver.run(START + DAY)
    answer_alarms(place.warehouse, "card-risk", (), "Ada", "", now, now + 7 * DAY)
    driver.run(START + 2 * DAY)
    assert lasting_episodes(place.warehouse, "card-risk")[0].is_answered(datetime.now(UTC))
    move_snooze(place, datetime.now(UTC))
    driver.run(START + 3 * DAY)
    driver.run(START + 4 * DAY)

    assert messages == [1, 0, 1, 0]
    assert read_answers(place.warehouse, "card-risk")["amount"].reminded_by == list_runs(place.warehouse)[1].run_id
    assert verify_ledger(place.warehouse) == ()


def test_a_snooze_covers_a_new_episode_and_an_acknowledgement_does_not(make_place: MakePlace) -> None:
    place = make_drifting(make_place, days=1)
    driver_of(place).run(START + DAY)
    run = list_runs(place.warehouse)[0]
    known = DriftAnswer("amount", run.started_at, "an earlier run", None, "Ada", "")
    snoozed = replace(known, silent_until=run.started_at + DAY)
    over = replace(known, silent_until=run.started_at)
    began = {"amount": run.run_id}

    def sends(answer: DriftAnswer | None, *before: str) -> bool:
        return choose_messages(run, began, before, {"amount": answer} if answer else {}) == ["amount"]

    assert [sends(None), sends(known), sends(snoozed), sends(over)] == [True, True, False, True]
    assert [sends(None, "amount"), sends(known, "amount"), sends(snoozed, "amount")] == [False, False, False]
    reminded = replace(over, reminded_by="another run")
    assert [sends(over, "amount"), sends(reminded, "amount"), sends(reminded)] == [True, False, True]
    assert sends(replace(over, reminded_by=run.run_id), "amount")  # the audit is repeated


def test_a_reminder_of_a_run_that_was_given_up_is_sent_by_the_next_one(
    make_place: MakePlace, messages: list[int]
) -> None:
    place = make_drifting(make_place)
    driver, now = driver_of(place), datetime.now(UTC)
    driver.run(START + DAY)
    answer_alarms(place.warehouse, "card-risk", (), "Ada", "", now, now)
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(drift_answers).values(reminded_by_run="a run that died"))
    driver.run(START + 2 * DAY)
    driver.run(START + 3 * DAY)

    assert messages == [1, 1, 0]


def test_a_critical_halt_stays_a_halt(make_place: MakePlace, messages: list[int]) -> None:
    place = make_place(spec=spec_with("{against: model, watch: {amount: critical}}"), days=2, a_day=600)
    change_payments_where(place, PAYMENTS.c.payment_id > 0, amount=PAYMENTS.c.amount * 10)
    driver_of(place).run(START + DAY)
    answer_alarms(place.warehouse, "card-risk", (), "Ada", "known", datetime.now(UTC))
    driver_of(place).run(START + 2 * DAY)

    assert [run.state for run in list_runs(place.warehouse)] == ["halted"] * len(messages)
    assert messages[0] == 1
    assert set(messages[1:]) == {0}


def test_only_lasting_alarms_can_be_acknowledged(make_place: MakePlace) -> None:
    place = make_place(spec=spec_with(WATCHED), days=1, a_day=600)
    refused = call_refused("monitor", "acknowledge", "card-risk.yaml")
    assert "the newest judged run of `card-risk` has no alarm of drift of any column. Nothing was changed" in refused
    change_payments_where(place, PAYMENTS.c.payment_id > 0, amount=PAYMENTS.c.amount * 10)
    driver_of(place).run(START + DAY)
    with pytest.raises(NoDriftAlarm, match=re.escape("of `items`. It has one of `amount`.")):
        answer_alarms(place.warehouse, "card-risk", ["items"], "Ada", "", datetime.now(UTC))


def call_refused(*arguments: str) -> str:
    with pytest.raises(AssertionError) as refused:
        call(*arguments)
    return str(refused.value)


def test_the_answer_is_on_the_card_in_the_status_and_with_the_columns(make_place: MakePlace) -> None:
    place = make_drifting(make_place, days=1)
    driver = driver_of(place)
    driver.run(START + DAY)
    run = list_runs(place.warehouse)[0]
    asked = read_status(place.warehouse, driver.pipeline, START + DAY)
    (need,) = [each for each in asked.needs if each.kind == "drift"]
    assert (need.command, need.why, need.run_id) == ("penstock monitor drift card-risk", "`amount`", run.run_id)

    told = call("monitor", "acknowledge", "card-risk.yaml", "amount", "--note", "new prices", "--by", "Ada")
    assert "`amount` (warning since 2026-01-01 → 01-02): acknowledged by Ada at " in told
    assert told.endswith(": new prices\n")
    assert "acknowledged by Ada at " in call("monitor", "drift", "card-risk.yaml")
    shown = json.loads(call("monitor", "drift", "card-risk.yaml", "--json"))
    assert shown["answers"][0] | {"answered_at": ""} == {
        "column": "amount",
        "answered_at": "",
        "episode": run.run_id,
        "silent_until": None,
        "answered_by": "Ada",
        "note": "new prices",
        "reminded_by": None,
    }
    assert "- `amount`: acknowledged by Ada at " in run_card(place.warehouse, run.run_id)
    status = read_status(place.warehouse, driver.pipeline, datetime.now(UTC))
    assert not [each for each in status.needs if each.kind == "drift"]
    assert "acknowledged by Ada" in str(build_status([status], datetime.now(UTC)))


def test_a_snooze_is_named_until_it_ends(make_place: MakePlace) -> None:
    place = make_drifting(make_place, days=1)
    driver = driver_of(place)
    driver.run(START + DAY)
    assert "snoozed until " in call("monitor", "acknowledge", "card-risk.yaml", "--snooze", "7d", "--by", "Ada")
    now = datetime.now(UTC)

    def texts(moment: datetime) -> str:
        return str(build_status([read_status(place.warehouse, driver.pipeline, moment)], moment))

    assert "nobody has acknowledged" not in texts(now)
    assert "snoozed until" in texts(now)
    assert "nobody has acknowledged" in texts(now + 8 * DAY)
    refused = call("monitor", "acknowledge", "card-risk.yaml", "--snooze", "0m", exit_code=2)
    assert "must be more than nothing" in refused
