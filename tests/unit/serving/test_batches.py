"""Which requests are scored together, and by what."""

import asyncio
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

import pyarrow as pa

from penstock.serving.batches import Batches
from penstock.serving.scored_request import RequestRows, ScoredRequest

REQUEST = RequestRows("one", pa.table({"a": [1]}), {})


class _Answered(Exception):
    """What a scorer of these tests answers: its name, and how many requests it was given."""


def answer(name: str, requests: Sequence[RequestRows]) -> list[ScoredRequest | Exception]:
    return [_Answered(f"{name} {len(requests)}") for _ in requests]


def test_a_request_that_waits_behind_others_is_scored_by_its_own_scorer() -> None:
    """Under load the queue is never empty, and a new model would never score."""

    async def ask() -> list[str]:
        batches, started, go = Batches(10, timedelta(0)), threading.Event(), threading.Event()

        def old(requests: Sequence[RequestRows]) -> list[ScoredRequest | Exception]:
            started.set()
            go.wait(60)
            return answer("old", requests)

        def new(requests: Sequence[RequestRows]) -> list[ScoredRequest | Exception]:
            return answer("new", requests)

        first = asyncio.create_task(batches.score(REQUEST, old))
        await asyncio.to_thread(started.wait)
        later = [asyncio.create_task(batches.score(REQUEST, each)) for each in (old, old, new, new)]
        await asyncio.sleep(0)
        go.set()
        found = await asyncio.gather(first, *later, return_exceptions=True)
        batches.close()
        return [str(each) for each in found]

    assert asyncio.run(ask()) == ["old 1", "old 2", "old 2", "new 2", "new 2"]


def test_others_are_waited_for_only_while_they_are_read_and_not_for_long() -> None:
    async def ask(leave: float) -> float:
        batches = Batches(10, timedelta(seconds=1))

        async def read_slowly() -> None:
            with batches.arriving():
                await asyncio.sleep(leave)

        slow = asyncio.create_task(read_slowly())
        await asyncio.sleep(0)
        begin = time.monotonic()
        await asyncio.gather(batches.score(REQUEST, lambda r: answer("", r)), return_exceptions=True)
        taken = time.monotonic() - begin
        slow.cancel()
        batches.close()
        return taken

    assert asyncio.run(ask(0.05)) < 0.9  # it left, which wakes who waits for it
    assert 0.9 < asyncio.run(ask(30)) < 20
