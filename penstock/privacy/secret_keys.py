"""Secret keys that rotate: each has an ID, and a former key stays valid beside the current one."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import SecretStr

from penstock.errors import SettingsError

SHORTEST = 16
_ID_DIGITS = 8


@dataclass(frozen=True)
class SecretKey:
    """One secret. Its ID is stored with what was written under it."""

    secret: bytes = field(repr=False)

    @cached_property
    def id(self) -> str:
        """Eight hexadecimal digits of a digest of the secret, from which it cannot be computed."""
        return hashlib.sha256(b"penstock key\0" + self.secret).hexdigest()[:_ID_DIGITS]


@dataclass(frozen=True)
class KeyRing:
    """The keys that are valid at once: new values are written under the current one."""

    current: SecretKey
    former: SecretKey | None = None

    def __iter__(self) -> Iterator[SecretKey]:
        yield self.current
        if self.former is not None:
            yield self.former

    def find(self, key_id: str) -> SecretKey | None:
        """Return the key with an ID."""
        return next((key for key in self if key.id == key_id), None)

    @property
    def ids(self) -> tuple[str, ...]:
        """The IDs of the valid keys, the current one first."""
        return tuple(key.id for key in self)


def read_key_ring(current: SecretStr | None, former: SecretStr | None, variable: str, why: str, loss: str) -> KeyRing:
    """Read the keys of one purpose.

    Args:
        variable: The environment variable of the current key. That of the former one ends in `_OLD`.
        why: What needs the key, the begin of the message.
        loss: What becomes impossible if the key is lost.

    Raises:
        SettingsError: the current key is not set, or one of them is too short.
    """
    secrets = [key.get_secret_value().encode() if key else b"" for key in (current, former)]
    short = [name for name, secret in zip((variable, f"{variable}_OLD"), secrets, strict=True) if secret]
    short = [name for name in short if len(secrets[name != variable]) < SHORTEST]
    if not secrets[0] or short:
        name = short[0] if short else variable
        raise SettingsError(
            f"{why}, and {name} {f'has fewer than {SHORTEST} characters' if short else 'is not set'}",
            "Set it to a long random text, for example from `openssl rand -hex 32`, the same wherever Penstock runs. "
            + loss,
        )
    return KeyRing(SecretKey(secrets[0]), SecretKey(secrets[1]) if secrets[1] else None)
