"""Start a backfill's flow runs: one for each interval, the oldest first, a few at once, each at most once.

Prefect keeps one flow run for each idempotency key. The key consists of the pipeline, the mode, the interval and a
number. A backfill joins a run of that key that has not ended, even if another backfill started it. If the run has
ended, the backfill takes the next number.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectException, PrefectHTTPStatusError
from prefect.states import Cancelled

from penstock.errors import SettingsError
from penstock.interval import iso
from penstock.ledger.backfills import PinnedBackfill
from penstock.run.planning import PlannedInterval
from penstock.run_types import interval_key
from penstock.spec.steps import write_challengers, write_choice
from penstock.tasks.backfill import Backfill
from penstock.tasks.deployed import ANY_PIPELINE
from penstock.tasks.outcome import FlowOutcome, read_outcome
from penstock.wording import plural

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

DEPLOYMENT = f"score/{ANY_PIPELINE}"
SHORTEST_POLL_SECONDS, POLL_SECONDS = 0.25, 2.0
"""Seconds between two looks: a quarter of the time since a flow run began or ended, in these limits."""
UNATTENDED_SECONDS, FULL_SECONDS = 10.0, 60.0
"""Seconds without a start before a message says that no worker is online, or that none has a free slot."""
ROUNDS = 5
"""How often to try an interval that another run was scoring."""
PAGE = 200
"""Prefect's server returns at most so many objects for a request."""
NOT_BEGUN = (StateType.SCHEDULED, StateType.PENDING)


@dataclass(frozen=True)
class IntervalRun:
    """The flow run of one interval, as last read from the server."""

    planned: PlannedInterval
    flow_run_id: UUID
    kind: StateType
    state: str
    """What people read: the state's name, or how the run ended, as in `Halted`."""
    message: str
    outcome: FlowOutcome | None = None
    """How it ended. None while it has not."""

    @property
    def ended(self) -> bool:
        return self.kind in (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)


class FanOut:
    """The flow runs of a backfill's intervals. `runs` has the last one of each, by the interval's key."""

    def __init__(self, client: SyncPrefectClient, asked: Backfill, pinned: PinnedBackfill, logger: Logger) -> None:
        self._client = client
        self._asked = asked
        models = {step: f"{pin.name}@{pin.version}" for step, pin in pinned.pins.items()}
        self._versions = {"model": write_choice(models)}
        if pinned.challengers:
            self._versions["challengers"] = write_challengers(pinned.challengers)
        self._logger = logger
        self._deployment = _read_deployment(client)
        self.runs: dict[str, IntervalRun] = {}

    def score(self, intervals: Sequence[PlannedInterval], in_flight: int) -> Iterator[str]:
        """Score the intervals. Yield at each poll the reason why nothing starts, or an empty text."""
        waiting = list(reversed(intervals))
        begun = changed = time.monotonic()
        while True:
            while waiting and len(self._list_running()) < in_flight:
                self._start(waiting.pop())
                begun = changed = time.monotonic()
            yield self._find_obstacle(time.monotonic() - begun)
            if not waiting and not self._list_running():
                return
            quiet = time.monotonic() - changed
            time.sleep(min(POLL_SECONDS, max(SHORTEST_POLL_SECONDS, quiet / 4)))
            if self._poll():
                changed = time.monotonic()

    def find(self, planned: PlannedInterval) -> IntervalRun | None:
        return self.runs.get(interval_key(planned.interval))

    def list_skipped(self, intervals: Sequence[PlannedInterval]) -> tuple[PlannedInterval, ...]:
        """Return the intervals whose flow run was skipped because another run was scoring them."""
        return tuple(each for each in intervals if (run := self.find(each)) and run.outcome == "skipped")

    def was_halted(self, planned: PlannedInterval) -> bool:
        """Whether a gate halted the interval."""
        run = self.find(planned)
        return run is not None and run.outcome == "halted"

    def cancel_waiting(self) -> None:
        """Cancel the flow runs that no worker has taken yet, and log how many continue."""
        self._poll()
        running = self._list_running()
        if not running:
            return
        # Leave Pending runs alone: their process is already starting. It would run anyway, or leave the run in
        # Cancelling for ever.
        idle = [run for run in running if run.kind is StateType.SCHEDULED]
        for run in idle:
            cancelled: State[object] = Cancelled(message="The backfill that started it ended before it began.")
            self._client.set_flow_run_state(run.flow_run_id, cancelled)
        self._logger.warning(
            "ended early: cancelled %s that had not begun; %s",
            plural(len(idle), "flow run"),
            f"{plural(len(running) - len(idle), 'running one')} will finish",
        )

    def _list_running(self) -> list[IntervalRun]:
        return [run for run in self.runs.values() if not run.ended]

    def _start(self, planned: PlannedInterval) -> None:
        """Start the interval's flow run, or join the one that has not ended."""
        interval, asked = planned.interval, self._asked
        assert interval is not None  # a snapshot has no range
        name = f"{asked.pipeline.name} {asked.mode} {planned.plain_label}"
        for number in count():
            flow_run = self._client.create_flow_run_from_deployment(
                self._deployment.id,
                name=name,
                parameters={
                    "pipeline": asked.named,
                    "mode": asked.mode,
                    "start": iso(interval.start),
                    "end": iso(interval.end),
                    **self._versions,
                },
                tags=[asked.pipeline.name, "backfill"],
                idempotency_key=f"penstock {asked.mode} {asked.pipeline.name} {interval.key} {number}",
            )
            state = flow_run.state
            if self._is_left_over(flow_run):
                continue
            if state is not None and (not state.is_final() or self._has_just_ended(flow_run, interval.key)):
                break
        self.runs[interval.key] = _describe(planned, flow_run)
        self._logger.info("%s: flow run %s", planned.label, flow_run.id)

    def _is_left_over(self, flow_run: FlowRun) -> bool:
        """Whether another backfill left the flow run, which would score with other versions. A waiting one is ended."""
        state = flow_run.state
        if state is None or state.is_final():
            return False
        if {name: flow_run.parameters.get(name) for name in self._versions} == self._versions:
            return False
        if state.is_scheduled():
            ended: State[object] = Cancelled(message="Another backfill scores the interval, with other versions.")
            self._client.set_flow_run_state(flow_run.id, ended)
        return True

    def _has_just_ended(self, flow_run: FlowRun, key: str) -> bool:
        """Whether another backfill's run scored the interval after our planning, so that we need no new one."""
        ended = flow_run.end_time
        scored = read_outcome(flow_run) == "published"
        return key not in self.runs and scored and ended is not None and ended >= self._asked.now

    def _poll(self) -> bool:
        """Read the states of the running flow runs. Return whether one has begun or ended."""
        running = self._list_running()
        if not running:
            return False
        changed = False
        found: dict[UUID, FlowRun] = {}
        for first in range(0, len(running), PAGE):
            ids = [run.flow_run_id for run in running[first : first + PAGE]]
            wanted = FlowRunFilter(id=FlowRunFilterId(any_=ids))
            seen_runs = self._client.read_flow_runs(
                flow_run_filter=wanted, sort=FlowRunSort.START_TIME_ASC, limit=len(ids)
            )
            found |= {each.id: each for each in seen_runs}
        for run in running:
            seen = found.get(run.flow_run_id)
            new = _describe_deleted(run) if seen is None else _describe(run.planned, seen)
            if new.ended:
                summary = f"{new.planned.label}: {new.state}. {new.message}"
                self._logger.log(logging.INFO if new.kind is StateType.COMPLETED else logging.WARNING, "%s", summary)
            changed = changed or new.kind is not run.kind
            self.runs[interval_key(new.planned.interval)] = new
        return changed

    def _find_obstacle(self, seconds: float) -> str:
        """Return the reason why nothing starts. Empty if something runs, or if it is too early to know."""
        running = self._list_running()
        if not running or seconds < UNATTENDED_SECONDS or any(run.kind not in NOT_BEGUN for run in running):
            return ""
        pool = self._deployment.work_pool_name or ""
        if not has_worker(self._client, pool):
            return f"no worker polls work pool {pool}; start one with `penstock up`"
        if seconds < FULL_SECONDS:
            return ""
        return f"no worker of work pool {pool} has a free slot, and this backfill takes one itself: raise their limit"


