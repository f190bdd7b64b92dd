"""Take a promotion as far as it goes: gather the facts, decide, act, and look again.

Every action may be repeated and may meet another process that does the same. The ledger has one state for each
question, and the alias moves by one conditional write of the model store, once for each evidence.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from penstock.database.connections import Database
from penstock.errors import AliasMoved
from penstock.ledger.promotions import PromotionRecord, PromotionState, ask, change_state, read_newest
from penstock.models.aliases import AliasMove
from penstock.promotion.decision import Answer, Decision, Facts, Step, decide, find_answer
from penstock.promotion.evidence import Evidence, EvidenceReader, read_bounds
from penstock.run_types import ModelPin

NO_PERSON = "penstock (approval: none)"
"""Who approved where no person is asked."""


@dataclass(frozen=True)
class Caller:
    """Who takes the promotion further."""

    flow_run_id: str
    now: datetime
    answer: Answer | None = None
    ask_again: bool = False
    can_answer: Callable[[str], bool] = lambda _: True
    """Whether the flow run of this ID still waits for an answer or works on it."""
    find_resumption: Callable[[str], datetime | None] = lambda _: None
    """When the flow run of this ID was resumed last. None: never."""


@dataclass(frozen=True)
class Outcome:
    """How far a promotion went."""

    step: Step
    """`nothing`, `wait`, `decline`, `settle` or `lapse`."""
    why: str
    record: PromotionRecord | None
    ended: tuple[PromotionRecord, ...] = ()
    """Questions of other flow runs that ended meanwhile. Their `why` says how."""


@dataclass(frozen=True)
class Promoter:
    """Takes the promotion of one model further."""

    reader: EvidenceReader

    @property
    def ledger(self) -> Database:
        """The warehouse whose ledger has the model's promotions."""
        return self.reader.connect(self.reader.promoting.home)

    def look(self, caller: Caller) -> Facts:
        """Gather the facts of now. Nothing is written."""
        promoting, registry = self.reader.promoting, self.reader.registry
        newest = read_newest(self.ledger, promoting.model, promoting.alias)
        champion = registry.resolve(f"{promoting.model}@{promoting.alias}")
        candidate = registry.resolve(promoting.candidate)
        moves = registry.alias_history(promoting.model)
        is_moved = newest is not None and any(move.evidence == newest.digest for move in moves)
        stands = newest is not None and newest.is_open and not is_moved and newest.champion == champion.version
        return Facts(
            now=caller.now,
            needs_person=promoting.promotion.approval == "person",
            newest=newest,
            present=champion.version,
            evidence=None if candidate == champion else self.reader.gather(champion, candidate, caller.now),
            is_moved=is_moved,
            is_unchanged=newest is None or not stands or self._is_unchanged(newest, champion, candidate),
            is_own=newest is not None and newest.flow_run_id == caller.flow_run_id,
            can_answer=newest is not None and newest.is_open and caller.can_answer(newest.flow_run_id),
            answer=caller.answer,
            resumed_at=caller.find_resumption(newest.flow_run_id) if newest is not None and newest.is_open else None,
            ask_again=caller.ask_again,
        )

    def advance(self, caller: Caller) -> Outcome:
        """Take the promotion as far as it goes without a person."""
        ended: list[PromotionRecord] = []
        reasons: list[str] = []
        while True:
            facts = self.look(caller)
            decision = decide(facts)
            record = facts.newest
            if decision.step in ("nothing", "wait"):
                why = "; ".join((*reasons, decision.why))
                return Outcome(decision.step, why, record, tuple(ended))
            if not self._act(decision, facts, caller):
                continue  # another process was quicker
            if decision.step in ("decline", "settle") or (decision.step == "lapse" and facts.is_own):
                return Outcome(decision.step, decision.why, record, tuple(ended))
            if decision.step in ("lapse", "outdate") and record is not None:
                reasons.append(decision.why)
                ended += [] if facts.is_own else [replace(record, why=decision.why)]

    def _is_unchanged(self, asked: PromotionRecord, champion: ModelPin, candidate: ModelPin) -> bool:
        bounds = read_bounds(asked.evidence)
        again = self.reader.gather(champion, candidate, asked.asked_at, bounds)
        return again.digest == asked.digest

    def _act(self, decision: Decision, facts: Facts, caller: Caller) -> bool:
        """Do the step of a decision. Return `False` if the promotion has another state by now."""
        asked, now = facts.newest, caller.now
        if decision.step == "ask":
            assert facts.evidence is not None
            return ask(self.ledger, self._new_question(facts.evidence, asked, caller))
        assert asked is not None
        match decision.step:
            case "adopt":
                return change_state(self.ledger, asked, "waiting", {"flow_run_id": caller.flow_run_id})
            case "approve":
                answer = find_answer(facts)
                assert answer is not None
                return change_state(self.ledger, asked, "approved", _answered(answer))
            case "decline":
                answer = find_answer(facts)
                assert answer is not None
                return self._end(asked, "declined", now, decision.why, answer)
            case "move":
                return self._move(asked, caller)
            case "settle":
                return self._end(asked, "moved", now)
            case "lapse":
                return self._end(asked, "lapsed", now, decision.why)
            case _:
                return self._end(asked, "outdated", now, decision.why)

    def _new_question(self, evidence: Evidence, before: PromotionRecord | None, caller: Caller) -> PromotionRecord:
        promotion = self.reader.promoting.promotion
        question = PromotionRecord(
            evidence.model,
            evidence.alias,
            1 if before is None else before.number + 1,
            evidence.champion,
            evidence.candidate,
            "waiting",
            evidence.to_json(),
            evidence.digest,
            caller.flow_run_id,
            caller.now,
            caller.now + promotion.answer_within,
        )
        if promotion.approval == "person":
            return question
        return replace(question, state="approved", answered_at=caller.now, answered_by=NO_PERSON, note="")

    def _move(self, asked: PromotionRecord, caller: Caller) -> bool:
        move = AliasMove(
            alias=asked.alias,
            version=asked.candidate,
            previous=asked.champion,
            at=caller.now,
            by=asked.answered_by or "",
            note=asked.note or "",
            evidence=asked.digest,
            flow_run_id=caller.flow_run_id,
        )
        try:
            self.reader.registry.promote_once(asked.model, move)
        except AliasMoved:
            return False
        return True

    def _end(
        self,
        asked: PromotionRecord,
        state: PromotionState,
        now: datetime,
        why: str | None = None,
        answer: Answer | None = None,
    ) -> bool:
        answered = _answered(answer) if answer else {}
        return change_state(self.ledger, asked, state, {"ended_at": now, "why": why, **answered})


def _answered(answer: Answer) -> dict[str, object]:
    return {"answered_at": answer.at, "answered_by": answer.by, "note": answer.note}
