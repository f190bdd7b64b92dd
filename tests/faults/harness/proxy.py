"""A proxy in front of Postgres that does one harm at a point of what is said: a cut, a lost answer, silence, delay.

It reads no protocol: it looks for words in what the client sends, which libpq sends as they are.
"""

import select
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import sqlalchemy as sa

Way = Literal["up", "down"]
"""To the server, or back to the client."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER so set, a close is a reset: no goodbye, and what was not sent is lost."""


@dataclass(frozen=True)
class Harm:
    """What happens, once, on the first connection whose client says `said`."""

    action: Literal["reset", "lose", "silence"]
    """Reset the connection; have COMMIT done and lose its answer; let nothing come back any more, connected still."""
    said: bytes
    way: Way = "up"
    """Whose bytes are counted."""
    after: int = 0
    """Reset after so many bytes more."""


class Proxy:
    """Listens on 127.0.0.1 while it is entered; `happened` is set when the harm is done."""

    def __init__(self, harm: Harm | None = None, delay: float = 0.0) -> None:
        self.harm, self.delay = harm, delay
        self.happened = threading.Event()
        self.carried = 0
        """Chunks that went through, either way."""
        self._away = False
        self._server = ""
        self._links: list[_Link] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for link in self._links:
            link.end()

    def front(self, url: str) -> str:
        """Stand in front of the server of a URL, which has a socket in the file system; return the URL through here."""
        parsed = sa.make_url(url)
        self._server = f"{parsed.query['host']}/.s.PGSQL.5432"
        through = parsed.set(host="127.0.0.1", port=self._listening.getsockname()[1], query={})
        return through.render_as_string(hide_password=False)

    @property
    def away(self) -> bool:
        """Whether the server is not reached: open connections are cut, and new ones are closed at once."""
        return self._away

    @away.setter
    def away(self, away: bool) -> None:
        self._away = away
        for link in self._links if away else ():
            link.end()

    def take(self, said: bytes) -> Harm | None:
        """Give the harm to a connection whose client says this, if it is for it and nobody else has it."""
        with self._lock:
            if self.harm is None or self.harm.said not in said:
                return None
            taken, self.harm = self.harm, None
            return taken

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:  # closed
                return
            if self._away:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._server)
            except OSError:  # the server is down
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(self, client, server)
            self._links.append(link)
            link.start()


class _Link(threading.Thread):
    """One client's connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        super().__init__(name="proxy link", daemon=True)
        self._proxy, self._client, self._server = proxy, client, server
        self._harm: Harm | None = None
        self._passed = 0
        self._committing = False
        self._listened = [client, server]

    def run(self) -> None:
        try:
            while self._carry():
                pass
        except OSError:
            pass  # one side has gone; so does the other
        self._client.close()
        self._server.close()

    def end(self) -> None:
        for side in (self._client, self._server):
            with suppress(OSError):  # closed already
                side.shutdown(socket.SHUT_RDWR)

    def _carry(self) -> bool:
        """Carry one chunk; False at the end of the connection."""
        [source, *_], _, _ = select.select(self._listened, [], [])
        data = source.recv(1 << 16)
        way: Way = "up" if source is self._client else "down"
        if not data:
            self._listened.remove(source)
            silent = self._harm is not None and self._harm.action == "silence"
            return silent and way == "down"  # the client must not hear of the end either
        time.sleep(self._proxy.delay)
        self._proxy.carried += 1
        if self._harm is not None and not self._go_on(self._harm, way, data):
            return self._harm.action == "silence"
        (self._server if way == "up" else self._client).sendall(data)
        if way == "up" and self._harm is None:
            self._harm = self._proxy.take(data)
        return True

    def _go_on(self, harm: Harm, way: Way, data: bytes) -> bool:
        """Do the harm if it is time for it; True where the chunk is to be carried all the same."""
        if harm.action == "lose":
            if way == "down" and self._committing:
                self._reset()
                return False
            self._committing = self._committing or (way == "up" and b"COMMIT" in data)
        elif harm.action == "silence":
            if way == "down":
                self._proxy.happened.set()
                return False
        elif way == harm.way:
            left = harm.after - self._passed
            self._passed += len(data)
            if left < len(data):
                (self._server if way == "up" else self._client).sendall(data[:left])
                self._reset()
                return False
        return True

    def _reset(self) -> None:
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._client.close()
        self._proxy.happened.set()