@contextmanager
def fanning_out(asked: Backfill, pinned: PinnedBackfill, logger: Logger) -> Iterator[FanOut]:
    """Give the backfill's flow runs. If the block ends early, cancel those that have not begun.

    Raises:
        SettingsError: the Prefect server has no deployment that takes any pipeline.
    """
    with get_client(sync_client=True) as client:
        fan_out = FanOut(client, asked, pinned, logger)
        done = False
        try:
            yield fan_out
            done = True
        finally:
            if not done:
                _cancel_quietly(fan_out, logger)


def has_worker(client: SyncPrefectClient, pool: str) -> bool:
    """Whether a worker of the pool is online."""
    try:
        return next(online_workers(client, pool), None) is not None
    except PrefectHTTPStatusError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise
        return False  # there is no such pool


def online_workers(client: SyncPrefectClient, pool: str) -> Iterator[str]:
    """Yield the names of the pool's workers that are online, those with the newest heartbeat first."""
    offset = 0
    while page := client.read_workers_for_work_pool(pool, offset=offset, limit=PAGE):
        yield from (worker.name for worker in page if worker.status is WorkerStatus.ONLINE)
        offset += len(page)


def _cancel_quietly(fan_out: FanOut, logger: Logger) -> None:
    try:
        fan_out.cancel_waiting()
    except (PrefectException, httpx.HTTPError) as error:  # the error that ended the backfill matters more
        logger.warning("could not cancel the flow runs that have not begun: %s", error)


def _read_deployment(client: SyncPrefectClient) -> DeploymentResponse:
    try:
        return client.read_deployment_by_name(DEPLOYMENT)
    except ObjectNotFound:
        raise SettingsError(
            f"the Prefect server has no deployment `{DEPLOYMENT}`, from which a backfill starts its flow runs",
            "Run `penstock deploy`.",
        ) from None


def _describe(planned: PlannedInterval, flow_run: FlowRun) -> IntervalRun:
    state = flow_run.state
    assert state is not None  # the server creates them as Scheduled
    outcome = read_outcome(flow_run) if state.is_final() else None
    name = state.name or state.type.value.title()
    shown = outcome.title() if outcome in ("halted", "skipped", "planned") else name
    return IntervalRun(planned, flow_run.id, state.type, shown, state.message or "", outcome)


def _describe_deleted(run: IntervalRun) -> IntervalRun:
    why = "its flow run was deleted"
    return IntervalRun(run.planned, run.flow_run_id, StateType.CANCELLED, "Deleted", why, "cancelled")
