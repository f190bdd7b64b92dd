"""Deliveries of a run's rows to other systems, for the run card and for commands."""

from collections.abc import Sequence

from penstock.ledger.delivery_records import DeliveryRecord, FailingTarget
from penstock.report.blocks import Column, Inline, Table
from penstock.timezones import describe_moment
from penstock.wording import plural


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
