"""Who may ask: the Host header, the bearer token and its role, and how often."""

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from starlette.requests import Request

from penstock.access.token_file import TokenFile
from penstock.access.tokens import Identity, Role
from penstock.errors import RequestError, TooManyRequests

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


@dataclass
class TokenRate:
    """How often each token may ask: so many requests a second, and as many at once."""

    per_second: float
    clock: Callable[[], float] = time.monotonic
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By name of the token: the requests that are left, and when that was."""

    def take(self, name: str) -> None:
        """Count a request.

        Raises:
            TooManyRequests: the token has asked too often.
        """
        now = self.clock()
        left, then = self._left.get(name, (self.per_second, now))
        left = min(self.per_second, left + (now - then) * self.per_second)
        if left < 1:
            self._left[name] = (left, now)
            raise TooManyRequests(f"the token `{name}` has sent more than {self.per_second:g} requests a second")
        self._left[name] = (left - 1, now)


@dataclass(frozen=True)
class Guard:
    """Checks of a request before its body is read."""

    hosts: Collection[str]
    """Names that requests may call the server by, without port."""
    tokens: TokenFile | None = None
    """None: everyone who reaches the server may ask. It listens on this machine only then."""
    rate: TokenRate | None = None

    def check_host(self, request: Request) -> None:
        """Refuse another Host header, so that a page of another site cannot reach the server under its own name.

        Raises:
            RequestError: the header is missing, or names another host.
        """
        named = re.sub(r":\d+$", "", request.headers.get("host", "")).lower()
        if named not in self.hosts:
            remedy = "Call the server by its own name, or start it with `--allow-host` and this one."
            raise RequestError("the host is not one of this server", "host", remedy, 421)

    def identify(self, request: Request, role: Role) -> Identity | None:
        """Return whose token the request has. None without a token file.

        Raises:
            RequestError: it has no valid token, or one without the role.
            TooManyRequests: the token has asked too often.
            TokenFileUnusable: the token file cannot be read.
        """
        if self.tokens is None:
            return None
        found = _BEARER.fullmatch(request.headers.get("authorization", ""))
        identity = self.tokens.find(found[1]) if found else None
        if identity is None:
            remedy = "Send `Authorization: Bearer <token>`. `penstock tokens add` makes one."
            raise RequestError("there is no valid token", "authorization", remedy, 401)
        if not identity.may(role):
            remedy = f"Use a token with the role {role}."
            raise RequestError(f"the token `{identity.name}` may not do this", "authorization", remedy, 403)
        if self.rate is not None:
            self.rate.take(identity.name)
        return identity
