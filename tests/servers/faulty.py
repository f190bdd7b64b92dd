"""A proxy in front of an object store that spoils chosen answers, as networks and busy stores do."""

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from tests.servers.threads import QuietHandler, ThreadServer

EMPTY_LISTING = (
    b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>'
)


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Fault:
    """What happens to the requests that fit, a number of times."""

    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    path: str = ""
    """Part of the path or of the query."""
    times: float = 1
    after: int = 0
    """The requests that fit and still go through first."""
    status: int | None = None
    """Answer with this status, and do not ask the store."""
    body: bytes = b""
    """The body of that answer."""
    cut_after: int | None = None
    """Send this many bytes of the store's body, and close the connection."""
    lose_answer: bool = False
    """Let the store do it, and close the connection without an answer."""
    seconds: float = 0
    """Wait before the answer."""
    first: Callable[[], object] | None = None
    """Do this, then ask the store."""

    def fits(self, seen: Seen) -> bool:
        return seen.method in self.methods and self.path in seen.path


class FaultyProxy(ThreadServer):
    """A proxy in front of a server."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        super().__init__(partial(_Forward, self))

    @property
    def url(self) -> str:
        return f"{super().url}{urlsplit(self.upstream).path}"

    def spoil(self, fault: Fault) -> Fault:
        """Spoil the answers to requests that fit from now on. The first fault that fits counts."""
        with self._lock:
            self.faults.append(fault)
        return fault

    def take(self, seen: Seen) -> Fault | None:
        """Note a request, and return the fault that it meets."""
        with self._lock:
            self.seen.append(seen)
            for fault in self.faults:
                if not fault.fits(seen) or fault.times <= 0:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def requests(self, path: str = "", methods: tuple[str, ...] = ("GET",)) -> int:
        """Return how many requests came for a path."""
        with self._lock:
            return sum(each.method in methods and path in each.path for each in self.seen)


class _Forward(QuietHandler):
    def __init__(self, proxy: FaultyProxy, *args: object) -> None:
        self.proxy = proxy
        super().__init__(*args)  # type: ignore[arg-type] # the three of the base class

    def _forward(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.take(Seen(self.command, self.path, dict(self.headers))) or Fault()
        if fault.first is not None:
            fault.first()
        time.sleep(fault.seconds)
        if fault.status is not None:
            return self._send(fault.status, fault.body, [("Content-Type", "application/xml"), ("ETag", "'\"0\"'")])
        upstream = http.client.HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=60)
        try:
            # The request's own headers go on as they are: its signature covers them, `Host` included.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(content)
            answer = upstream.getresponse()
            body = answer.read()
        finally:
            upstream.close()
        if fault.lose_answer:
            self.close_connection = True
            return
        self._send(answer.status, body, answer.getheaders(), fault.cut_after)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._forward
        raise AttributeError(name)

    def _send(self, status: int, body: bytes, headers: list[tuple[str, str]], cut_after: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut_after])
        if cut_after is not None:
            self.close_connection = True
