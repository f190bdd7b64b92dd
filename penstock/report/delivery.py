"""Deliveries of a run's rows to other systems, for the run card and for commands."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.database.connections import Database
from penstock.ledger import delivery_records
from penstock.ledger.delivery_records import DeliveryRecord, FailingTarget
from penstock.ledger.destinations import destination_name
from penstock.report.blocks import Column, Inline, Table
from penstock.spec.pipeline import Pipeline
from penstock.timezones import describe_moment
from penstock.wording import plural


@dataclass(frozen=True)
class TargetStanding:
    """A target of the spec, with its newest delivery and whether it fails."""

    target: str
    newest: DeliveryRecord | None
    """None: nothing was delivered to it yet."""
    failing: FailingTarget | None

    @property
    def state(self) -> str:
        """That of the newest delivery, `failed` while deliveries fail, or `waiting` before the first one.

        Older deliveries of other intervals may still be open.
        """
        if self.failing:
            return "failed"
        if self.newest is None:
            return "waiting"
        return "open" if self.newest.is_open else self.newest.state

    @property
    def reply(self) -> str:
        """What the target answered last, as run cards have it."""
        return describe_reply(self.newest) if self.newest else "–"


def read_targets(database: Database, pipeline: Pipeline) -> list[TargetStanding]:
    """Return the targets of a pipeline's spec in their order. Deliveries of a former table do not count."""
    if not pipeline.deliver:
        return []
    failing = {each.target: each for each in find_failing(database, pipeline)}
    here = _name_destination(database, pipeline)
    standings = []
    for target in pipeline.deliver:
        found = delivery_records.list_deliveries(database, pipeline.name, limit=1, target=target.name, destination=here)
        standings.append(TargetStanding(target.name, next(iter(found), None), failing.get(target.name)))
    return standings


def find_failing(database: Database, pipeline: Pipeline) -> list[FailingTarget]:
    """Return the targets that fail. One that the spec no longer has, or of a former table, is not waited for."""
    named = {target.name for target in pipeline.deliver}
    if not named:
        return []
    here = _name_destination(database, pipeline)
    found = delivery_records.list_failing(database, pipeline.name)
    return [each for each in found if each.target in named and each.destination == here]


def _name_destination(database: Database, pipeline: Pipeline) -> str:
    with database.reading() as connection:
        return destination_name(connection, pipeline.destination)


def list_deliveries(found: Sequence[DeliveryRecord]) -> Table:
    """List the deliveries of a run's rows, the newest first."""
    rows: list[list[Inline]] = [
        [
            each.target,
            each.state,
            f"{each.upserts:,}",
            f"{each.deletes:,}",
            f"{each.acknowledged:,} of {each.batches:,}",
            describe_reply(each),
        ]
        for each in found
    ]
    numbers = ("rows", "removals", "batches")
    columns = [Column(name, number=name in numbers) for name in ("target", "state", *numbers, "reply")]
    return Table(columns, rows)


def describe_reply(delivery: DeliveryRecord) -> str:
    """Say what the target answered last, and how many keys its table does not have."""
    lacking = f"{plural(delivery.missing, 'key')} not in its table" if delivery.missing else ""
    return "; ".join(filter(None, (delivery.reply, lacking))) or "–"


def describe_failing(target: FailingTarget, zone: str = "UTC") -> str:
    """Say since when a target does not get its rows, and why."""
    since = describe_moment(target.since, zone)
    return f"{target.pipeline}: `{target.target}` does not get its rows since {since}: {target.error}"
