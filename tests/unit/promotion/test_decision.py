"""The one function that decides a promotion, over every combination of facts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.ledger.promotions import PromotionRecord, PromotionState
from penstock.promotion.decision import Answer, Facts, decide
from penstock.promotion.evidence import Evidence, PipelineEvidence
from penstock.promotion.gate import Check

ASKED = datetime(2026, 1, 20, 7, tzinfo=UTC)
UNTIL = ASKED + timedelta(days=3)
NOW = ASKED + timedelta(hours=1)
STATES: tuple[PromotionState, ...] = ("waiting", "approved", "moved", "declined", "lapsed", "outdated")


def record(state: PromotionState = "waiting", **other: Any) -> PromotionRecord:
    made = PromotionRecord("risk", "champion", 3, "1", "2", state, "{}", "d1", "flow-1", ASKED, UNTIL)
    return replace(made, **other)


def evidence(candidate: str = "2", passed: bool = True) -> Evidence:
    checks = (Check("intervals", "at least 14", "14" if passed else "13", passed),)
    found = PipelineEvidence("p", "", 1, 1, {}, 0, checks, ())
    return Evidence("risk", "champion", "1", candidate, "a", "b", "t", (found,))


def answer(approve: bool = True, at: datetime = NOW, number: int = 3) -> Answer:
    return Answer(number, approve, "Ada", "", at)


def facts(newest: PromotionRecord | None = None, **other: Any) -> Facts:
    return replace(Facts(NOW, needs_person=True, newest=newest, present="1", evidence=evidence()), **other)


def test_a_challenger_that_passes_is_asked_about() -> None:
    assert decide(facts()).step == "ask"


def test_a_challenger_that_fails_or_is_the_champion_is_not_asked_about() -> None:
    assert "intervals 13" in decide(facts(evidence=evidence(passed=False))).why
    assert decide(facts(evidence=None)).step == "nothing"


@pytest.mark.parametrize(
    ("other", "step"),
    [
        ({}, "wait"),
        ({"answer": answer()}, "approve"),
        ({"answer": answer(approve=False)}, "decline"),
        ({"answer": answer(number=2)}, "wait"),
        ({"answer": answer(at=UNTIL + timedelta(seconds=1))}, "lapse"),
        ({"now": UNTIL + timedelta(seconds=1)}, "lapse"),
        ({"now": UNTIL + timedelta(hours=1), "resumed_at": NOW}, "wait"),
        ({"now": UNTIL + timedelta(hours=1), "answer": answer()}, "approve"),
        ({"is_own": False}, "nothing"),
        ({"is_own": False, "can_answer": False}, "adopt"),
        ({"is_own": False, "now": UNTIL + timedelta(hours=1), "resumed_at": NOW}, "nothing"),
        ({"is_own": False, "can_answer": False, "now": UNTIL + timedelta(hours=1), "resumed_at": NOW}, "lapse"),
        ({"is_own": False, "now": UNTIL + timedelta(hours=1), "resumed_at": ASKED - timedelta(1)}, "lapse"),
        ({"present": "7", "answer": answer()}, "outdate"),
        ({"evidence": evidence("4"), "answer": answer()}, "outdate"),
        ({"evidence": None, "answer": answer()}, "outdate"),
        ({"evidence": evidence(passed=False), "answer": answer()}, "outdate"),
        ({"is_unchanged": False, "answer": answer()}, "outdate"),
        ({"is_moved": True, "present": "2", "evidence": None}, "settle"),
    ],
)
def test_a_question_that_waits(other: dict[str, Any], step: str) -> None:
    assert decide(facts(record(), **other)).step == step


def test_a_declined_version_is_asked_about_again_only_if_somebody_wants_it() -> None:
    declined = record("declined", answered_by="Ada", answered_at=NOW)

    assert "Ada declined risk/2" in decide(facts(declined)).why
    assert decide(facts(declined, ask_again=True)).step == "ask"
    assert decide(facts(declined, evidence=evidence("4"))).step == "ask"
    assert decide(facts(record("lapsed"))).step == "ask"


@given(data=st.data())
def test_the_alias_moves_only_for_unchanged_evidence_that_passes_and_was_approved(data: st.DataObject) -> None:
    """Of all facts there are, a move needs every one of these."""
    given_facts = Facts(
        data.draw(st.sampled_from([NOW, UNTIL + timedelta(days=1)])),
        needs_person=data.draw(st.booleans()),
        newest=data.draw(st.sampled_from([None, *map(record, STATES)])),
        present=data.draw(st.sampled_from(["1", "2", "7", ""])),
        evidence=data.draw(st.sampled_from([None, evidence(), evidence("4"), evidence(passed=False)])),
        is_moved=data.draw(st.booleans()),
        is_unchanged=data.draw(st.booleans()),
        is_own=data.draw(st.booleans()),
        can_answer=data.draw(st.booleans()),
        answer=data.draw(st.sampled_from([None, answer(), answer(False), answer(number=2)])),
        ask_again=data.draw(st.booleans()),
    )

    step, newest = decide(given_facts).step, given_facts.newest

    if step in ("move", "approve"):
        assert newest is not None
        assert newest.state == ("approved" if step == "move" else "waiting")
        assert given_facts.is_unchanged
        assert not given_facts.is_moved
        assert given_facts.present == newest.champion
        assert given_facts.evidence == evidence(newest.candidate)
    if step == "approve":
        assert given_facts.answer == answer()
    if newest is not None and newest.is_open:
        assert step != "ask"  # one question at a time
    else:
        assert step in ("ask", "nothing")


def test_every_open_question_has_a_way_out() -> None:
    """Without an answer a question ends at its time, whatever else has changed."""
    over = UNTIL + timedelta(seconds=1)
    for own, can, unchanged, present in product((True, False), (True, False), (True, False), ("1", "7")):
        late = facts(record(), now=over, is_own=own, can_answer=can, is_unchanged=unchanged, present=present)
        assert decide(late).step == "lapse"
