"""Interrupt what takes too long. One thread watches over all deadlines: a timer for each would cost 0.1 ms."""

import logging
import os
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Watchdog:
    """Calls what was asked for when its time has come, unless it is left before."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._changed = threading.Condition()
        self._watched: dict[int, tuple[float, Callable[[], None]]] = {}
        self._next = 0
        self._wakes = float("inf")
        """When the thread looks again."""
        self._process = 0
        """The process whose thread watches. A fork starts its own."""
        os.register_at_fork(after_in_child=self._renew_lock)

    def watch(self, interrupt: Callable[[], None], seconds: float) -> int:
        """Call `interrupt` after so many seconds. Return the number to leave with."""
        end = time.monotonic() + seconds
        if self._process != os.getpid():
            with self._starting:
                if self._process != os.getpid():
                    self._start()
        with self._changed:
            self._next += 1
            self._watched[self._next] = (end, interrupt)
            if end < self._wakes:
                self._changed.notify()
            return self._next

    def leave(self, number: int) -> None:
        """Do not call any more. Once this returns, nothing is called."""
        with self._changed:
            self._watched.pop(number, None)

    def _start(self) -> None:
        self._changed, self._watched, self._wakes = threading.Condition(), {}, float("inf")
        threading.Thread(target=self._watch, name="penstock-deadlines", daemon=True).start()
        self._process = os.getpid()  # last: until then other threads wait for the lock

    def _renew_lock(self) -> None:
        """Another thread may have held the lock when the process was forked."""
        self._starting = threading.Lock()

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for number, (end, interrupt) in list(self._watched.items()):
                    if end <= now:
                        del self._watched[number]
                        try:
                            interrupt()
                        except Exception:  # what is interrupted may have ended; the other deadlines still hold
                            logger.warning("what took too long could not be interrupted", exc_info=True)
                self._wakes = min((end for end, _ in self._watched.values()), default=float("inf"))
                self._changed.wait(None if self._wakes == float("inf") else self._wakes - now)
