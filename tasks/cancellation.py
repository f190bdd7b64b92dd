"""End an interval whose flow run is cancelled on its own in Prefect.

A worker kills the process of a cancelled flow run. An interval's flow run has no process of its own, so it must look
whether Prefect asks it to end.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed

from penstock.database.connections import Database
from penstock.errors import IntervalCancelled
from penstock.ledger.reader import fetch_runs, select_runs
from penstock.ledger.tables import runs

POLL_SECONDS = 5.0
"""Seconds between two looks at the flow run's state. An interval that ends sooner asks nothing."""


class CancelWatch:
    """Whether someone has cancelled a flow run, or the flow run around it."""

    def __init__(self, run_id: str, outer: "CancelWatch | None") -> None:
        self._run_id = run_id
        self._asked = threading.Event()
        self._outer = outer

    @property
    def is_asked(self) -> bool:
        return self._asked.is_set() or (self._outer is not None and self._outer.is_asked)

    def ask(self) -> None:
        self._asked.set()

    def check(self) -> None:
        """Raise if the flow run is to end.

        Raises:
            IntervalCancelled: someone cancelled it in Prefect.
        """
        if self.is_asked:
            raise IntervalCancelled(self._run_id)


_outer: ContextVar[CancelWatch | None] = ContextVar("penstock_cancel_watch", default=None)


@contextmanager
def watching_cancel(run_id: str = "") -> Iterator[CancelWatch]:
    """Look every few seconds whether someone cancelled the calling flow run.

    Args:
        run_id: The run in the ledger that it works on, if it is an interval's.
    """
    watch, over = CancelWatch(run_id, _outer.get()), threading.Event()
    thread = threading.Thread(
        target=copy_context().run, args=(_look, UUID(flow_run.id), watch, over), name="cancellation", daemon=True
    )
    thread.start()
    token = _outer.set(watch)
    try:
        yield watch
    finally:
        _outer.reset(token)
        over.set()  # not joined: the thread may be waiting for a server that is gone


def settle_cancelled(state: State[Any], warehouse: Database) -> State[Any]:
    """Return how an interval ended. If a cancel came while it ended, set its flow run to Cancelled.

    After Cancelling, Prefect's server accepts no state but Cancelled, so the flow run would stay Cancelling for ever.
    """
    run_id = state.state_details.flow_run_id
    if not state.is_cancelling() or run_id is None:
        return state
    ours = fetch_runs(
        warehouse, select_runs().where(runs.c.flow_run_id == str(run_id), runs.c.champion_run_id.is_(None))
    )
    published = any(run.state == "published" for run in ours)
    ending = "it is published" if published else "it had ended unpublished"
    late: State[Any] = Cancelled(message=f"cancelled too late: {ending}")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, late, force=True)
    return Completed(message=late.message) if published else late


def _look(flow_run_id: UUID, watch: CancelWatch, over: threading.Event) -> None:
    while not over.wait(POLL_SECONDS):
        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(flow_run_id).state
        except (PrefectException, httpx.HTTPError):  # a run goes on without Prefect's server
            continue
        if state is not None and (state.is_cancelling() or state.is_cancelled()):
            watch.ask()
            return
