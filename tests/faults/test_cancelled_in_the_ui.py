"""Cancelling a run in Prefect's UI, under a real worker: its interval is free at once, not when its lease has ended."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling

from penstock.ledger.reader import rows_done
from tests.faults.conftest import Tell
from tests.waiting import wait_until
from tests.works import Works, running_works

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.fixture
def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Works]:
    monkeypatch.setenv("PENSTOCK_LEASE_SECONDS", "3600")
    monkeypatch.setenv("PENSTOCK_RUNNER", "threads:1")
    with running_works(tmp_path, {}) as running:
        yield running


def test_a_run_cancelled_in_the_ui_gives_its_interval_back_at_once(works: Works, tell: Tell) -> None:
    name = works.deploy("stopped", **{"partition_rows: 150": "partition_rows: 5"})
    day = {"mode": "backfill", "start": "2026-01-01", "end": "2026-01-02"}
    with works.worker():
        begun = works.trigger(f"score/{name}", pipeline=name, **day)
        wait_until(lambda: any(rows_done(works.open("warehouse"), [run.run_id]) for run in works.ledger(name)))

        works.client.set_flow_run_state(begun, Cancelling())
        asked = time.monotonic()
        ended = works.wait(begun)
        seconds = time.monotonic() - asked
        [cancelled] = works.ledger(name)
        again = works.wait(works.trigger(f"score/{name}", pipeline=name, **day))

    assert ended.state_type is StateType.CANCELLED
    assert cancelled.state == "failed"
    assert cancelled.error is not None
    assert cancelled.error.startswith("cancelled")
    assert again.state_type is StateType.COMPLETED, again.state
    assert [run.state for run in works.ledger(name)] == ["failed", "published"]
    tell("cancelled in the UI, real worker", "sqlite", f"failed: cancelled, after {seconds:.0f} s; the next run healed")
