"""What takes too long is interrupted, and what is done in time is not."""

import sys
import threading
from collections.abc import Iterator

import pytest

from penstock.database.deadlines import Watchdog


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Let threads take turns as often as Python can, so that a race shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_what_takes_too_long_is_interrupted_also_beside_a_later_deadline() -> None:
    watchdog, late, soon = Watchdog(), threading.Event(), threading.Event()

    later = watchdog.watch(late.set, 3600)
    watchdog.watch(soon.set, 0.05)

    assert soon.wait(60)
    assert not late.is_set()
    watchdog.leave(later)


def test_what_is_done_in_time_is_not_interrupted() -> None:
    watchdog, called, other = Watchdog(), threading.Event(), threading.Event()

    watchdog.leave(watchdog.watch(called.set, 0.05))
    watchdog.watch(other.set, 0.1)

    assert other.wait(60)
    assert not called.is_set()


def test_deadlines_hold_after_an_interrupt_that_fails() -> None:
    watchdog, other = Watchdog(), threading.Event()

    def fail() -> None:
        raise RuntimeError("the connection is closed")

    watchdog.watch(fail, 0.01)
    watchdog.watch(other.set, 0.1)

    assert other.wait(60)


def test_threads_that_come_first_at_once_lose_no_deadline(often_switched: None) -> None:
    for _ in range(60):
        watchdog, called, together = Watchdog(), [threading.Event() for _ in range(8)], threading.Barrier(8)

        def come(event: threading.Event, watchdog: Watchdog = watchdog, together: threading.Barrier = together) -> None:
            together.wait()
            watchdog.watch(event.set, 0.001)

        threads = [threading.Thread(target=come, args=(event,)) for event in called]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert all(event.wait(10) for event in called)
