"""Run the server: where it listens, with how many processes, and that it does not listen to others without tokens."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from penstock.access.token_file import read_tokens
from penstock.errors import ServeRefused
from penstock.serving.guard import LOCAL_HOSTS

_DRAIN_SECONDS = 30
"""How long requests in flight may take after SIGTERM."""


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
    def hosts(self) -> tuple[str, ...]:
        """The names that requests may call the server by, in lower case."""
        return tuple(name.lower() for name in (*LOCAL_HOSTS, self.host, *self.allow_hosts))

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.host}:{self.port}"

    def check(self) -> None:
        """Refuse an address that others reach and that has no tokens.

        Raises:
            ServeRefused: it has none, or only one of certificate and key.
            TokenFileUnusable: the token file cannot be read.
        """
        if self.token_file is not None:
            read_tokens(self.token_file)
        elif not self.is_local:
            raise ServeRefused(
                f"others reach {self.host}, and the server has no tokens",
                "Make one with `penstock tokens add`, and give --token-file. Or listen on 127.0.0.1.",
            )
        if (self.certificate is None) != (self.key is None):
            raise ServeRefused("TLS needs a certificate and its key", "Give both --tls-certificate and --tls-key.")


def run_server(make_application: Callable[[], ASGIApp], address: Address, workers: int) -> None:
    """Serve until SIGINT or SIGTERM. Requests in flight are answered first.

    Args:
        make_application: called in each process; with several processes it must survive pickling.

    Raises:
        ServeRefused: the port is taken, or the certificate cannot be read.
    """
    config = uvicorn.Config(
        make_application,
        factory=True,
        host=address.host,
        port=address.port,
        workers=workers,
        ssl_certfile=address.certificate,
        ssl_keyfile=str(address.key) if address.key else None,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        access_log=False,  # paths may have keys of rows
        log_level="warning",
        server_header=False,
    )
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise ServeRefused(f"{address.host}:{address.port} cannot be used", "Choose another --port.") from None
    if workers > 1:
        Multiprocess(config, sockets=[socket]).run()
    else:
        uvicorn.Server(config).run(sockets=[socket])
