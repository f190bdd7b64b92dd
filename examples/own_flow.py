"""A hand-written flow that chains Penstock's tasks: score a pipeline only when a partner's file has arrived.

The pipeline is built in Python, not read from YAML. The guarantees are those of the `score` flow, because the tasks
give them. Run it with `python -m penstock.examples.own_flow`.
"""

from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, task

from penstock import Destination, Expectation, Halted, ModelRef, Pipeline, SqlSource, gather_receipts, run_lease
from penstock.tasks.interval import (
    audit_run,
    claim_interval,
    explain_rows,
    plan,
    prepare_partitions,
    publish_run,
    resolve_models,
)
from penstock.tasks.partitions import score_partitions
from penstock.tasks.process_resources import connect, settings

PIPELINE = Pipeline(
    name="own-risk",
    sources={"payments": SqlSource(kind="sql", connection="shop", table="payments", key=("payment_id",))},
    expectations={
        "payments": (
            Expectation(type="expect_column_values_to_not_be_null", severity="warning", arguments={"column": "amount"}),
        )
    },
    model=ModelRef(name="card-risk", selector="champion"),
    destination=Destination(table="own_risk_scores"),
)


@task
def partner_file_is_there(path: Path) -> bool:
    """Return whether the partner has delivered."""
    return path.exists()


@flow
def score_after_delivery(delivery: Path) -> int:
    """Score the whole source once the partner's file is there. Return how many scores were published."""
    if not partner_file_is_there(delivery):
        return 0
    pins = resolve_models(PIPELINE)
    [planned] = plan(PIPELINE, datetime.now(UTC), "due", None, None).intervals
    run = claim_interval(PIPELINE, planned, pins, None)
    assert run is not None, "a snapshot is always scored again"
    with run_lease(connect(PIPELINE.destination.connection), run, settings().lease_seconds):
        source_plan = prepare_partitions(run, None)
        scored = score_partitions(run, source_plan.partitions, in_flight=2, sample_share=1.0)
        receipts, chosen = gather_receipts(scored)
        explain_rows(run, receipts, chosen)  # does nothing without `reasons`
        result = audit_run(run, receipts)
        if result.halts:
            raise Halted(PIPELINE.name, planned.label, result.halts)  # the run ends as halted, nothing is published
        publish_run(run, result)
    return result.totals.scored


if __name__ == "__main__":
    score_after_delivery(Path("delivery.csv"))
