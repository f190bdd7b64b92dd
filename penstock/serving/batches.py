"""Requests that wait at the same time are scored together, in one thread of the pipeline."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from penstock.serving.scored_request import RequestRows, ScoredRequest

T = TypeVar("T")
Score = Callable[[Sequence[RequestRows]], list[ScoredRequest | Exception]]


@dataclass(frozen=True)
class _Waiting:
    request: RequestRows
    score: Score
    answer: "asyncio.Future[ScoredRequest]"


@dataclass
class Batches:
    """The requests of one pipeline that wait to be scored. Used from one event loop."""

    rows: int
    """Most rows of a batch, unless one request has more."""
    wait: timedelta
    """How long a request waits at most for others that are on their way."""
    alone: bool = False
    """Whether each request is scored by itself."""
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _arriving: dict[object, float] = field(default_factory=dict)
    """Until when each request that is being read is waited for."""
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _scoring: "asyncio.Task[None] | None" = None
    _thread: ThreadPoolExecutor | None = None

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Let others wait for a request while it is read, for at most `wait`."""
        number = object()
        self._arriving[number] = asyncio.get_running_loop().time() + self.wait.total_seconds()
        try:
            yield
        finally:
            del self._arriving[number]
            self._more.set()

    async def score(self, request: RequestRows, score: Score) -> ScoredRequest:
        """Return the scores of a request.

        Args:
            score: scores a batch. Requests with different ones are not scored together.

        Raises:
            PenstockError: the request cannot be scored.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, score, loop.create_future())
        self._waiting.append(waiting)
        self._more.set()
        if self._scoring is None or self._scoring.done():
            self._scoring = loop.create_task(self._score_waiting())
        return await waiting.answer

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the pipeline's thread."""
        self._thread = self._thread or ThreadPoolExecutor(1, "penstock-score")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def _score_waiting(self) -> None:
        while self._waiting:
            await self._wait_for_others()
            batch = self._take()
            try:
                results = await self.run(batch[0].score, [each.request for each in batch])
            except Exception as error:  # noqa: BLE001 # whatever it is, each of its requests gets an answer
                results = [error for _ in batch]
            for each, result in zip(batch, results, strict=True):
                if each.answer.done():
                    continue  # the client has gone
                if isinstance(result, ScoredRequest):
                    each.answer.set_result(result)
                else:
                    each.answer.set_exception(result)

    async def _wait_for_others(self) -> None:
        """Wait while there is room in the batch, and requests are being read that may come in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.wait.total_seconds()
        while self._arriving and not self.alone and self._has_room():
            until = min(end, max(self._arriving.values()))
            self._more.clear()
            try:
                await asyncio.wait_for(self._more.wait(), until - loop.time())
            except TimeoutError:
                return

    def _has_room(self) -> bool:
        return not self._waiting[0].request.is_alone and sum(each.request.rows for each in self._waiting) < self.rows

    def _take(self) -> list[_Waiting]:
        """Take the first request, and those after it that fit beside it and have the same scorer."""
        batch = [self._waiting.popleft()]
        rows = batch[0].request.rows
        while self._waiting and not self.alone and not batch[0].request.is_alone:
            following = self._waiting[0]
            if following.score != batch[0].score or following.request.is_alone:
                break
            rows += following.request.rows
            if rows > self.rows:
                break
            batch.append(self._waiting.popleft())
        return batch

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None
