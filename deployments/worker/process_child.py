"""The child process of `worker.process`: a Prefect process worker in a process group of its own.

The group includes the flow runs and ends with the process that started it. The read end of a pipe shows that end,
however the process dies.
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
"""Seconds for running flow runs to finish after the worker is asked to stop."""
REPORT_SECONDS = 10.0
"""Seconds for them to report to Prefect after SIGTERM."""


def end_with_starter(pipe: int) -> None:
    """Wait until the pipe's other end is closed, then kill the whole group."""
    while os.read(pipe, 1):
        pass
    os.killpg(0, signal.SIGKILL)


async def work(worker: ProcessWorker) -> None:
    """Take flow runs until SIGTERM. Then take no more, and give the running ones a moment."""
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
    worker = ProcessWorker(work_pool_name=pool, name=name, limit=limit, create_pool_if_not_found=False)
    anyio.run(work, worker)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
