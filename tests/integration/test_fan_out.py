"""The flow runs that a backfill starts, on a real server without a worker."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Running

from penstock.interval import DataInterval
from penstock.ledger.backfills import PinnedBackfill
from penstock.run.planning import PlannedInterval
from penstock.run_types import ModelPin
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.backfill import Backfill
from penstock.tasks.fan_out import FanOut
from tests.project import Project
from tests.shop import START

pytestmark = pytest.mark.slow
logger = logging.getLogger(__name__)


@pytest.mark.parametrize("begun", [False, True], ids=["waiting", "running"])
def test_a_backfill_joins_no_flow_run_that_scores_with_other_versions(
    project: Project, prefect_client: SyncPrefectClient, begun: bool
) -> None:
    """A waiting one is ended, and one that has begun is left alone: the ledger lets one of the two publish."""
    pipeline = load_pipeline(project.write("card-risk"))
    project.deploy()
    asked = Backfill("card-risk", pipeline, None, None, datetime.now(UTC), restate_since=None)
    day = PlannedInterval(DataInterval(START, START + timedelta(days=1)), "missing")

    def start(version: str) -> str:
        pinned = PinnedBackfill({pipeline.steps[0].name: ModelPin("card-risk", version, "d")}, None)
        fan_out = FanOut(prefect_client, asked, pinned, logger)
        next(fan_out.score([day], 1))
        [run] = fan_out.runs.values()
        return str(run.flow_run_id)

    first = start("1")
    if begun:
        prefect_client.set_flow_run_state(first, Running(), force=True)
    joined, other = start("1"), start("2")

    assert (joined, other != first) == (first, True)
    left = prefect_client.read_flow_run(first)
    assert left.state_name == ("Running" if begun else "Cancelled")
    assert prefect_client.read_flow_run(other).parameters["model"].endswith("card-risk@2")
    assert start("2") == other
