"""Wait for Postgres's answer no longer than it can take.

A server that has gone is found out by keepalives, and a statement that takes too long is ended by the server. Neither
helps where a pooler, a balancer or a stopped server keeps the connection up and says nothing: then we stop listening.
"""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, ParamSpec, TypeVar

import psycopg
from psycopg.waiting import Ready

T = TypeVar("T")
P = ParamSpec("P")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server has said nothing for so long."""

    answer_seconds: float

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **named: Any) -> T:
        return super().wait(self._within_bounds(gen), *arguments, **named)

    def _within_bounds(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        until = time.monotonic() + self.answer_seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready != Ready.NONE:
                    until = time.monotonic() + self.answer_seconds
                elif time.monotonic() > until:
                    self.pgconn.finish()
                    raise _silent(self.answer_seconds)
                wanted = gen.send(ready)
        except StopIteration as done:
            result: T = done.value
            return result


def connect_bounded(answer_seconds: float) -> Callable[..., BoundedConnection]:
    """Return what SQLAlchemy's `do_connect` event wants."""

    def connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> BoundedConnection:
        connection = BoundedConnection.connect(*arguments, **named)
        connection.answer_seconds = answer_seconds
        return connection

    return connect


class Answers:
    """Calls into a driver that waits in C, where nothing reaches it: each is left behind when it takes too long.

    Args:
        release: closes what the calls use. Where a call was left behind, nobody else may touch that, not even to close
            it: the call's own thread does so, should it ever come back.
    """

    def __init__(self, seconds: float, release: Callable[[], None]) -> None:
        self.seconds = seconds
        self.left_behind = False
        self._release = release
        self._lock = threading.Lock()

    def wait(self, call: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
        """Return what the call returns, or raise what it raises.

        Raises:
            psycopg.OperationalError: no answer in time.
        """
        future: Future[T] = Future()

        def work() -> None:
            outcome = _do(future, partial(call, *arguments, **named))
            with self._lock:
                outcome()
                late = self.left_behind
            if late:
                self._release()

        # A daemon: one that hangs must not keep the process from its end.
        threading.Thread(target=work, name="answer", daemon=True).start()
        try:
            wait([future], self.seconds)
        finally:  # in time, too late, or told to stop by a signal
            with self._lock:
                self.left_behind = not future.done()
        if self.left_behind:
            raise _silent(self.seconds)
        return future.result()


def _do(future: Future[T], call: Callable[[], T]) -> Callable[[], None]:
    """Do a call; return what tells the future of it."""
    try:
        return partial(future.set_result, call())
    except BaseException as error:  # noqa: BLE001 # it is raised where it is waited for
        return partial(future.set_exception, error)


def _silent(seconds: float) -> psycopg.OperationalError:
    return psycopg.OperationalError(f"no answer for {seconds:.0f} s over a connection that is still up")
