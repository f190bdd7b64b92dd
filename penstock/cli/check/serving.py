"""Check that requests of a pipeline can be scored, and what a server would hold in memory."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.cli.check.report import CheckReport

if TYPE_CHECKING:
    from penstock.database.connections import Connector
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline


def check_serving(pipeline: "Pipeline", settings: "Settings", connect: "Connector", report: CheckReport) -> None:
    """Check `serve`. A snapshot of the secondary sources is taken as a server does."""
    from penstock.privacy.masking import make_masking
    from penstock.serving.served_pipeline import refuse_unservable
    from penstock.serving.source_snapshot import take_snapshot

    if pipeline.serve is None:
        return
    with report.about("serve"):
        refuse_unservable(pipeline)
        report.ok("serve", "its row expectations can be judged within a request")
    if pipeline.holds_snapshot:
        with report.about("serve"):
            most_bytes = pipeline.serve.limit.snapshot
            masking = make_masking(pipeline, settings)
            snapshot = take_snapshot(pipeline, connect, masking, most_bytes, datetime.now(UTC))
            report.ok("serve", f"each process holds {snapshot.summary}")
