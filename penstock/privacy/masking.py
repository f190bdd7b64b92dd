"""Hash or drop private columns wherever rows are stored, shown or logged. Scores and features use the real values."""

import hmac
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from penstock.errors import (
    AmbiguousDate,
    BrokenFile,
    FilesChanged,
    MalformedRows,
    UnfitValue,
    UnreadableTime,
)
from penstock.privacy.secret_keys import KeyRing, SecretKey, read_key_ring
from penstock.run_types import Misfit, Reason
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import Masking

HIDDEN = "(private)"
"""The text shown in place of a private value."""
_HASHED = "hash:"
_DIGITS = 32
HASH = re.compile(rf"{_HASHED}(?:([0-9a-f]{{8}}):)?[0-9a-f]{{{_DIGITS}}}")
"""A hash in a text. Its group is the ID of its key, None in hashes of versions before 0.2."""


@dataclass(frozen=True)
class MaskingPolicy:
    """How to hide a pipeline's private columns. It contains the secret, so it never travels with rows."""

    columns: Mapping[str, Masking] = field(default_factory=dict)
    """By column name in lower case."""
    secret: bytes = field(default=b"", repr=False)
    former: bytes = field(default=b"", repr=False)
    """The secret before, under which the ledger may still have hashes."""
    names_key: bool = True
    """Whether hashes have the ID of their key. Those of versions before 0.2 do not."""

    @cached_property
    def variants(self) -> "tuple[MaskingPolicy, ...]":
        """The policies whose hashes the ledger may have: this one, then earlier forms and the former key."""
        known = (secret for secret in (self.secret, self.former) if secret)
        others = (replace(self, secret=s, former=b"", names_key=named) for s in known for named in (True, False))
        return (self, *(each for each in others if each != replace(self, former=b"")))

    @cached_property
    def key_id(self) -> str:
        """The ID of the key of new hashes."""
        return SecretKey(self.secret).id

    def hides(self, columns: Iterable[str]) -> bool:
        """Whether one of the columns is private."""
        return any(column.casefold() in self.columns for column in columns)

    def mask(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row with private values hashed or dropped. Equal values have equal hashes."""
        if not self.columns:
            return dict(row)
        kept = ((name, value, self.columns.get(name.casefold())) for name, value in row.items())
        return {name: self.hash(value) if how == "hash" else value for name, value, how in kept if how != "drop"}

    def mask_reason(self, reason: Reason) -> Reason:
        """Return a reason without its value where the feature, or the column that it was read from, is private."""
        if not isinstance(reason, Misfit) or reason.value is None:
            return reason
        private = self.hides([reason.feature, reason.column or reason.feature])
        return replace(reason, value=HIDDEN, masked=True) if private else reason

    def hash(self, value: Any) -> str | None:
        """Return a value's keyed hash, which cannot be guessed without the secret. NULL stays NULL."""
        if value is None:
            return None
        digest = hmac.digest(self.secret, str(value).encode(), "sha256").hex()[:_DIGITS]
        return f"{_HASHED}{self.key_id}:{digest}" if self.names_key else f"{_HASHED}{digest}"

    def possible_hashes(self, value: Any) -> tuple[str, ...]:
        """Return every hash that the ledger may have of a value, that of the current key first."""
        return tuple(hashed for each in self.variants if (hashed := each.hash(value)) is not None)


def is_hash(value: object) -> bool:
    """Whether a stored value is the hash of a private one."""
    return isinstance(value, str) and HASH.fullmatch(value) is not None


@contextmanager
def hide_values(private: Container[str]) -> Iterator[None]:
    """Take the value out of an error of the block if its column is private. Names are in lower case."""
    try:
        yield
    except (UnreadableTime, UnfitValue, MalformedRows, AmbiguousDate) as error:
        if error.column.casefold() not in private or not error.value:
            raise
        raise replace(error, value=HIDDEN) from None


@contextmanager
def hide_paths(is_private: bool) -> Iterator[None]:
    """Take the paths of files out of an error of the block if they are private."""
    try:
        yield
    except FilesChanged as error:
        if not is_private:
            raise
        raise replace(error, changes=(f"{HIDDEN} was changed or removed",)) from None
    except BrokenFile as error:
        if not is_private:
            raise
        raise replace(error, file=HIDDEN) from None


NO_MASKING = MaskingPolicy()
"""Hides nothing."""


def make_masking(pipeline: Pipeline, settings: Settings) -> MaskingPolicy:
    """Return the masking policy of a pipeline.

    Raises:
        SettingsError: the pipeline has private columns and no secret is set.
    """
    private = pipeline.private_columns
    if not private:
        return NO_MASKING
    names = ", ".join(f"`{name}`" for name in private)
    keys = read_private_keys(settings, f"`{pipeline.name}` has private columns ({names})")
    return MaskingPolicy(private, keys.current.secret, keys.former.secret if keys.former else b"")


def read_private_keys(settings: Settings, why: str) -> KeyRing:
    """Return the keys for hashing private values.

    Args:
        why: What needs them, the begin of the message.

    Raises:
        SettingsError: the key is not set, or too short.
    """
    loss = "If you lose it, you can no longer find private keys in the quarantine."
    return read_key_ring(settings.private_key, settings.private_key_old, "PENSTOCK_PRIVATE_KEY", why, loss)


def make_record_masking(settings: Settings) -> MaskingPolicy | None:
    """Return what hashes the keys of `penstock forget`'s records. None if no key is set."""
    if settings.private_key is None:
        return None
    keys = read_private_keys(settings, "the records of removals have hashes of keys")
    return MaskingPolicy({}, keys.current.secret, keys.former.secret if keys.former else b"")
