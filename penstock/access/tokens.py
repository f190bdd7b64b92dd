"""Tokens, their roles and their hashes.

A token is 256 random bits, so a plain SHA-256 of it is enough. A salt and a slow hash defend against a dictionary of
likely passwords, and there is none of random bits. So a server can check a token with each request.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

Role = Literal["reader", "operator", "approver"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each role may also do what those before it may."""
PREFIX = "pst_"
"""So that tools that look for leaked secrets can find a token."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Identity:
    """Who asks: the name and role of the token that came with a request."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether this token has at least a role."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class StoredToken:
    """One line of a token file."""

    name: str
    role: Role
    added_at: datetime
    digest: str = field(repr=False)
    """SHA-256 of the token, 64 hexadecimal digits."""

    @property
    def identity(self) -> Identity:
        return Identity(self.name, self.role)


def make_token() -> str:
    """Return a new token: 256 random bits, written in 43 characters after the prefix."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_token(token: str) -> str:
    """Return the hash under which a token is stored, 64 hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def match_token(token: str, stored: Iterable[StoredToken]) -> Identity | None:
    """Return whose token it is. The time does not depend on which token matches, or how far."""
    digest, found = digest_token(token), None
    for each in stored:
        if hmac.compare_digest(digest, each.digest):
            found = each.identity
    return found
