"""Send batches to an HTTP receiver."""

import hashlib
import hmac
import json
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

import httpcore

from penstock.delivery.target import Reply
from penstock.errors import AddressRefused
from penstock.interval import DataInterval
from penstock.ledger.deliveries import Batch, Outbox, OutboxRow

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed. One of the others is final."""
CONNECT_SECONDS = 10.0
LONGEST_REPLY = 65_536
"""Most bytes of a reply's body that are read, so that the connection can be used again."""


@dataclass(frozen=True)
class HttpTarget:
    """A receiver of POST requests.

    Each request has an `Idempotency-Key`, the same whenever the batch is sent, and the same body. With a secret it is
    signed: `Penstock-Signature: t=<seconds>,v1=<HMAC-SHA256 of "<seconds>.<body>">`.
    """

    name: str
    url: str = field(repr=False)
    seconds: float
    private_address: bool = False
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    pool: httpcore.ConnectionPool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        backend = CheckedAddresses(self.name, self.private_address)
        pool = httpcore.ConnectionPool(ssl.create_default_context(), max_connections=1, network_backend=backend)
        object.__setattr__(self, "pool", pool)
        address = httpcore.URL(self.url)
        if address.scheme not in (b"https", b"http") or not address.host:
            raise AddressRefused(self.name, "its `url` is no address that begins with `https://`")
        if address.scheme == b"http" and not self.private_address:
            raise AddressRefused(self.name, "its address begins with `http://`, so others could read the rows")

    @property
    def longest_seconds(self) -> float:
        return CONNECT_SECONDS + 3 * self.seconds

    def send(self, outbox: Outbox, batch: Batch, rows: list[OutboxRow]) -> Reply:
        """Send one batch.

        Raises:
            AddressRefused: the host has an address that rows may not be sent to.
        """
        body = write_body(outbox, batch, rows)
        timeout = {"connect": CONNECT_SECONDS, "read": self.seconds, "write": self.seconds, "pool": self.seconds}
        headers = self._headers(batch, body)
        try:
            with self.pool.stream(
                "POST", self.url, headers=headers, content=body, extensions={"timeout": timeout}
            ) as response:
                _read_some(response.iter_stream(), time.monotonic() + self.seconds)
                return _read_reply(response)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            return Reply(False, _describe(error), again=True)

    def close(self) -> None:
        """Close the connection to the receiver."""
        self.pool.close()

    def _headers(self, batch: Batch, body: bytes) -> list[tuple[bytes | str, bytes | str]]:
        headers: list[tuple[bytes | str, bytes | str]] = [
            ("Host", _host_of(self.url)),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("User-Agent", "penstock"),
            ("Idempotency-Key", f"{batch.delivery.delivery_id}-{batch.number}"),
        ]
        if self.token is not None:
            headers.append(("Authorization", f"Bearer {self.token}"))
        if self.secret is not None:
            headers.append(("Penstock-Signature", sign(self.secret, body, int(time.time()))))
        return headers


class CheckedAddresses(httpcore.SyncBackend):
    """Connect to addresses of the public network only, by the address that was looked at, not by the name again."""

    def __init__(self, target: str, private_address: bool) -> None:
        self._target = target
        self._private_address = private_address

    def connect_tcp(self, host: str, port: int, *given: Any, **named: Any) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} is not known") from error
        addresses = [str(each[4][0]) for each in found]
        for address in addresses:
            if not self._private_address and not is_public(address):
                raise AddressRefused(self._target, f"`{host}` has the address {address}, which is not a public one")
        return super().connect_tcp(addresses[0], port, *given, **named)


def is_public(address: str) -> bool:
    """Whether an address belongs to the public network. One of IPv4 inside IPv6 is judged as what it is inside."""
    found = ip_address(address.partition("%")[0])
    inside = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    return (inside or found).is_global and not found.is_multicast


def sign(secret: str, body: bytes, seconds: int) -> str:
    """Return the signature of a body that is sent at this time, in seconds since 1970."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def write_body(outbox: Outbox, batch: Batch, rows: Iterable[OutboxRow]) -> bytes:
    """Return the body of a batch. It is made of the outbox alone, so it is the same whenever it is made."""
    delivery, change = batch.delivery, batch.delivery.change
    about = {
        "pipeline": outbox.pipeline,
        "target": outbox.target,
        "run": change.run_id,
        "interval": _write_interval(change.interval),
        "delivery": delivery.delivery_id,
        "sequence": delivery.sequence,
        "batch": batch.number,
        "batches": batch.of,
    }
    written = ",".join(map(_write_row, rows))
    return (json.dumps(about, separators=(",", ":"), ensure_ascii=False)[:-1] + f',"rows":[{written}]}}').encode()


def _write_row(row: OutboxRow) -> str:
    if row.values is None:
        return f'{{"op":"delete","key":{row.key}}}'
    return f'{{"op":"upsert","key":{row.key},"values":{row.values}}}'


def _write_interval(interval: DataInterval | None) -> dict[str, str] | None:
    if interval is None:
        return None
    return {name: getattr(interval, name).isoformat().replace("+00:00", "Z") for name in ("start", "end")}


def _host_of(url: str) -> str:
    return url.split("://", 1)[-1].split("/", 1)[0].split("?", 1)[0]


def _read_some(stream: Iterable[bytes], deadline: float) -> None:
    """Read the body of a reply, but no more than is needed to use the connection again."""
    size = 0
    for part in stream:
        size += len(part)
        if size > LONGEST_REPLY or time.monotonic() > deadline:
            return


def _read_reply(response: httpcore.Response) -> Reply:
    status = response.status
    text = f"{status} {_phrase(status)}".strip()
    if 200 <= status < 300:
        return Reply(True, text)
    if 300 <= status < 400:
        return Reply(False, f"{text}; redirects are not followed")
    return Reply(False, text, again=status in AGAIN, wait=_read_wait(response))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _read_wait(response: httpcore.Response) -> float | None:
    """Return the seconds of `Retry-After`, which may be a time."""
    for name, value in response.headers:
        if name.lower() == b"retry-after":
            text = value.decode("latin-1").strip()
            if text.isdigit():
                return float(text[:9])
            try:
                return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
            except (TypeError, ValueError):
                return None
    return None


def _describe(error: Exception) -> str:
    if isinstance(error, httpcore.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpcore.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpcore.ConnectError):
        return "no connection"
    return "the connection broke"
