"""End a flow run without waiting for the thread of Prefect's heartbeat.

The thread shows Prefect that the process of a long run is alive. It wakes up once a second. At the end of a flow run
Prefect waits for it, half a second on average, for each interval too. Prefect does not wait in async flows.
"""

from functools import partial

from prefect import flow_engine


def end_without_waiting() -> None:
    """Let the heartbeat threads of this process's flow runs end by themselves. They send nothing more."""
    if not isinstance(flow_engine._send_heartbeats, partial):
        flow_engine._send_heartbeats = partial(flow_engine._send_heartbeats, join_on_exit=False)
