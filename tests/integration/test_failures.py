"""What a failing run shows in Prefect: attempts where trying again helps, none where not, and what to do next."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.client.schemas.sorting import ArtifactSort, TaskRunSort

from penstock.ledger.reader import list_runs
from tests.outcomes import outcome_of
from tests.shop import SPEC, Place
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("prefect_api")


def run_score(place: Place) -> State[Any]:
    from penstock.flows.score import score

    state: State[Any] = score(str(place.spec), end="2026-01-02", return_state=True)
    return state


def change(place: Place, statement: str) -> None:
    with place.shop.writing() as connection:
        connection.execute(sa.text(statement))


@contextmanager
def locked(place: Place, seconds: float) -> Iterator[None]:
    """Lock the payments until the run has been at it for some seconds."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with place.shop.writing() as connection:
            connection.execute(sa.text("set local idle_in_transaction_session_timeout = 0"))  # it is not one of us
            connection.execute(sa.text("lock table payments in access exclusive mode"))
            held.set()
            while not list_runs(place.warehouse) and not over.wait(0.1):
                pass
            over.wait(seconds)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        yield
    finally:
        over.set()
        holder.join()


def task_runs(flow_run_id: str | None) -> dict[str, TaskRun]:
    """Return the task runs of an interval's flow run by their names, once the server has them all."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run_id)]))

    def recorded() -> dict[str, TaskRun]:
        runs = client.read_task_runs(flow_run_filter=wanted, sort=TaskRunSort.NAME_ASC, limit=200)
        ended = all(run.state is not None and run.state.is_final() for run in runs)
        by_name = {run.name: run for run in runs}
        return by_name if ended and {"plan partitions", "report"} <= set(by_name) else {}

    with get_client(sync_client=True) as client:
        return wait_until(recorded)


def flow_run_message(flow_run_id: Any) -> str:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run_id).state
    assert state is not None
    return str(state.message)


def test_a_database_that_is_busy_for_some_seconds_is_tried_again_and_the_run_completes(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_STATEMENT_SECONDS", "1")  # the database ends a statement that waits longer
    place = make_place("postgresql", "sqlite", days=1)

    with locked(place, seconds=2):
        state = run_score(place)

    assert state.is_completed(), state.message
    [run] = list_runs(place.warehouse)
    planned = task_runs(run.flow_run_id)["plan partitions"]
    assert planned.run_count > 1
    assert planned.state is not None
    assert planned.state.is_completed()


def test_a_column_that_is_missing_fails_at_the_first_attempt_and_the_states_say_what_to_do(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(days=1)
    change(place, "alter table payments drop column country")

    state = run_score(place)

    assert state.is_failed()
    [run] = list_runs(place.warehouse)
    assert {r.run_count for r in task_runs(run.flow_run_id).values()} == {1}
    told = "needs columns that the batch does not have: `country`. Add or correct them in the features query."
    assert told in flow_run_message(run.flow_run_id)
    assert told in flow_run_message(state.state_details.flow_run_id)
    assert told in str(run.error)


def read_card(flow_run_id: str | None) -> str:
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(flow_run_id)]))
    with get_client(sync_client=True) as client:
        cards = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.KEY_ASC, limit=10)
    [card] = [str(each.data) for each in cards if each.key == "run-card-card-risk"]
    return card


@pytest.mark.parametrize("private", [False, True])
def test_an_error_that_is_not_penstocks_leaves_a_failed_run_a_card_and_an_event(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret for hashing that is long enough")
    spec = SPEC.replace("    updated_column:", "    private: {items: drop}\n    updated_column:") if private else SPEC
    place = make_place(days=1, spec=spec)

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO penstock_validations"):
            raise RuntimeError("out of order: 12.50")

    sa.event.listen(place.warehouse.engine, "before_cursor_execute", fail)
    state = run_score(place)

    message = "RuntimeError: (private)" if private else "RuntimeError: out of order: 12.50"
    assert state.is_failed()
    [run] = list_runs(place.warehouse)
    assert (run.state, run.error) == ("failed", message)
    assert message in read_card(run.flow_run_id)
    wanted = {"event": {"name": ["penstock.run.failed"]}, "resource": {"id": ["penstock.pipeline.card-risk"]}}
    with get_client(sync_client=True) as client:

        def find_event() -> Any:
            events = client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]
            return [event for event in events if event["payload"]["run_id"] == run.run_id]

        [event] = wait_until(find_event)
    assert event["payload"]["message"] == message


def test_a_halted_run_says_what_was_wrong_where_and_what_to_do_in_both_flow_runs(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(days=1)
    change(place, "update payments set amount = null where payment_id <= 100")

    state = run_score(place)

    assert outcome_of(state) == "halted"
    [run] = list_runs(place.warehouse)
    for flow_run_id in (run.flow_run_id, state.state_details.flow_run_id):
        message = flow_run_message(flow_run_id)
        assert message.startswith("Halted: 2026-01-01 → 01-02: volume: quarantine_limit (100 of 250 rows, ")
        assert "Nothing was published. Correct the data or the expectation. The next run tries" in message
