"""Check the targets of `deliver`: that they can be reached, and keep each value as it is. Nothing is sent."""

from contextlib import closing
from typing import TYPE_CHECKING

from penstock.cli.check.report import CheckReport

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.database.connections import Connector
    from penstock.delivery.target import Target
    from penstock.settings import Settings
    from penstock.spec.deliver import AnyTarget
    from penstock.spec.pipeline import Pipeline


def check_targets(pipeline: "Pipeline", settings: "Settings", connect: "Connector", report: CheckReport) -> None:
    """Check the places, addresses and secrets of the targets. One that may answer later is a warning."""
    for target in pipeline.deliver:
        subject = f"deliver `{target.name}`"
        with report.about(subject):
            with closing(_make(target, settings, connect)) as opened:
                reply = opened.open()
            if not reply.accepted:
                (report.warning if reply.again else report.problem)(subject, reply.text)
            _refuse_moved(pipeline, target, connect)


def check_target_columns(
    pipeline: "Pipeline", settings: "Settings", connect: "Connector", rows: "pa.Table", report: CheckReport
) -> None:
    """Check that the targets keep each value as it is.

    Args:
        rows: what is stored with the scores of a sample.
    """
    for target in pipeline.deliver:
        with report.about(f"deliver `{target.name}`"), closing(_make(target, settings, connect)) as opened:
            named = dict.fromkeys((*pipeline.key, *target.columns))
            columns = [column for column in named if column in rows.column_names]
            if opened.open().accepted:
                opened.check_columns(rows.select(columns).schema)


def _make(target: "AnyTarget", settings: "Settings", connect: "Connector") -> "Target":
    from penstock.delivery.opening import open_target

    assert connect.read_value is not None  # a command's connector has it
    return open_target(target, connect.read_value, settings.statement_seconds)


def _refuse_moved(pipeline: "Pipeline", target: "AnyTarget", connect: "Connector") -> None:
    """Refuse another place for a target that has rows."""
    from penstock.delivery.opening import open_outbox
    from penstock.ledger.delivery_targets import refuse_moved
    from penstock.ledger.migrations import has_ledger

    database = connect(pipeline.destination.connection)
    if database.missing_file is None and has_ledger(database):
        refuse_moved(database, open_outbox(database, pipeline, target.name), target.place_digest)
