"""The work pool's command: run a flow run in a fork of the worker's fork server, or else in this process.

Without it, Prefect's process worker starts two more Python processes that prepare a workspace before the flow's
process, and each imports Prefect.
"""

import os

from penstock.deployments.worker.fork_client import SOCKET, run_in_fork


def main() -> None:
    """Run the flow run that the environment names, and end the process with its exit code."""
    fork_server = os.environ.pop(SOCKET, None)
    if fork_server and (exit_code := run_in_fork(fork_server)) is not None:
        os._exit(exit_code)
    from penstock.deployments.worker.flow_run import load, run_engine  # not above: a caller of a fork needs no Prefect

    load()
    run_engine()


if __name__ == "__main__":
    main()
