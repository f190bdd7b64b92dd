"""Limit the wait for Postgres's answers.

Keepalives detect a server that is gone, and the server ends a statement that takes too long. Neither helps if a pooler,
a balancer or a stopped server keeps the connection open and does not answer. Then the wait ends here.
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
    """A connection that is closed when the server has been silent for `answer_seconds`."""

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
    """Return the handler of SQLAlchemy's `do_connect` event."""

    def connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> BoundedConnection:
        connection = BoundedConnection.connect(*arguments, **named)
        connection.answer_seconds = answer_seconds
        return connection

    return connect


class Answers:
    """Run calls of a driver that waits in C and cannot be interrupted. A call that takes too long is abandoned.

    Args:
        release: Closes the objects that the calls use. After a call was abandoned, no other thread may touch them or
            close them. The call's own thread closes them if the call returns.
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

        # A daemon thread, so that a call that hangs does not keep the process alive.
        threading.Thread(target=work, name="answer", daemon=True).start()
        try:
            wait([future], self.seconds)
        finally:  # in time, too late, or stopped by a signal
            with self._lock:
                self.left_behind = not future.done()
        if self.left_behind:
            raise _silent(self.seconds)
        return future.result()


def _do(future: Future[T], call: Callable[[], T]) -> Callable[[], None]:
    """Do a call. Return a function that sets the future's result or error."""
    try:
        return partial(future.set_result, call())
    except BaseException as error:  # noqa: BLE001 # raised again in the waiting thread
        return partial(future.set_exception, error)


def _silent(seconds: float) -> psycopg.OperationalError:
    return psycopg.OperationalError(f"no answer for {seconds:.0f} s over a connection that is still up")
