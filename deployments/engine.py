"""Start a flow run in this process: Prefect's own engine, with Penstock's flows loaded first and quickly.

The work pool's command. Prefect's process worker would else start two more Python processes that prepare a workspace
before the one that works, each of which imports Prefect.
"""

import gc
import runpy


def load() -> None:
    """Import what a run needs with the garbage collector off: imports make no garbage, and it costs a sixth of them."""
    gc.disable()
    import prefect.flow_engine

    import flows.score  # noqa: F401 # the engine finds it loaded

    gc.freeze()  # what was just imported stays for ever: no later collection looks at it again
    gc.enable()


if __name__ == "__main__":
    load()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
