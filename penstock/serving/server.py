"""Run the server: where it listens, with how many processes, and that it does not listen to others without tokens."""

import ipaddress
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY, socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from penstock.access.token_file import read_tokens
from penstock.errors import ServeRefused
from penstock.serving.guard import LOCAL_HOSTS

_DRAIN_SECONDS = 30
"""How long requests in flight may take after SIGTERM."""
_HUNG_SECONDS = 15
"""After which a process that says nothing is killed and replaced. On a busy machine imports take seconds.

Meanwhile the first process sees no SIGTERM: with the drain, an end takes at most 45 seconds for one that hangs.
"""


@dataclass(frozen=True)
class Address:
    """Where a server listens, and who may ask."""

    host: str
    port: int
    token_file: Path | None = None
    allow_hosts: tuple[str, ...] = ()
    """Further names that requests may call the server by."""
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def needs_token(self) -> bool:
        """Whether requests need a token. With another name to call it by, others reach the server through a proxy."""
        return not self.is_local or self.token_file is not None or bool(self.allow_hosts)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that requests may call the server by, in lower case, IPv6 addresses in brackets."""
        named = (*LOCAL_HOSTS, self.host, *self.allow_hosts)
        return tuple(f"[{name}]" if ":" in name and name[0] != "[" else name for name in map(str.lower, named))

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"

    def check(self) -> None:
        """Refuse an address that others reach, or a name that they call it by, without tokens.

        Raises:
            ServeRefused: it has none, or only one of certificate and key.
            TokenFileUnusable: the token file cannot be read.
        """
        if self.token_file is not None:
            read_tokens(self.token_file)
        elif self.needs_token:
            reached = ", ".join(self.allow_hosts) if self.is_local else self.host
            raise ServeRefused(
                f"others reach {reached}, and the server has no tokens",
                "Make one with `penstock tokens add`, and give --token-file. Or listen on 127.0.0.1 only, without "
                "--allow-host.",
            )
        if (self.certificate is None) != (self.key is None):
            raise ServeRefused("TLS needs a certificate and its key", "Give both --tls-certificate and --tls-key.")


@dataclass(frozen=True)
class _OneOfSeveral:
    """Makes the application in one of several processes, which ends with the process that started it.

    It would go on otherwise, hold the port, and nobody would replace or end it.
    """

    make_application: Callable[[], ASGIApp]

    def __call__(self) -> ASGIApp:
        threading.Thread(target=_end_with_parent, name="penstock-parent", daemon=True).start()
        return self.make_application()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def run_server(
    make_application: Callable[[], ASGIApp], address: Address, workers: int, tell: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM. Requests in flight are answered first.

    Args:
        make_application: called in each process; with several processes it must survive pickling.
        tell: called with the URL once the server listens. Requests that come then wait until the models are open.

    Raises:
        ServeRefused: the port is taken, or the certificate cannot be read.
    """
    config = uvicorn.Config(
        _OneOfSeveral(make_application) if workers > 1 else make_application,
        factory=True,
        host=address.host,
        port=address.port,
        workers=workers,
        ssl_certfile=address.certificate,
        ssl_keyfile=str(address.key) if address.key else None,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        timeout_worker_healthcheck=_HUNG_SECONDS,
        access_log=False,  # paths may have keys of rows
        log_level="warning",
        server_header=False,
    )
    bound = listen(config, address)
    tell(replace(address, port=bound.getsockname()[1]).url)
    if workers > 1:
        Multiprocess(config, sockets=[bound]).run()
    else:
        uvicorn.Server(config).run(sockets=[bound])


def listen(config: uvicorn.Config, address: Address) -> socket:
    """Return a socket that listens. Its connections send what is written at once.

    asyncio asks for that only where the socket names TCP, which uvicorn's does not. An answer would wait 40 ms until
    the client has acknowledged its head.
    """
    try:
        bound = config.bind_socket()
    except SystemExit:
        raise ServeRefused(f"{address.host}:{address.port} cannot be used", "Choose another --port.") from None
    bound.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    bound.listen(config.backlog)
    return bound
