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
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpcore

from penstock.delivery.target import BatchTarget, Reply
from penstock.errors import AddressRefused
from penstock.interval import DataInterval
from penstock.ledger.outbox import Batch, Outbox, OutboxRow

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed. One of the others is final."""
CONNECT_SECONDS = 10.0
WRITTEN_AT_ONCE = 65_536
"""Bytes that are sent before the time is looked at again."""
UNKNOWN_HOST = "its host is not known"
TRANSLATED = ip_network("64:ff9b::/96")
"""Addresses of IPv4 that a gateway translates: the last 32 bits."""
LONGEST_REPLY = 65_536
"""Most bytes of a reply's body that are read, so that the connection can be used again."""


class Deadline:
    """When the request that is under way must be over, however slowly the receiver goes on."""

    def __init__(self) -> None:
        self._end = 0.0

    def begin(self, seconds: float) -> None:
        """Give a request so many seconds from now on."""
        self._end = time.monotonic() + seconds

    def limit(self, timeout: float | None, ended: type[httpcore.TimeoutException]) -> float:
        """Return how long the next step may take.

        Raises:
            httpcore.TimeoutException: no time is left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise ended("the whole request took too long")
        return left if timeout is None else min(left, timeout)


@dataclass(frozen=True)
class HttpTarget(BatchTarget):
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
    deadline: Deadline = field(init=False, repr=False, default_factory=Deadline)
    pool: httpcore.ConnectionPool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_address(self.name, self.url, self.private_address)
        backend = CheckedAddresses(self.name, self.private_address, self.deadline)
        pool = httpcore.ConnectionPool(ssl.create_default_context(), max_connections=1, network_backend=backend)
        object.__setattr__(self, "pool", pool)

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
        self.deadline.begin(self.longest_seconds)
        try:
            with self.pool.stream(
                "POST", self.url, headers=headers, content=body, extensions={"timeout": timeout}
            ) as response:
                _read_some(response.iter_stream(), time.monotonic() + self.seconds)
                return _read_reply(response)
        except httpcore.LocalProtocolError:  # the library refuses to send it, whenever it is asked
            return Reply(False, "its address or token has a character that a request cannot have")
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


class TimedStream(httpcore.NetworkStream):
    """A connection of which each step ends by the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.limit(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for first in range(0, len(buffer), WRITTEN_AT_ONCE):
            limit = self._deadline.limit(timeout, httpcore.WriteTimeout)
            self._stream.write(buffer[first : first + WRITTEN_AT_ONCE], limit)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit = self._deadline.limit(timeout, httpcore.ConnectTimeout)
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, limit), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class CheckedAddresses(httpcore.SyncBackend):
    """Connect to addresses of the public network only, by the address that was looked at, not by the name again."""

    def __init__(self, target: str, private_address: bool, deadline: Deadline) -> None:
        self._target = target
        self._private_address = private_address
        self._deadline = deadline

    def connect_tcp(self, host: str, port: int, *given: Any, **named: Any) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(UNKNOWN_HOST) from error
        addresses = [str(each[4][0]) for each in found]
        for address in addresses:
            if not self._private_address and not is_public(address):
                raise AddressRefused(self._target, f"`{host}` has the address {address}, which is not a public one")
        return TimedStream(super().connect_tcp(addresses[0], port, *given, **named), self._deadline)


def is_public(address: str) -> bool:
    """Whether an address belongs to the public network. One of IPv4 inside IPv6 is judged as what it is inside."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found in TRANSLATED:
            found = IPv4Address(int(found) & 0xFFFF_FFFF)
        elif inside := found.ipv4_mapped or found.sixtofour:
            found = inside
        elif found.is_site_local:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def _check_address(target: str, url: str, private_address: bool) -> None:
    """Refuse an address that rows may not be sent to. The message has nothing of it, for it may have a password."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("https", "http") and bool(httpcore.URL(url).host) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except (TypeError, ValueError):  # not ASCII, a bracket without its pair, a label that is empty or too long
        known = False
    if not known or " " in url or not url.isprintable():
        raise AddressRefused(target, "its `url` is no address in ASCII that begins with `https://`")
    if "@" in parts.netloc or "#" in url:
        raise AddressRefused(target, "its address has a user, a password or a fragment; use `token`")
    if parts.scheme == "http" and not private_address:
        raise AddressRefused(target, "its address begins with `http://`, so others could read the rows")


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
        return _describe_refusal(error.args[0] if error.args else None)
    return "the connection broke"


def _describe_refusal(cause: object) -> str:
    """Say why there is no connection. `cause` is the error of the operating system or of TLS, or a text."""
    if cause == UNKNOWN_HOST:
        return UNKNOWN_HOST
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {cause.verify_message}"
    return "no TLS connection" if isinstance(cause, ssl.SSLError) else "no connection"
