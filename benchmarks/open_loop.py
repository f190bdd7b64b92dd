"""Send requests at moments that were fixed before, over raw HTTP/1.1 connections that stay open.

A request waits from its scheduled moment, so a server that stalls cannot slow down what measures it.
"""

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

_END = b"\r\n\r\n"
_LENGTH = b"content-length: "


@dataclass(frozen=True)
class Answers:
    """What came back."""

    statuses: Counter[int]
    """Answers by status. 0: none came."""
    waited: list[float]
    """Milliseconds from the scheduled moment to the end of each answer with 200."""
    seconds: float
    """From the first scheduled moment to the last answer."""

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.waited, share)) if self.waited else float("nan")

    @property
    def per_second(self) -> float:
        """Answers with 200 a second."""
        return self.statuses[200] / self.seconds


@dataclass
class _Connection(asyncio.Protocol):
    """A connection that sends one request at a time."""

    _buffer: bytearray = field(default_factory=bytearray)
    _transport: asyncio.Transport | None = None
    _answered: "asyncio.Future[int] | None" = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(_END)
        if head < 0:
            return
        lower = bytes(self._buffer[:head]).lower()
        at = lower.index(_LENGTH) + len(_LENGTH)
        if len(self._buffer) >= head + len(_END) + int(lower[at:].split(b"\r\n", 1)[0]):
            status = int(self._buffer[9:12])
            self._buffer.clear()
            self._finish(status)

    def connection_lost(self, error: Exception | None) -> None:
        self._finish(0)

    def _finish(self, status: int) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(status)

    async def ask(self, request: bytes) -> int:
        """Send a request. Return the status of its answer, or 0 if the connection ends."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed it, which it does after some seconds without a request."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


@dataclass
class Client:
    """Sends one request to one path of a server on this machine, again and again."""

    port: int
    path: str
    body: bytes
    _free: deque[_Connection] = field(default_factory=deque)

    @property
    def request(self) -> bytes:
        head = f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(self.body)}\r\n\r\n".encode() + self.body

    async def ask(self) -> int:
        """Send the request on a free connection, or on a new one."""
        while self._free and not self._free[-1].is_open:
            self._free.pop()
        try:
            if self._free:
                connection = self._free.pop()
            else:
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, "127.0.0.1", self.port)
        except OSError:
            return 0
        status = await connection.ask(self.request)
        if status:
            self._free.append(connection)
        return status

    async def send_at_rate(self, rate: float, seconds: float) -> Answers:
        """Send so many requests a second, whatever comes back."""
        statuses: Counter[int] = Counter()
        waited: list[float] = []

        async def send(moment: float) -> None:
            status = await self.ask()
            statuses[status] += 1
            if status == 200:
                waited.append((time.perf_counter() - moment) * 1e3)

        begin, tasks = time.perf_counter() + 0.01, []
        for number in range(round(rate * seconds)):
            moment = begin + number / rate
            if (left := moment - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            tasks.append(asyncio.create_task(send(moment)))
        await asyncio.gather(*tasks)
        return Answers(statuses, waited, time.perf_counter() - begin)

    async def send_together(self, connections: int, seconds: float) -> Answers:
        """Keep so many requests in flight."""
        statuses: Counter[int] = Counter()
        waited: list[float] = []
        begin = time.perf_counter()

        async def send() -> None:
            while (sent := time.perf_counter()) < begin + seconds:
                status = await self.ask()
                statuses[status] += 1
                if status == 200:
                    waited.append((time.perf_counter() - sent) * 1e3)

        await asyncio.gather(*(send() for _ in range(connections)))
        return Answers(statuses, waited, time.perf_counter() - begin)

    async def close(self) -> None:
        """Close the connections. All requests have been answered."""
        while self._free:
            self._free.pop().close()
        await asyncio.sleep(0)  # the transports close when the loop runs again
