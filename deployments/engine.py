"""Start a flow run in this process: Prefect's own engine, with Penstock's flows loaded first and quickly.

The work pool's command. Prefect's process worker would else start two more Python processes that prepare a workspace
before the one that works, each of which imports Prefect.
"""

import atexit
import gc
import os
import runpy
import sys
import warnings
from typing import NoReturn


def load() -> None:
    """Import what a run needs with the garbage collector off: imports make no garbage, and it costs a sixth of them."""
    gc.disable()
    import prefect.flow_engine  # noqa: F401 # the engine finds it loaded

    import penstock.flows.score  # noqa: F401 # and so does whoever loads the flow

    gc.freeze()  # what was just imported stays for ever: no later collection looks at it again
    gc.enable()


def end(exit_code: int) -> NoReturn:
    """End the process after its exit handlers, which send what Prefect still holds.

    A moment later DuckDB's binding would fill the worker's log with "nanobind: leaked …".
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    load()
    warnings.filterwarnings("ignore", message="'prefect.engine' found in sys.modules", category=RuntimeWarning)
    try:
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
    except SystemExit as exited:
        end(exited.code if isinstance(exited.code, int) else int(exited.code is not None))
    end(0)
