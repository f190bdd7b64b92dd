"""A run that is killed leaves nothing that readers see, and the next run heals it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.ledger.reader import list_runs, rows_done
from penstock.report.card import run_card
from tests.conftest import view_rows
from tests.outcomes import outcome_of
from tests.shop import SPEC, Place
from tests.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]


def start_run(place: Place) -> subprocess.Popen[bytes]:
    code = f"from penstock.flows.score import score; score({str(place.spec)!r}, end='2026-01-02')"
    environment = os.environ | {
        "PYTHONPATH": str(CHECKOUT),
        "PENSTOCK_LEASE_SECONDS": "6",
        "PENSTOCK_RUNNER": "threads:1",
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", code], cwd=place.folder, env=environment, **quiet)  # type: ignore[call-overload] # DEVNULL twice


@pytest.mark.usefixtures("prefect_api")
def test_a_run_killed_between_two_partitions_is_taken_over_and_healed(make_place: Callable[..., Place]) -> None:
    from penstock.flows.score import score

    place = make_place(spec=SPEC.replace("partition_rows: 150", "partition_rows: 25"), days=1)
    process = start_run(place)
    try:
        wait_until(lambda: any(0 < rows_done(place.warehouse, [r.run_id]) < 250 for r in list_runs(place.warehouse)))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    [killed] = list_runs(place.warehouse)
    assert killed.state == "running"
    assert view_rows(place.warehouse) == []
    early = score(str(place.spec), end="2026-01-02", return_state=True)
    assert outcome_of(early) == "skipped"  # its lease has not ended
    time.sleep(max(0.0, (killed.lease_until - datetime.now(UTC)).total_seconds()) + 0.2)

    state = score(str(place.spec), end="2026-01-02", return_state=True)

    assert state.is_completed(), state.message
    assert sorted(r.state for r in list_runs(place.warehouse)) == ["abandoned", "published"]
    assert [row[0] for row in view_rows(place.warehouse)] == list(range(1, 251))
    successor = next(r for r in list_runs(place.warehouse) if r.state == "published")
    told = f"**Takes over from run** {killed.run_id[:8]} (abandoned: its lease ended without being renewed)"
    assert told in run_card(place.warehouse, successor.run_id)
