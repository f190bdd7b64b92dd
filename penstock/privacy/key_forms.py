"""The ways to write one value of a key: as people type it, as tables and the ledger have it, and before it is hashed.

A value of a row is a flag, a whole number, a float, a decimal, a date, a time in UTC, or text. Its canonical text is
equal for equal values, whatever their type. The quarantine has JSON values, the text of Python's `str`, or a hash of
that text. So the key 5 may be `5` or `5.0` there, and a time has a `T` or a space, and a zone or none.

Text is no number, and two texts are two values: `1.1` and `1.10` are two orders of a text column.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from penstock.interval import as_utc
from penstock.privacy.masking import MaskingPolicy
from penstock.wording import write_decimal

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,4})?", re.ASCII)
_WRITTEN_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?", re.ASCII)
"""A number as Penstock writes it. `007` is text."""
_DASHES = 4
"""Of an ID as it is written with its five groups."""
_HEX = "\\x"
_HEX_BYTES = re.compile(r"\\x([0-9a-fA-F]{2})+", re.ASCII)
"""Bytes as Postgres shows them."""


def read_number(text: str) -> Decimal | None:
    """Read a typed number with all its digits. None if the text is not a finite number."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def write_value(value: Any) -> str:
    """Return the canonical text of a value: a whole number has no point, a time is in UTC."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return as_utc(value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float | Decimal):
        number = Decimal(str(value))
        return write_decimal(number) if number.is_finite() else str(value)
    return str(value)


@dataclass(frozen=True)
class TypedValue:
    """One value of a key as a person types it."""

    text: str
    is_text: bool = False
    """Whether its column is known to be text. Otherwise the value may be of any type."""

    @cached_property
    def number(self) -> Decimal | None:
        return read_number(self.text)

    @cached_property
    def canonical(self) -> tuple[str, ...]:
        """The canonical texts of the values that it may be, the value of a column of text first."""
        return tuple(dict.fromkeys([self.text, *_texts(self.text), *([] if self.is_text else self._canonical())]))

    @cached_property
    def written(self) -> tuple[str, ...]:
        """The texts of these values in the ledger: the canonical ones, and those of Python's `str`."""
        return tuple(dict.fromkeys([*self.canonical, *([] if self.is_text else self._printed())]))

    @cached_property
    def standard(self) -> str:
        """One text for all ways to type the value."""
        forms = [] if self.is_text else list(self._canonical())
        if self._moment is not None and not self.is_text:
            return self._moment.isoformat()
        return next(iter(forms or _texts(self.text)), self.text)

    def hashes(self, masking: MaskingPolicy) -> frozenset[str]:
        """Return all hashes that the ledger may have of these values. None without private columns."""
        forms = self.written if masking.columns else ()
        return frozenset(each for form in forms for each in masking.possible_hashes(form))

    def matcher(self, masking: MaskingPolicy) -> Callable[[Any], bool]:
        """Return what says whether a value of a row, or of the ledger, is the typed one or its hash."""
        texts = {*self.written, *self.hashes(masking)}

        def matches(value: Any) -> bool:
            if isinstance(value, str):
                return value in texts or self._is_number(value)
            if isinstance(value, bool | date) or value is None:
                return value is not None and write_value(value) in texts
            if isinstance(value, int | float | Decimal) and Decimal(str(value)).is_finite():
                return self.number == Decimal(str(value))
            return str(value) in texts

        return matches

    def _is_number(self, stored: str) -> bool:
        """Whether a stored text is the typed number: a decimal may have zeros at its end."""
        if self.is_text or self.number is None:
            return False
        return _WRITTEN_NUMBER.fullmatch(stored) is not None and Decimal(stored) == self.number

    def _canonical(self) -> Iterator[str]:
        if self.number is not None:
            yield write_decimal(self.number)
        if self._moment is not None:
            yield self._moment.isoformat()
            with suppress(ValueError):
                yield date.fromisoformat(self.text).isoformat()
        if self.text.lower() in ("true", "false"):
            yield self.text.lower()
        if self._infinity is not None:
            yield str(self._infinity)

    def _printed(self) -> Iterator[str]:
        if self.number is not None:
            nearest = float(self.number)
            if Decimal(str(nearest)) == self.number:
                yield str(nearest)
        if self._moment is not None:
            plain = self._moment.replace(tzinfo=None)
            for sep in ("T", " "):
                yield from (plain.isoformat(sep), f"{plain.isoformat(sep)}Z", self._moment.isoformat(sep))
        if self.text.lower() in ("true", "false"):
            yield self.text.capitalize()

    @cached_property
    def _moment(self) -> datetime | None:
        """The time that the text is. `20260101` is a number, and no date."""
        if self.number is not None:
            return None
        with suppress(ValueError, OverflowError):
            return as_utc(datetime.fromisoformat(self.text)).astimezone(UTC)
        return None

    @cached_property
    def _infinity(self) -> float | None:
        """The value of a float that is no finite number."""
        with suppress(ValueError):
            number = float(self.text)
            return None if Decimal(number).is_finite() else number
        return None


def _texts(text: str) -> Iterator[str]:
    """Yield other ways to write the same text: an ID in lower case, bytes as Penstock writes them."""
    if text.count("-") == _DASHES:
        with suppress(ValueError):
            yield str(uuid.UUID(text))
    if _HEX_BYTES.fullmatch(text):
        raw = bytes.fromhex(text.removeprefix(_HEX))
        with suppress(UnicodeDecodeError):
            if not raw.decode().startswith(_HEX):
                yield raw.decode()
        yield f"{_HEX}{raw.hex()}"
    if text.startswith(_HEX):
        yield f"{_HEX}{text.encode().hex()}"
