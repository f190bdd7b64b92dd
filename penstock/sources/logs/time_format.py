"""The times of one source: how they are written, their year and their zone."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute

from penstock.sources.logs.times import EPOCH_UNITS, has_year, read_epoch, read_iso, read_rfc3164, read_strptime
from penstock.sources.logs.years import Years
from penstock.sources.logs.zones import LocalZone

pc: Any = pyarrow.compute  # the stubs allow neither strings nor NULL as operands


@dataclass(frozen=True)
class TimeFormat:
    """Reads texts as times. Without a format they are ISO 8601, or numbers since 1970."""

    format: str | None = None
    """A `strptime` format, or one of `EPOCH_UNITS`."""
    first_year: int | None = None
    """For times without a year: that of a file's first line. Without it the file's time tells the year."""
    local: LocalZone | None = None
    """Zone of times that have none. Without it they are UTC."""

    def read(self, texts: Any, seen_at: datetime, after: datetime | None) -> pa.TimestampArray:
        """Return UTC times, or NULL.

        Args:
            texts: the times of lines in the order of their file.
            seen_at: when the file was last written.
            after: the time of the file's line before them, if lines were read before.
        """
        if self.format is None:
            times: pa.TimestampArray = pc.coalesce(read_iso(texts, self.local), read_epoch(texts))
            return times
        if self.format in EPOCH_UNITS:
            return read_epoch(texts, self.format)
        years = None if has_year(self.format) else self.years(seen_at, after)
        return read_strptime(texts, self.format, years, self.local)

    def read_syslog(self, texts: Any, seen_at: datetime, after: datetime | None) -> pa.TimestampArray:
        """Read ISO 8601 times, and RFC 3164 times, which have no year."""
        old = read_rfc3164(texts, self.years(seen_at, after), self.local)
        times: pa.TimestampArray = pc.coalesce(read_iso(texts, self.local), old)
        return times

    def years(self, seen_at: datetime, after: datetime | None) -> Years:
        zone = ZoneInfo(self.local.name) if self.local else UTC
        last = after.astimezone(zone).replace(tzinfo=UTC) if after else None
        return Years(seen_at, self.first_year, last)
