"""A worker that has found a flow run looks for the next one sooner."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import anyio
import pytest

from penstock.deployments.worker import eager
from penstock.deployments.worker.eager import take_flow_runs

WAITING = SimpleNamespace(id=uuid4())


class Pool:
    """A worker's view of its pool: what it finds at each look. The last answer stays."""

    def __init__(self, *answers: list[SimpleNamespace]) -> None:
        self._answers = list(answers)
        self.looks = 0

    async def get_and_submit_flow_runs(self) -> list[SimpleNamespace]:
        self.looks += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "EAGER_SECONDS", 0.5)
    monkeypatch.setattr(eager, "LOOK_SECONDS", 0.01)


def looks_at(*answers: list[SimpleNamespace]) -> int:
    pool: Any = Pool(*answers)
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(take_flow_runs, pool)
    return int(pool.looks)


def test_a_worker_that_finds_nothing_looks_once() -> None:
    assert looks_at([]) == 1


def test_a_worker_that_found_a_flow_run_looks_again_soon() -> None:
    assert looks_at([WAITING], []) > 2


def test_a_flow_run_that_waits_for_its_slot_does_not_keep_the_worker_busy() -> None:
    assert looks_at([WAITING]) > 2  # and it returns, though the run is found each time
