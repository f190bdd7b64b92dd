"""Ten thousand intervals: planning stays quick, and a run takes no more than `max_intervals`."""

import time
from collections.abc import Callable
from datetime import timedelta

import pyarrow as pa
import pytest

from penstock.database.bulk import bulk_transaction
from penstock.interval import DataInterval
from penstock.ledger.coverage import read_coverage
from penstock.ledger.destinations import destination_name
from penstock.ledger.migrations import migrate
from penstock.ledger.tables import runs
from penstock.run.planning import PlanRequest, plan_intervals
from penstock.spec.yaml_file import load_pipeline
from tests.conftest import DIALECTS
from tests.faults.conftest import Tell
from tests.faults.harness.scene import Scene
from tests.shop import START

COUNT = 10_000
GRAIN = timedelta(minutes=15)
QUICK = 10.0
"""Seconds: ten times what it takes on a machine that is busy."""


@pytest.mark.parametrize("done", [0, COUNT - 40])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_ten_thousand_intervals_are_planned_quickly(
    scenes: Callable[[str], Scene], dialect: str, done: int, tell: Tell
) -> None:
    scene = scenes(dialect)
    spec = scene.folder / "quarters.yaml"
    spec.write_text(scene.spec.read_text().replace("grain: 1d", "grain: 15m"))
    pipeline, warehouse = load_pipeline(spec), scene.trial().warehouse
    migrate(warehouse)
    if done:
        with warehouse.reading() as connection:
            place = destination_name(connection, pipeline.destination)
        rows = pa.Table.from_pylist([published_row(pipeline.name, place, number) for number in range(done)])
        with bulk_transaction(warehouse) as transaction:
            transaction.append(runs, rows)

    begun = time.perf_counter()
    coverage = read_coverage(warehouse, pipeline)
    plan = plan_intervals(PlanRequest(pipeline, coverage, START + COUNT * GRAIN, lambda _: ""))
    seconds = time.perf_counter() - begun

    assert len(plan.intervals) == 32
    assert plan.left_over == COUNT - done - 32
    assert plan.intervals[0].interval == DataInterval(START + done * GRAIN, START + (done + 1) * GRAIN)
    assert seconds < QUICK
    tell(f"10,000 intervals, {done:,} of them published", dialect, f"planned in {seconds:.2f} s; 32 taken")


def published_row(pipeline: str, place: str, number: int) -> dict[str, object]:
    """Return a published run's row of the ledger."""
    interval = DataInterval(START + number * GRAIN, START + (number + 1) * GRAIN)
    words = ("model_name", "model_version", "model_digest", "spec_fingerprint", "destination_table", "lease_token")
    moments = ("lease_until", "started_at", "finished_at", "published_at")
    return {
        "run_id": f"{number:032x}",
        "pipeline": pipeline,
        "destination": place,
        "interval_key": interval.key,
        "interval_start": interval.start,
        "interval_end": interval.end,
        "variant": "live",
        "reason": "due",
        "state": "published",
        "lease_owner": "nobody",
        "source_fingerprint": "",
        "score_quantiles": "[]",
        **dict.fromkeys(words, "x"),
        **dict.fromkeys(moments, interval.end),
    }
