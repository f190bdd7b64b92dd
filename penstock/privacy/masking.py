"""Hash or drop private columns wherever rows are stored, shown or logged. Scores and features use the real values."""

import hashlib
import hmac
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.errors import (
    AmbiguousDate,
    BrokenFile,
    FilesChanged,
    MalformedRows,
    SettingsError,
    UnfitValue,
    UnreadableTime,
)
from penstock.run_types import Misfit, Reason
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import Masking

HIDDEN = "(private)"
"""The text shown in place of a private value."""
_HASHED = "hash:"
_DIGITS = 32


@dataclass(frozen=True)
class MaskingPolicy:
    """How to hide a pipeline's private columns. It contains the secret, so it never travels with rows."""

    columns: Mapping[str, Masking] = field(default_factory=dict)
    """By column name in lower case."""
    secret: bytes = field(default=b"", repr=False)

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
        return _HASHED + hmac.new(self.secret, str(value).encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def is_hash(value: object) -> bool:
    """Whether a stored value is the hash of a private one."""
    return isinstance(value, str) and re.fullmatch(rf"{_HASHED}[0-9a-f]{{{_DIGITS}}}", value) is not None


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
    return MaskingPolicy(private, read_secret(settings, f"`{pipeline.name}` has private columns ({names})"))


def read_secret(settings: Settings, why: str) -> bytes:
    """Return the secret for hashing private values.

    Raises:
        SettingsError: the secret is not set or too short.
    """
    secret = settings.private_key.get_secret_value().encode() if settings.private_key else b""
    if len(secret) < 16:
        raise SettingsError(
            f"{why}, and PENSTOCK_PRIVATE_KEY, the secret for hashing them, "
            f"{'has fewer than 16 characters' if secret else 'is not set'}",
            "Set it to a long random text, for example from `openssl rand -hex 32`, the same wherever Penstock runs. "
            "If you lose it, you can no longer find private keys in the quarantine.",
        )
    return secret
