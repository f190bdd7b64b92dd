"""The child process of `worker`: a Prefect process worker that lives in a group of its own.

The group holds the flow runs too, and ends with whoever started it: the read end of a pipe tells, however that dies.
"""

import os
import signal
import sys
import threading
from functools import partial

import anyio
from prefect.settings import get_current_settings
from prefect.utilities.services import critical_service_loop
from prefect.workers.process import ProcessWorker

LEAVE_SECONDS = 5.0
"""What running flow runs get to finish once the worker is asked to stop."""
REPORT_SECONDS = 10.0
"""What they get after SIGTERM to tell Prefect that they were ended."""


def end_with_starter(pipe: int) -> None:
    """Wait until nobody holds the pipe's other end, then kill the whole group: there is nobody left to report to."""
    while os.read(pipe, 1):
        pass
    os.killpg(0, signal.SIGKILL)


async def work(worker: ProcessWorker) -> None:
    """Take flow runs until SIGTERM; then take no more, and give those that run a moment."""
    settings = get_current_settings().worker
    async with worker:
        async with anyio.create_task_group() as loops:
            take = partial(
                critical_service_loop,
                workload=worker.get_and_submit_flow_runs,
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
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this one is for the flow runs, which share our group
            os.killpg(0, signal.SIGTERM)
            await wait_for_runs(worker, REPORT_SECONDS)


async def wait_for_runs(worker: ProcessWorker, seconds: float) -> None:
    """Wait until no flow run is left, or the time is over."""
    with anyio.move_on_after(seconds):
        while worker.limiter.borrowed_tokens:
            await anyio.sleep(0.1)


def main(pipe: int, pool: str, name: str, limit: int) -> None:
    """Work until told to stop; what then still runs in the group is killed by who started it."""
    threading.Thread(target=end_with_starter, args=(pipe,), daemon=True).start()
    worker = ProcessWorker(work_pool_name=pool, name=name, limit=limit, create_pool_if_not_found=False)
    anyio.run(work, worker)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
