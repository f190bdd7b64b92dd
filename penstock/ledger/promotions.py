"""Promotions in the ledger: ask about an alias, answer, and end. Every change needs the state that it starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import KeyCollision
from penstock.ledger.migrations import has_ledger
from penstock.ledger.tables import promotions

PromotionState = Literal["waiting", "approved", "moved", "declined", "lapsed", "outdated"]
OPEN: tuple[PromotionState, ...] = ("waiting", "approved")
"""States of a promotion that has not ended."""


@dataclass(frozen=True)
class PromotionRecord:
    """One question about an alias."""

    model: str
    alias: str
    number: int
    champion: str
    """The version that the alias named."""
    candidate: str
    state: PromotionState
    evidence: str
    """JSON."""
    digest: str
    flow_run_id: str
    """The flow run that asks. Empty: the question was asked without Prefect."""
    asked_at: datetime
    answer_until: datetime
    answered_at: datetime | None = None
    answered_by: str | None = None
    """As the person typed it."""
    note: str | None = None
    ended_at: datetime | None = None
    why: str | None = None
    """Why it ended without a move."""

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def label(self) -> str:
        """The name that messages have: `card-risk@champion #3`."""
        return f"{self.model}@{self.alias} #{self.number}"


def read_newest(database: Database, model: str, alias: str) -> PromotionRecord | None:
    """Return the newest promotion of an alias. None if there was none."""
    return next(iter(list_promotions(database, model, alias, limit=1)), None)


def list_promotions(
    database: Database, model: str, alias: str | None = None, limit: int | None = None
) -> list[PromotionRecord]:
    """Return the promotions of a model, the newest first. Those of one alias are in the order of their numbers."""
    if not has_ledger(database):
        return []
    query = sa.select(promotions).where(promotions.c.model == model).limit(limit)
    if alias is None:
        query = query.order_by(promotions.c.asked_at.desc(), promotions.c.number.desc())
    else:  # the clocks of two machines may differ
        query = query.where(promotions.c.alias == alias).order_by(promotions.c.number.desc())
    with database.reading() as connection:
        return [PromotionRecord(**row) for row in connection.execute(query).mappings()]


def ask(database: Database, record: PromotionRecord) -> bool:
    """Keep a new promotion. Return `False` if another one has its number or is open, so that one must look again."""
    here = (promotions.c.model == record.model, promotions.c.alias == record.alias)
    try:
        with database.writing() as connection:
            if connection.execute(sa.select(promotions.c.number).where(*here, promotions.c.state.in_(OPEN))).first():
                return False
            row = {name: getattr(record, name) for name in PromotionRecord.__dataclass_fields__}
            connection.execute(promotions.insert().values(**row))
    except KeyCollision:  # another flow run has asked at the same moment
        return False
    return True


def change_state(
    database: Database, record: PromotionRecord, state: PromotionState, values: Mapping[str, Any] | None = None
) -> bool:
    """Change the state of an open promotion. Return `False` if it has another state by now."""
    same = [promotions.c[name] == getattr(record, name) for name in ("model", "alias", "number", "state")]
    with database.writing() as connection:
        changed = sa.update(promotions).where(*same).values(state=state, **(values or {}))
        return bool(connection.execute(changed).rowcount)
