"""Sessions: a signed cookie that names a token of the token file. The server keeps nothing.

The signature covers the token's hash, so a session ends when its token is removed or replaced.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from penstock.access.tokens import Identity, StoredToken

COOKIE = "penstock_session"
LASTS = timedelta(hours=12)


def make_session(key: bytes, token: StoredToken, now: datetime) -> str:
    """Return the value of the cookie for a person who has shown a token."""
    expires = int((now + LASTS).timestamp())
    name = base64.urlsafe_b64encode(token.name.encode()).decode().rstrip("=")
    signed = f"{name}.{expires}.{secrets.token_urlsafe(16)}"
    return f"{signed}.{_sign(key, signed, token.digest)}"


def read_session(key: bytes, value: str, tokens: tuple[StoredToken, ...], now: datetime) -> Identity | None:
    """Return who has signed in. None if the cookie is forged or too old, or its token is gone."""
    signed, _, mark = value.rpartition(".")
    parts = signed.split(".")
    if len(parts) != 3 or not parts[1].isascii() or not parts[1].isdigit():
        return None
    name = _decode(parts[0])
    token = next((each for each in tokens if each.name == name), None)
    if token is None or not hmac.compare_digest(mark.encode(), _sign(key, signed, token.digest).encode()):
        return None
    return token.identity if int(parts[1]) > now.timestamp() else None


def make_csrf(key: bytes, session: str) -> str:
    """Return the token that every form of a session carries. A page of another site cannot know it."""
    return hmac.new(key, b"csrf\0" + session.encode(), hashlib.sha256).hexdigest()


def is_csrf(key: bytes, session: str, given: str) -> bool:
    """Whether a form came from a page of this session."""
    return hmac.compare_digest(given.encode(), make_csrf(key, session).encode())


def _sign(key: bytes, signed: str, digest: str) -> str:
    return hmac.new(key, f"session\0{signed}\0{digest}".encode(), hashlib.sha256).hexdigest()


def _decode(text: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
