"""Where the promotion of a pipeline's model stands, for the status and the plan."""

from dataclasses import dataclass
from datetime import datetime

from penstock.database.connections import Database
from penstock.ledger.promotions import PromotionState, read_newest
from penstock.spec.pipeline import Pipeline
from penstock.timezones import describe_moment


@dataclass(frozen=True)
class PromotionStanding:
    """The newest question about the alias of a model."""

    alias: str
    """As in `card-risk@champion`."""
    candidate: str
    """As in `card-risk/3`."""
    state: PromotionState
    asked_at: datetime
    answer_until: datetime
    flow_run_id: str
    ended_at: datetime | None
    answered_by: str | None

    @property
    def waits(self) -> bool:
        """Whether a person must answer."""
        return self.state == "waiting"


def read_standing(database: Database, pipeline: Pipeline, now: datetime) -> PromotionStanding | None:
    """Return where the promotion of a pipeline's model stands. None if nobody was asked yet.

    The questions are in the ledger of the model's first pipeline, so that one in another warehouse has none.
    """
    if pipeline.promotion is None or pipeline.model is None:
        return None
    newest = read_newest(database, pipeline.model.name, pipeline.promotion.alias)
    if newest is None:
        return None
    over = newest.state == "waiting" and newest.answer_until < now
    return PromotionStanding(
        f"{newest.model}@{newest.alias}",
        f"{newest.model}/{newest.candidate}",
        "lapsed" if over else newest.state,
        newest.asked_at,
        newest.answer_until,
        newest.flow_run_id,
        newest.answer_until if over else newest.ended_at,
        newest.answered_by,
    )


def describe_standing(standing: PromotionStanding, zone: str = "UTC") -> str:
    """Write where a promotion stands, in one line."""
    moves = f"the promotion of {standing.candidate} to `{standing.alias}`"
    asked = describe_moment(standing.asked_at, zone)
    ended = describe_moment(standing.ended_at, zone) if standing.ended_at else ""
    match standing.state:
        case "waiting":
            until = describe_moment(standing.answer_until, zone)
            return f"{moves} waits for an answer since {asked}, until {until}"
        case "approved":
            return f"{moves} was approved by {standing.answered_by}, and the alias has not moved yet"
        case "moved":
            return f"{moves} was approved by {standing.answered_by}, and the alias moved at {ended}"
        case "declined":
            return f"{moves} was declined by {standing.answered_by} at {ended}"
        case "lapsed":
            return f"{moves}: nobody answered until {ended}; the next run of the flow asks again"
        case "outdated":
            return f"{moves} of {asked} ended at {ended}, because what it was about has changed"
