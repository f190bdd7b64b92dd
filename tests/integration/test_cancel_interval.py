"""Cancelling one interval's flow run in Prefect ends that interval, and the others go on."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelling

from penstock.ledger.reader import list_runs, rows_done
from penstock.tasks import cancellation
from tests.shop import SPEC, Place
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]
MANY_PARTITIONS = SPEC.replace("partition_rows: 150", "partition_rows: 10")


class Running:
    """A scoring flow that runs in a thread of its own."""

    def __init__(self, place: Place, **parameters: Any) -> None:
        self.place = place
        self.state: Any = None
        self._thread = threading.Thread(target=self._score, args=(parameters,))
        self._thread.start()

    def _score(self, parameters: dict[str, Any]) -> None:
        from penstock.flows.score import score

        self.state = score(str(self.place.spec), **parameters, return_state=True)

    def wait(self) -> Any:
        self._thread.join()
        return self.state

    def wait_until_working(self) -> str:
        """Wait until an interval has rows. Return the id of its flow run."""

        def working() -> str | None:
            found = list_runs(self.place.warehouse, "card-risk")
            return next((r.flow_run_id for r in found if rows_done(self.place.warehouse, [r.run_id])), None)

        return str(wait_until(working))


def read(client: SyncPrefectClient, flow_run: str) -> FlowRun:
    return client.read_flow_run(flow_run)  # type: ignore[arg-type]


@pytest.fixture
def client() -> Any:
    with get_client(sync_client=True) as found:
        yield found


@pytest.mark.parametrize("warehouse", ["sqlite", "postgresql", "duckdb"])
def test_a_cancelled_interval_ends_and_the_next_ones_are_scored(
    make_place: Callable[..., Place], client: SyncPrefectClient, warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "POLL_SECONDS", 0.2)
    monkeypatch.setenv("PENSTOCK_LEASE_SECONDS", "3600")
    place = make_place("sqlite", warehouse, MANY_PARTITIONS)
    running = Running(place, end="2026-01-03")

    interval = running.wait_until_working()
    client.set_flow_run_state(interval, Cancelling())  # type: ignore[arg-type]
    ended = running.wait()

    second, first = list_runs(place.warehouse, "card-risk")
    assert (first.state, second.state) == ("failed", "published")
    assert first.flow_run_id == interval
    assert (first.error or "").startswith("cancelled in Prefect")
    assert read(client, interval).state_type is StateType.CANCELLED
    assert ended.type is StateType.CANCELLED
    assert "1 of 2 intervals published; cancelled: 2026-01-01" in ended.message
    assert Running(place, end="2026-01-03").wait().name == "Completed"  # its lease was given back


def test_a_cancelled_outer_run_ends_without_a_worker(
    make_place: Callable[..., Place], client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "POLL_SECONDS", 0.2)
    place = make_place("sqlite", "sqlite", MANY_PARTITIONS)
    running = Running(place, end="2026-01-04")

    interval = running.wait_until_working()
    outer = find_outer(client, interval)
    client.set_flow_run_state(outer.id, Cancelling())
    ended = running.wait()

    assert [run.state for run in list_runs(place.warehouse, "card-risk")] == ["failed"]
    assert read(client, interval).state_type is StateType.CANCELLED
    assert client.read_flow_run(outer.id).state_type is StateType.CANCELLED
    assert "0 of 3 intervals published" in ended.message
    assert "2 not begun" in ended.message


def test_a_cancel_that_comes_too_late_says_that_the_interval_is_published(
    make_place: Callable[..., Place], client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "POLL_SECONDS", 3600)  # as if it came after the last look
    place = make_place("sqlite", "sqlite", MANY_PARTITIONS)
    running = Running(place, end="2026-01-02")

    interval = running.wait_until_working()
    client.set_flow_run_state(interval, Cancelling())  # type: ignore[arg-type]
    ended = running.wait()

    assert [run.state for run in list_runs(place.warehouse, "card-risk")] == ["published"]
    late = read(client, interval)
    assert late.state_type is StateType.CANCELLED
    assert late.state is not None
    assert late.state.message == "cancelled too late: it is published"
    assert ended.type is StateType.COMPLETED


def find_outer(client: SyncPrefectClient, interval: str) -> FlowRun:
    """Return the flow run around an interval's."""
    task_run = client.read_task_run(read(client, interval).parent_task_run_id)  # type: ignore[arg-type]
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[task_run.flow_run_id]))  # type: ignore[list-item]
    [found] = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.ID_DESC)
    return found
