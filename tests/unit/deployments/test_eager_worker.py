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

    def __init__(self, *answers: list[SimpleNamespace], due_after: int = 0) -> None:
        self._answers = list(answers)
        self._due_after = due_after
        self.looks = self.glances = 0
        self.client = self
        self.work_pool = SimpleNamespace(name="penstock")

    async def get_and_submit_flow_runs(self) -> list[SimpleNamespace]:
        self.looks += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    async def read_flow_runs(self, **_: object) -> list[SimpleNamespace]:
        """Find a due run after so many times."""
        self.glances += 1
        return [WAITING] if self.glances > self._due_after else []


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "EAGER_SECONDS", 0.5)
    monkeypatch.setattr(eager, "LOOK_SECONDS", 0.01)


def looks_at(*answers: list[SimpleNamespace], due_after: int = 0) -> int:
    pool: Any = Pool(*answers, due_after=due_after)
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(take_flow_runs, pool)
    return int(pool.looks)


def test_a_worker_that_finds_nothing_looks_once() -> None:
    assert looks_at([]) == 1


def test_a_worker_that_found_a_flow_run_looks_again_soon() -> None:
    assert looks_at([WAITING], []) > 2


def test_a_flow_run_that_waits_for_its_slot_does_not_keep_the_worker_busy() -> None:
    assert looks_at([WAITING]) > 2  # and it returns, though the run is found each time


def test_a_worker_asks_for_flow_runs_again_only_when_one_is_due() -> None:
    assert looks_at([WAITING], due_after=1_000_000) == 1  # and it returns
    assert looks_at([WAITING], [], due_after=3) > 2


def test_a_flow_run_that_is_not_due_yet_is_tried_again_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "FULL_SECONDS", 0.1)
    assert looks_at([WAITING], due_after=1_000_000) > 2
