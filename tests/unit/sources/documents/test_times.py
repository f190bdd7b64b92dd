"""The time of a document, and which documents a span of time has."""

import glob
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.interval import DataInterval
from penstock.object_stores import matches_pattern
from penstock.sources.documents.times import DocumentTimes, modified_at
from penstock.spec.sources import FilesSource

DAY = DataInterval(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC))


def source(path: str, format_: str = "text", **more: object) -> FilesSource:
    return FilesSource.model_validate({"kind": "files", "path": path, "format": format_, **more})


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*.txt",
        "?.txt",
        "[ab].txt",
        "[!a].txt",
        "**/*.txt",
        "**/*",
        "in/*",
        "in/**/b*",
        "[[]x].txt",
        "a+b*",
        "[]x]*",
        "[&&a]*",
    ],
)
def test_a_pattern_matches_what_glob_finds(pattern: str, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c", "[x].txt", "a+b.txt", "in/b.txt", "in/deep/b.txt", "in/deep/c.txt", "ü.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    every = {str(path) for path in tmp_path.rglob("*") if path.is_file()}
    root = glob.escape(str(tmp_path))

    found = {path for path in glob.glob(f"{root}/{pattern}", recursive=True) if Path(path).is_file()}
    matched = {path for path in every if matches_pattern(path, f"{root}/{pattern}")}

    assert matched == found


@pytest.mark.parametrize(
    ("path", "file", "day"),
    [
        ("n/{interval_start:%Y-%m-%d}/*", "n/2026-01-05/a", 5),
        ("n/{interval_start:%Y-%m-%d}/*", "n/2026-01-03/a", 3),
        ("n/{interval_start:%Y/%m/%d}/x_{interval_start:%d}*.txt", "n/2026/01/04/x_04.txt", 4),
        ("n/{interval_end:%Y-%m-%d}.txt", "n/2026-01-05.txt", 4),
    ],
)
def test_a_document_has_the_start_of_the_span_that_its_path_contains(path: str, file: str, day: int) -> None:
    times = DocumentTimes.of_interval(source(path, every="1d", lookback="3d"), DAY, "UTC")
    assert times.find(file, 0) == datetime(2026, 1, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("format_", "text", "zone", "expected"),
    [
        ("%Y%m%dT%H%M", "20260105T1030", "UTC", datetime(2026, 1, 5, 10, 30, tzinfo=UTC)),
        ("%Y%m%dT%H%M", "20260105T1030", "Europe/Berlin", datetime(2026, 1, 5, 9, 30, tzinfo=UTC)),
        ("%Y%m%dT%H%M%z", "20260105T1030-0100", "Europe/Berlin", datetime(2026, 1, 5, 11, 30, tzinfo=UTC)),
        ("%Y-%m-%d", "2026-01-05", "UTC", datetime(2026, 1, 5, tzinfo=UTC)),
        ("epoch_s", "1767609000", "UTC", datetime(2026, 1, 5, 10, 30, tzinfo=UTC)),
        ("epoch_ns", "1767609000000001999", "UTC", datetime(2026, 1, 5, 10, 30, 0, 1, tzinfo=UTC)),
        ("%Y%m%dT%H%M", "20260329T0230", "Europe/Berlin", None),
        ("%Y%m%dT%H%M", "20261025T0230", "Europe/Berlin", None),
        ("%Y%m%dT%H%M", "20260230T0230", "UTC", None),
        ("epoch_s", "9" * 30, "UTC", None),
    ],
)
def test_a_time_in_the_path_is_read_exactly_or_not_at_all(
    format_: str, text: str, zone: str, expected: datetime | None
) -> None:
    documents = {"time": {"path": "^(.*)_", "format": format_}}
    for kind in ("text", "blob"):
        spec = source("n/*", kind, documents=documents, timezone=zone)
        assert DocumentTimes(spec).find(f"n/{text}_x.txt", 0) == expected


def test_the_time_of_a_file_is_cut_to_the_microsecond() -> None:
    assert modified_at(1_767_609_000_000_001_999) == datetime(2026, 1, 5, 10, 30, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["text", "blob"])
def test_a_span_has_its_start_and_not_its_end(kind: str, tmp_path: Path) -> None:
    files = []
    for number, at in enumerate(
        (DAY.start - timedelta(microseconds=1), DAY.start, DAY.end - timedelta(seconds=1), DAY.end)
    ):
        files.append(tmp_path / str(number))
        files[-1].touch()
        stamp = int(at.timestamp()) * 10**9 + at.microsecond * 1000
        os.utime(files[-1], ns=(stamp, stamp))

    times = DocumentTimes(source(f"{tmp_path}/*", kind))

    assert times.select(files, "modified", DAY.start, DAY.end) == files[1:3]
    assert times.select(files, "time", None, DAY.end) == files[:3]
    assert times.select([*files, tmp_path / "gone"], "time", DAY.end, None) == files[3:]
