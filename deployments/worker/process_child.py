"""The child process of `worker.process`: a Prefect process worker in a process group of its own.

The group includes the flow runs and ends with the process that started it. The read end of a pipe shows that end,
however the process dies.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from uuid import UUID, uuid4

import anyio
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging.loggers import PrefectLogAdapter
from prefect.settings import get_current_settings
from prefect.utilities.services import critical_service_loop
from prefect.workers.process import ProcessWorker

from penstock.deployments.worker.eager import take_flow_runs
from penstock.deployments.worker.fork_client import SOCKET
from penstock.deployments.worker.tls_context import share_tls_contexts

logger = logging.getLogger("prefect.worker.fork_server")

LEAVE_SECONDS = 5.0
"""Seconds for running flow runs to finish after the worker is asked to stop."""
REPORT_SECONDS = 10.0
"""Seconds for them to report to Prefect after SIGTERM."""


RESTART_SECONDS = 5.0
"""Seconds before a killed fork server is started again."""

NAMED = 3
"""Most runs that a waiting run's log names."""
TAKES_SLOT = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


class QuietWorker(ProcessWorker):
    """Log once why a run waits for its deployment's slot. Prefect's worker logs three lines at every try."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type] # Prefect's own arguments, passed on
        self._waiting: set[UUID] = set()
        self._proposing: set[UUID] = set()

    def get_flow_run_logger(self, flow_run: FlowRun) -> PrefectLogAdapter:
        logger = super().get_flow_run_logger(flow_run)
        if flow_run.id not in self._waiting | self._proposing:
            return logger
        quiet = logging.getLogger(f"{logger.logger.name}.waiting")
        quiet.setLevel(logging.WARNING)
        return PrefectLogAdapter(quiet, extra=dict(logger.extra or {}))

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        self._proposing.add(flow_run.id)
        try:
            ready = await super()._propose_pending_state(flow_run)
        finally:
            self._proposing.discard(flow_run.id)
        if ready:
            if flow_run.id in self._waiting:
                self._waiting.discard(flow_run.id)
                self.get_flow_run_logger(flow_run).info("its turn has come: it starts")
            return True
        now = await self.client.read_flow_run(flow_run.id)
        name = now.state.name if now.state else None
        if name != "AwaitingConcurrencySlot":
            self._waiting.discard(flow_run.id)
            self.get_flow_run_logger(flow_run).info("not started: the server keeps it %s", name)
        elif flow_run.id not in self._waiting:
            reason = await self._describe_wait(flow_run)
            self.get_flow_run_logger(flow_run).info("%s", reason)
            self._waiting.add(flow_run.id)
        return False

    async def _describe_wait(self, flow_run: FlowRun) -> str:
        assert flow_run.deployment_id is not None  # only deployments have slots
        others = await self.client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[flow_run.deployment_id])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=TAKES_SLOT))),
            sort=FlowRunSort.START_TIME_ASC,
            limit=NAMED,
        )
        names = ", ".join(f"`{other.name}` ({other.id})" for other in others)
        rule = "waits: the runs of this deployment start one after another"
        if not names:
            return f"{rule}, and the slot of the last one is not free yet"
        return f"{rule}. It starts when {names} has ended"


def end_with_starter(pipe: int) -> None:
    """Wait until the pipe's other end is closed, then kill the whole group."""
    while os.read(pipe, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def keep_fork_server(name: str) -> None:
    """Run a fork server, and another one when the code has changed or a signal has killed it.

    Flow runs start without one until it is ready.
    """
    command = [sys.executable, "-P", "-m", "penstock.deployments.worker.fork_server", name]
    while (exit_code := subprocess.run(command, check=False).returncode) <= 0:
        if exit_code < 0:
            logger.warning("the fork server was killed by %s and is started again", signal.Signals(-exit_code).name)
            time.sleep(RESTART_SECONDS)
    logger.warning("the fork server ended with exit code %d: flow runs start without it", exit_code)


async def work(worker: ProcessWorker) -> None:
    """Take flow runs until SIGTERM. Then take no more, and give the running ones a moment."""
    settings = get_current_settings().worker
    async with worker:
        async with anyio.create_task_group() as loops:
            take = partial(
                critical_service_loop,
                workload=partial(take_flow_runs, worker),
                interval=settings.query_seconds,
                jitter_range=0.3,
                backoff=4,
            )
            sync = partial(
                critical_service_loop,
                workload=worker.sync_with_backend,
                interval=settings.heartbeat_seconds,
                jitter_range=0.3,
                backoff=4,
            )
            loops.start_soon(take)
            loops.start_soon(sync)
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    break
            loops.cancel_scope.cancel()
        await wait_for_runs(worker, LEAVE_SECONDS)
        if worker.limiter.borrowed_tokens:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the next SIGTERM is for the flow runs in our group
            os.killpg(0, signal.SIGTERM)
            await wait_for_runs(worker, REPORT_SECONDS)


async def wait_for_runs(worker: ProcessWorker, seconds: float) -> None:
    """Wait until no flow run is left or the time is over."""
    with anyio.move_on_after(seconds):
        while worker.limiter.borrowed_tokens:
            await anyio.sleep(0.1)


def main(pipe: int, pool: str, name: str, limit: int) -> None:
    """Work until SIGTERM. The process that started the worker kills what is left of the group."""
    threading.Thread(target=end_with_starter, args=(pipe,), daemon=True).start()
    if sys.platform == "linux":  # elsewhere libraries are not safe to fork
        os.environ[SOCKET] = f"penstock-{uuid4().hex}"
        threading.Thread(target=keep_fork_server, args=(os.environ[SOCKET],), daemon=True).start()
    share_tls_contexts()
    worker = QuietWorker(work_pool_name=pool, name=name, limit=limit, create_pool_if_not_found=False)
    anyio.run(work, worker)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
