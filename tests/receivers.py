"""A receiver of deliveries. It keeps rows by interval and key, applies each `Idempotency-Key` once, and misbehaves."""

import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str]]
"""A status and its headers. Status 0: the request is applied and the connection is cut without an answer."""
OK: Answer = (200, {})


@dataclass
class Receiver:
    """What a system that gets rows has, and how it answers."""

    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """By interval and key."""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    applied: Counter[str] = field(default_factory=Counter)
    """By `Idempotency-Key`: how often its rows were applied."""
    answer: Callable[[int], Answer | float] = lambda _: OK
    """What to say to the request of this number, from 1. A float: be silent for so many seconds, and apply nothing."""
    url: str = ""

    def take(self, headers: dict[str, str], body: bytes) -> Answer:
        self.requests.append((headers, body))
        answer = self.answer(len(self.requests))
        if isinstance(answer, float):
            time.sleep(answer)
            return 503, {}
        if answer[0] in (0, 200):
            self._apply(headers["Idempotency-Key"], json.loads(body))
        return answer

    def _apply(self, key: str, batch: dict[str, Any]) -> None:
        if self.applied[key]:
            return
        self.applied[key] += 1
        where = json.dumps(batch["interval"])
        for row in batch["rows"]:
            place = (where, json.dumps(dict(sorted(row["key"].items()))))
            if row["op"] == "delete":
                self.rows.pop(place, None)
            else:
                self.rows[place] = row["values"]

    @property
    def batches(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver on a port of this machine."""
    receiver, lock = Receiver(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                status, headers = receiver.take(dict(self.headers), body)
            if status == 0:
                self.connection.close()
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    scheme = "http" if tls is None else "https"
    receiver.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/scores?source=penstock"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
