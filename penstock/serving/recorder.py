"""Record what was served: one thread stores all requests that wait in one transaction. See docs/adr/0050."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from penstock.database.connections import Connector, Database
from penstock.errors import NotRecorded, PenstockError
from penstock.ledger.migrations import has_ledger
from penstock.ledger.served_spool import Spool, TakenIn, open_spool
from penstock.ledger.served_writes import (
    Answer,
    NewRequest,
    close_dead_served_runs,
    close_served_runs,
    renew_served_runs,
    store_requests,
)
from penstock.privacy.masking import make_masking
from penstock.serving.recorded_request import RecordedRequests
from penstock.serving.scored_request import ScoredRequest
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline

logger = logging.getLogger(__name__)

Place = Literal["warehouse", "spool"]
BUFFER_ROWS = 10_000
"""Most rows that wait to be recorded with `async`. Those beyond it are dropped."""
_BATCH_ROWS = 1_000
"""Rows that are stored by one transaction, unless one request has more."""
_PATIENCE = 2.0
"""Seconds that the warehouse may take to store requests. Then they go into the spool."""
_PAUSE = 1.0
"""Seconds until the warehouse is tried again, and between two looks at the spool."""
_AT_ONCE = 100
"""Requests that are taken in from the spool by one transaction."""
_CLOSE_SECONDS = 25.0
_SAY_AGAIN = 60.0
"""Seconds between two lines of the log about dropped rows."""


@dataclass(frozen=True)
class Kept:
    """What became of a request that was to be recorded."""

    place: Place
    earlier: Answer | None
    """The answer that its `Idempotency-Key` got before. None: it was recorded now."""


@dataclass(frozen=True)
class _Waiting:
    scored: ScoredRequest
    at: datetime
    asked_as: str | None
    answer: Answer | None
    done: Callable[[Kept | Exception], None]

    @property
    def rows(self) -> int:
        return self.scored.request.rows


@dataclass
class Recorder:
    """Stores one pipeline's requests in one process: in the warehouse, or in the spool if that cannot be written."""

    requests: RecordedRequests
    connect: Connector
    spool: Spool
    lease: timedelta
    recorded: int = 0
    """Rows."""
    dropped: int = 0
    """Rows that were answered and not recorded."""
    problem: str = ""
    """Why the warehouse cannot be written. Empty: it can, or it is never written by a server."""
    spooled: int | None = None
    """Requests of the pipeline in the spool, from all processes, as of a second ago. None: it cannot be read."""
    refused: int | None = None
    """Requests that stay in the spool because the warehouse has refused them."""
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _rows_waiting: int = 0
    _more: threading.Condition = field(default_factory=threading.Condition)
    _closing: bool = False
    _thread: threading.Thread | None = None
    _transactions: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "penstock-record"))
    _warehouse: Database | None = None
    """It is looked up anew after an error, because its connection may be in a Prefect block that has changed."""
    _late: "Future[Any] | None" = None
    """A call that took longer than `_PATIENCE`. Nothing else is called before it has ended."""
    _again_at: float = 0.0
    _count_at: float = 0.0
    _upkeep_at: float = 0.0
    _renew_at: float = 0.0
    _said_at: float = -_SAY_AGAIN

    @property
    def mode(self) -> str:
        """`async` or `before_answer`."""
        serve = self.requests.pipeline.serve
        return serve.record if serve else "off"

    @property
    def name(self) -> str:
        return self.requests.pipeline.name

    def describe(self) -> dict[str, Any]:
        """Return what `/ready` says of it. It reads nothing, because it is called on the event loop."""
        counts = {"recorded": self.recorded, "dropped": self.dropped, "spooled": self.spooled, "refused": self.refused}
        return {"mode": self.mode, **counts, "problem": self.problem or None}

    def start(self) -> None:
        """Start the thread that stores."""
        self._thread = threading.Thread(target=self._work, name=f"record {self.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Store what waits, and end the runs of this process."""
        with self._more:
            self._closing = True
            self._more.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
        self._transactions.shutdown(wait=False)

    async def record(self, scored: ScoredRequest, asked_as: str | None, answer: Answer | None) -> Kept | None:
        """Record a request, at once or soon. None: with `async` the answer does not wait for it, or it was dropped.

        Raises:
            NotRecorded: with `before_answer`, it can be stored neither in the warehouse nor in the spool.
        """
        must_wait = self.mode == "before_answer"
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[Kept | Exception] = loop.create_future()

        def finish(result: Kept | Exception) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_set_result, kept, result)

        if not self._offer(_Waiting(scored, datetime.now(UTC), asked_as, answer, finish)):
            return None
        if not must_wait and answer is None:
            return None
        result = await kept
        if isinstance(result, Kept):
            return result
        if must_wait:
            raise NotRecorded(self.name, _describe(result)) from result
        return None

    def _offer(self, waiting: _Waiting) -> bool:
        with self._more:
            if self.mode == "async" and self._rows_waiting and self._rows_waiting + waiting.rows > BUFFER_ROWS:
                self._drop(waiting.rows, "they come faster than they can be stored")
                return False
            self._waiting.append(waiting)
            self._rows_waiting += waiting.rows
            self._more.notify()
        return True

    def _drop(self, rows: int, why: str) -> None:
        self.dropped += rows
        if time.monotonic() - self._said_at >= _SAY_AGAIN:
            self._said_at = time.monotonic()
            logger.error("%s: rows are not recorded, because %s: %d so far", self.name, why, self.dropped)

    def _work(self) -> None:
        while True:
            with self._more:
                if not self._waiting and not self._closing:
                    self._more.wait(_PAUSE)
                batch, closing = self._take(), self._closing
            if closing and not batch:
                break
            try:
                self._do_round(batch, closing)
            except Exception as error:  # without this thread, requests would wait for ever
                logger.exception("%s: recording goes on after an error", self.name)
                for each in batch:
                    each.done(error)
        with suppress(Exception):  # the lease ends, and another process ends the runs
            self._call(lambda: close_served_runs(self._open(), self.name, self.requests.worker))

    def _do_round(self, batch: Sequence[_Waiting], closing: bool) -> None:
        if batch:
            self._store_batch(batch)
        if not closing:
            self._count_spool()
            self._keep_up()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        rows = 0
        while self._waiting and (not batch or rows + self._waiting[0].rows <= _BATCH_ROWS):
            batch.append(self._waiting.popleft())
            rows += batch[-1].rows
        self._rows_waiting -= rows
        return batch

    def _store_batch(self, batch: Sequence[_Waiting]) -> None:
        described: list[tuple[_Waiting, NewRequest]] = []
        for each in batch:
            try:
                described.append((each, self.requests.describe(each.scored, each.at, each.asked_as, each.answer)))
            except Exception as error:  # noqa: BLE001 # whatever it is, the other requests are stored
                self._fail([each], error)
        if not described:
            return
        try:
            place, earlier = self._keep([request for _, request in described])
        except Exception as error:  # noqa: BLE001 # whatever it is, each request is told
            self._fail([each for each, _ in described], error)
            return
        for (each, _), answer in zip(described, earlier, strict=True):
            self.recorded += 0 if answer else each.rows
            each.done(Kept(place, answer))

    def _fail(self, batch: Sequence[_Waiting], error: Exception) -> None:
        if self.mode == "async":
            self._drop(sum(each.rows for each in batch), _describe(error))
        else:
            logger.error(
                "%s: requests are answered with 503, because they cannot be recorded: %s", self.name, _describe(error)
            )
        for each in batch:
            each.done(error)

    def _keep(self, requests: Sequence[NewRequest]) -> tuple[Place, list[Answer | None]]:
        if self._may_write():
            try:
                return "warehouse", self._call(self._store, requests)
            except Exception as error:  # noqa: BLE001 # whatever it is, the spool keeps them
                self._note_away(error)
        earlier = self.spool.append(self.name, requests)
        self.spooled = (self.spooled or 0) + earlier.count(None)
        return "spool", earlier

    def _store(self, requests: Sequence[NewRequest]) -> list[Answer | None]:
        """Store requests in the warehouse, but for those whose key a request of the spool has."""
        spooled = self.spool.find_answers(self.name, [each.answer for each in requests if each.answer])
        earlier = [spooled.get(each.answer.key) if each.answer else None for each in requests]
        new = [each for each, answer in zip(requests, earlier, strict=True) if answer is None]
        stored = iter(store_requests(self._open(), self.requests.pipeline, new, self.lease) if new else ())
        self._note_back()
        return [answer or next(stored) for answer in earlier]

    def _open(self) -> Database:
        """Return the warehouse. It is called by `_call` only, because to look it up may take long."""
        warehouse = self._warehouse or self.connect(self.requests.pipeline.destination.connection)
        self._warehouse = warehouse
        return warehouse

    def _may_write(self) -> bool:
        """Whether to try the warehouse: it is not being waited for, and a server may keep it open."""
        if time.monotonic() < self._again_at or (self._late is not None and not self._late.done()):
            return False
        try:
            return not (self._warehouse or self._call(self._open)).sql.one_process
        except Exception as error:  # noqa: BLE001 # whatever it is, the spool keeps the requests
            self._note_away(error)
            return False

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the warehouse, for at most `_PATIENCE`. It goes on after that."""
        called = self._transactions.submit(function, *args)
        try:
            return called.result(_PATIENCE)
        except TimeoutError:
            self._late = called
            raise

    def _count_spool(self) -> None:
        if time.monotonic() < self._count_at:
            return
        self._count_at = time.monotonic() + _PAUSE
        try:
            self.spooled, self.refused = self.spool.count(self.name), self.spool.count_refused(self.name)
        except Exception:  # noqa: BLE001 # `/ready` says that it cannot be read
            self.spooled = self.refused = None

    def _keep_up(self) -> None:
        """Renew the leases, and take some of the spool in."""
        if not self._may_write():
            return
        try:
            if time.monotonic() >= self._upkeep_at:
                self._upkeep_at = time.monotonic() + _PAUSE
                if self._call(self._take_in).read:
                    self._upkeep_at = 0.0  # there may be more
                    self._note_back()
            if time.monotonic() >= self._renew_at:
                self._renew_at = time.monotonic() + self.lease.total_seconds() / 4
                self._call(self._renew, self.requests.open_runs)
        except Exception as error:  # noqa: BLE001 # whatever it is, requests go into the spool
            self._note_away(error)

    def _take_in(self) -> TakenIn:
        return self.spool.take_in(self._open(), self.requests.pipeline, _AT_ONCE)

    def _renew(self, open_runs: Sequence[str]) -> None:
        warehouse = self._open()
        if has_ledger(warehouse):
            close_served_runs(warehouse, self.name, self.requests.worker, open_runs)
            renew_served_runs(warehouse, self.name, self.requests.worker, self.lease)
            close_dead_served_runs(warehouse, self.name)
            self._note_back()

    def _note_away(self, error: Exception) -> None:
        self._again_at = time.monotonic() + _PAUSE
        self._warehouse = None
        problem = _describe(error)
        if not self.problem:
            logger.error(
                "%s: the warehouse cannot be written, so requests are kept in the spool: %s", self.name, problem
            )
        self.problem = problem

    def _note_back(self) -> None:
        if self.problem:
            logger.info("%s: the warehouse can be written again", self.name)
        self.problem = ""


def _set_result(kept: "asyncio.Future[Kept | Exception]", result: Kept | Exception) -> None:
    if not kept.done():  # else the client has gone
        kept.set_result(result)


def open_recorder(pipeline: Pipeline, connect: Connector, settings: Settings) -> Recorder | None:
    """Return what records the requests of a pipeline. None if its spec does not ask for it.

    Raises:
        SettingsError: the pipeline has private columns and no secret is set.
    """
    if pipeline.serve is None or pipeline.serve.record == "off":
        return None
    requests = RecordedRequests(pipeline, make_masking(pipeline, settings))
    return Recorder(requests, connect, open_spool(settings.home), timedelta(seconds=settings.lease_seconds))


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"the warehouse does not answer within {_PATIENCE:g} s"
    return str(error) if isinstance(error, PenstockError) else type(error).__name__
