"""The end of a flow run does not wait for the thread of Prefect's heartbeat."""

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow_engine

from penstock.tasks.heartbeat import end_without_waiting


@pytest.fixture
def as_prefect_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = getattr(flow_engine._send_heartbeats, "func", flow_engine._send_heartbeats)
    monkeypatch.setattr(flow_engine, "_send_heartbeats", plain)


def seconds_at_the_end(beats: list[Any]) -> float:
    """Return how long a flow run's end waits for its heartbeat."""
    engine: Any = SimpleNamespace(
        heartbeat_seconds=30,
        flow_run=None,
        logger=logging.getLogger("test"),
        _build_heartbeat_event_template=lambda: ({}, []),
        _emit_flow_run_heartbeat=lambda *event: beats.append(event),
    )
    with flow_engine._send_heartbeats(engine):
        while not beats:
            time.sleep(0.01)
        time.sleep(0.1)  # the thread sleeps now
        ended = time.monotonic()
    return time.monotonic() - ended


def test_a_flow_run_ends_at_once_and_its_heartbeat_was_sent(as_prefect_has_it: None) -> None:
    plain, ours = [], []  # type: ignore[var-annotated]
    assert seconds_at_the_end(plain) > 0.5, "Prefect does not wait any more: delete `tasks.heartbeat`"

    end_without_waiting()
    end_without_waiting()  # a second call changes nothing

    assert seconds_at_the_end(ours) < 0.5
    assert plain
    assert ours
