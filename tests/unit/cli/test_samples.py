"""Which interval `penstock check` samples."""

from datetime import datetime

import pytest

from penstock.cli.check.samples import newest_interval
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC

LINE = "interval: {column: created_at, grain: 1d, start: 2026-01-01T00:00:00Z, lookback: 3}"


@pytest.mark.parametrize(
    ("interval", "now", "label"),
    [
        ("grain: 1d, start: 2026-01-01", "2026-03-05T12:00Z", "2026-03-04 → 03-05"),
        ("grain: month, start: 2026-01-01", "2026-03-05T12:00Z", "2026-02-01 → 03-01"),
        ("grain: month, start: 2026-01-01", "2025-03-05T12:00Z", "2026-01-01 → 02-01"),
        ("grain: 1d, timezone: Europe/Berlin, start: 2026-01-01", "2026-03-29T22:00Z", "2026-03-29 → 03-30"),
        ("grain: 1d, timezone: Europe/Berlin, start: 2026-01-01", "2026-03-29T21:00Z", "2026-03-28 → 03-29"),
        ("grain: week, first_day: sunday, start: 2026-01-04", "2026-01-20T00:00Z", "2026-01-11 → 01-18"),
        ("grain: 1d, timezone: Pacific/Apia, start: 2011-12-01", "2011-12-30T11:00Z", "2011-12-29 → 12-31"),
    ],
)
def test_the_newest_due_interval_follows_the_calendar(interval: str, now: str, label: str) -> None:
    assert LINE in SPEC
    pipeline = parse_pipeline(SPEC.replace(LINE, f"interval: {{column: created_at, {interval}}}").encode(), "x")
    newest = newest_interval(pipeline, datetime.fromisoformat(now))
    assert newest is not None
    assert newest.label == label
