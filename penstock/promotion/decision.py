"""Decide what happens with a promotion. Pure: everything that runs, answers or shows a promotion asks here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from penstock.interval import iso
from penstock.ledger.promotions import PromotionRecord
from penstock.promotion.evidence import Evidence

Step = Literal["nothing", "ask", "adopt", "wait", "approve", "decline", "move", "settle", "lapse", "outdate"]


@dataclass(frozen=True)
class Answer:
    """What a person typed into the form of one question."""

    number: int
    """Of the promotion that the form was about."""
    approve: bool
    by: str
    note: str
    at: datetime


@dataclass(frozen=True)
class Facts:
    """Everything that the decision depends on."""

    now: datetime
    needs_person: bool
    newest: PromotionRecord | None
    """The newest promotion of the alias."""
    present: str
    """The version that the alias names now."""
    evidence: Evidence | None
    """As of now. None: there is no challenger of another version."""
    is_moved: bool = False
    """Whether the alias's history has a move for the newest promotion."""
    is_unchanged: bool = True
    """Whether the evidence of the newest promotion, gathered again, is the same."""
    is_own: bool = True
    """Whether this flow run asks the question."""
    can_answer: bool = True
    """Whether the flow run that asks still waits for an answer."""
    answer: Answer | None = None
    resumed_at: datetime | None = None
    """When the flow run that asks was resumed, if it was: a person may have answered then."""
    ask_again: bool = False
    """Whether to ask about a version that was declined."""


@dataclass(frozen=True)
class Decision:
    """The next step, and why."""

    step: Step
    why: str


def decide(facts: Facts) -> Decision:
    """Decide the next step of a promotion.

    An open question comes first: it is settled, lapses, or is outdated before there is another one. The alias moves
    only for evidence that is unchanged, passes now too, and is about the version that the alias still names.
    """
    newest = facts.newest
    if newest is not None and newest.is_open:
        return _decide_open(facts, newest)
    return _decide_new(facts)


def find_answer(facts: Facts) -> Answer | None:
    """Return the answer, if it is one to the question that is open."""
    newest, answer = facts.newest, facts.answer
    return answer if answer is not None and newest is not None and answer.number == newest.number else None


def _decide_open(facts: Facts, asked: PromotionRecord) -> Decision:
    if facts.is_moved:
        return Decision("settle", f"the alias moved to {asked.model}/{asked.candidate}")
    answer = find_answer(facts)
    if asked.state == "waiting" and (answer.at if answer else _find_resumption(facts, asked)) > asked.answer_until:
        until = _moment(asked.answer_until)
        late = answer and f"{answer.by} answered at {_moment(answer.at)}; answers counted until {until}"
        return Decision("lapse", late or f"nobody answered until {until}")
    if changed := _find_change(facts, asked):
        return Decision("outdate", changed)
    if asked.state == "approved":
        return Decision("move", f"{asked.answered_by} approved it")
    if answer is not None:
        if answer.approve:
            return Decision("approve", f"{answer.by} approved it")
        return Decision("decline", f"{answer.by} declined it{f': {answer.note}' if answer.note else ''}")
    if facts.is_own:
        return Decision("wait", f"waits for an answer until {_moment(asked.answer_until)}")
    if facts.can_answer:
        since = f"since {_moment(asked.asked_at)}, until {_moment(asked.answer_until)}"
        return Decision("nothing", f"{asked.label} waits for an answer {since}")
    return Decision("adopt", "the flow run that asked has ended without an answer")


def _find_resumption(facts: Facts, asked: PromotionRecord) -> datetime:
    """Return when a person may have answered: now, unless the flow run that asks has been resumed and works on it.

    A resumption from before the question was for another one.
    """
    resumed_at = facts.resumed_at
    works = facts.is_own or facts.can_answer
    return resumed_at if works and resumed_at is not None and resumed_at >= asked.asked_at else facts.now


def _find_change(facts: Facts, asked: PromotionRecord) -> str:
    """Say what has changed since the question was asked. Empty: nothing that matters."""
    if facts.present != asked.champion:
        now = f"{asked.model}/{facts.present}" if facts.present else "nothing"
        return f"the alias `{asked.alias}` was moved meanwhile: it names {now}, not {asked.model}/{asked.champion}"
    evidence = facts.evidence
    if evidence is None or evidence.candidate != asked.candidate:
        now = f"{asked.model}/{evidence.candidate}" if evidence else "the champion's version"
        return f"the challenger is {now} now; the question was about {asked.model}/{asked.candidate}"
    if not facts.is_unchanged:
        return "the evidence has changed: runs, labels or requirements are no longer those that were shown"
    if not evidence.passed:
        return f"the requirements are no longer met: {'; '.join(evidence.failures)}"
    return ""


def _decide_new(facts: Facts) -> Decision:
    evidence, newest = facts.evidence, facts.newest
    if evidence is None:
        return Decision("nothing", "the challenger is the version that the alias names already")
    candidate = f"{evidence.model}/{evidence.candidate}"
    if not evidence.passed:
        return Decision("nothing", f"{candidate} does not meet the requirements: {'; '.join(evidence.failures)}")
    same = newest and (newest.champion, newest.candidate) == (evidence.champion, evidence.candidate)
    if newest and same and newest.state == "declined" and facts.needs_person and not facts.ask_again:
        told = f"{newest.answered_by} declined {candidate} at {_moment(newest.answered_at or newest.asked_at)}"
        return Decision("nothing", f"{told}; start the flow with `Ask again` to ask once more")
    return Decision("ask", f"{candidate} meets all requirements")


def _moment(at: datetime) -> str:
    return iso(at.replace(microsecond=0))
