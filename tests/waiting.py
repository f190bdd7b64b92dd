"""Wait for what must happen: generously, for a test must not depend on how much else its machine has to do."""

import time
from collections.abc import Callable
from typing import TypeVar

Happened = TypeVar("Happened")

SECONDS = 240.0
"""How long anything may take on a busy machine; no test has a deadline of its own where it does not test one."""


def wait_until(
    happened: Callable[[], Happened], seconds: float = SECONDS, tell: Callable[[], object] | None = None
) -> Happened:
    """Ask again and again until the answer is true, and return it.

    Args:
        tell: what to say when it does not happen.
    """
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, f"did not happen in {seconds:.0f} s: {tell() if tell else answer}"
        time.sleep(0.1)
    return answer
