"""What takes too long is interrupted, and what is done in time is not."""

import threading

from penstock.database.deadlines import Watchdog


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
