"""Times of logs: epochs, times without a year or a zone, and times that cannot be right."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import ImplausibleTimes, SpecError
from penstock.interval import DataInterval
from penstock.sources.logs.files import KnownFile, LineBatch
from penstock.sources.logs.formats import compile_format
from penstock.sources.logs.plausible import read_times
from penstock.sources.logs.times import read_epoch
from penstock.sources.logs.zones import LocalZone
from penstock.spec.sources import LogSource

REGEX = r"(?P<time>[^|]*)\|(?P<text>.*)"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def source(format_: Any = None, **keys: Any) -> LogSource:
    return LogSource.model_validate({"kind": "log", "path": "x", "format": format_ or {"regex": REGEX}, **keys})


def batch(lines: list[str], seen_at: datetime, start: int = 0) -> LineBatch:
    file = KnownFile("a", "/logs/app.log", "", 0, 0, "", 0, "", complete=False)
    no = pa.array([False] * len(lines))
    offsets = pa.array(np.arange(start, start + len(lines)), pa.int64())
    return LineBatch(file, start, offsets, pa.array(lines, pa.string()), seen_at, no, no)


def read(spec: LogSource, *lines: str, seen_at: str = "2026-01-05", after: datetime | None = None) -> list[str | None]:
    moment = datetime.fromisoformat(seen_at).replace(tzinfo=UTC)
    times = read_times("app", spec, compile_format(spec), batch(list(lines), moment), after).to_pylist()
    return [time and time.replace(tzinfo=None).isoformat() for time in times]


# --- epochs ----------------------------------------------------------------------------------------------------------

MOMENT = datetime(2026, 1, 15, 10, 0, 0, 123457, UTC)
MICROS = (MOMENT - EPOCH) // timedelta(microseconds=1)
WRITTEN = {
    "epoch_s": f"{MICROS // 10**6}.123457",
    "epoch_ms": f"{MICROS // 1000}.457",
    "epoch_us": str(MICROS),
    "epoch_ns": f"{MICROS}123",
}


@pytest.mark.parametrize("unit", list(WRITTEN))
@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("kind", ["regex", "json number", "json text"])
def test_epoch_times_are_read_in_each_unit(unit: str, stated: bool, kind: str) -> None:
    text = WRITTEN[unit]
    time_format = unit if stated else None
    if kind == "regex":
        spec, line = source({"regex": REGEX, "time_format": time_format}), f"{text}|x"
    else:
        spec = source("json", time={"key": "at", "format": time_format})
        line = f'{{"at": {text}}}' if kind == "json number" else f'{{"at": "{text}"}}'
    if kind == "json text" and not stated:
        assert read(spec, line) == [None]  # a number in quotes is a time only if that is stated
    else:
        assert read(spec, line, seen_at="2026-02-01") == [MOMENT.replace(tzinfo=None).isoformat()]


def test_a_float_in_exponent_form_and_a_number_beyond_all_units_are_read_or_refused() -> None:
    texts = pa.array(["1.768471200123e+18", "1.7e9", "9300000000000000000", "1e400", "x", None, "-1.5"])
    found = [time and time.isoformat() for time in read_epoch(texts).to_pylist()]
    assert found == [
        "2026-01-15T10:00:00.123000+00:00",
        "2023-11-14T22:13:20+00:00",
        None,
        None,
        None,
        None,
        "1969-12-31T23:59:58.500000+00:00",
    ]


@given(st.integers(0, 4 * 10**15))
@settings(max_examples=300, deadline=None)
def test_every_microsecond_is_read_exactly(micros: int) -> None:
    text = f"{micros // 10**6}.{micros % 10**6:06d}"
    [time] = read_epoch(pa.array([text]), "epoch_s").cast(pa.int64()).to_pylist()
    assert time == micros


# --- years -----------------------------------------------------------------------------------------------------------

YEARLESS = {"regex": REGEX, "time_format": "%b %d %H:%M:%S"}


@pytest.mark.parametrize("format_", [YEARLESS, "syslog"])
def test_times_without_a_year_are_right_across_new_year(format_: Any) -> None:
    ending = "|x" if format_ is YEARLESS else " h app: x"
    lines = ["Dec 30 10:00:00", "Dec 31 23:59:59", "Jan 01 00:00:00", "Jan 04 10:00:00"]
    expected = ["2025-12-30T10:00:00", "2025-12-31T23:59:59", "2026-01-01T00:00:00", "2026-01-04T10:00:00"]
    assert read(source(format_), *[line + ending for line in lines]) == expected
    stated = source(format_, year=2019)
    assert [t and t[:4] for t in read(stated, *[line + ending for line in lines])] == ["2019", "2019", "2020", "2020"]


def test_a_stated_year_goes_on_from_the_line_before_in_the_next_batch() -> None:
    spec = source(YEARLESS, year=2015)
    after = datetime(2016, 12, 31, 23, tzinfo=UTC)
    assert read(spec, "Dec 31 23:30:00|x", "Jan 01 00:00:00|x", "Dec 31 23:59:00|late", after=after) == [
        "2016-12-31T23:30:00",
        "2017-01-01T00:00:00",
        "2016-12-31T23:59:00",
    ]


def test_a_stated_year_has_a_leap_day_only_if_it_is_one() -> None:
    assert read(source(YEARLESS, year=2024), "Feb 29 10:00:00|x") == ["2024-02-29T10:00:00"]
    assert read(source(YEARLESS, year=2023), "Feb 28 10:00:00|x", "Feb 29 10:00:00|x")[1] is None


@pytest.mark.parametrize(
    "days",
    [
        [
            "Jan 20",
            "Feb 20",
            "Jul 20",
            "Dec 20",
            "Jan 20",
            "Feb 10",
        ],  # a year and more, so the first days read as this year's
        ["Feb 28", "Feb 29", "Mar 01"],  # 2024, but copied in 2026
        ["Jan 02", "Feb 29"],
    ],
)
@pytest.mark.parametrize("format_", [YEARLESS, "syslog"])
def test_a_file_whose_years_its_time_does_not_tell_halts_and_names_the_key(days: list[str], format_: Any) -> None:
    ending = "|x" if format_ is YEARLESS else " h app: x"
    lines = [f"{day} 10:00:00{ending}" for day in days]
    seen_at = "2026-03-05" if "29" in "".join(days) else "2026-02-15"
    with pytest.raises(ImplausibleTimes, match=r"app\.log, line at byte \d+.*has no year.*set `year`"):
        read(source(format_), *lines, seen_at=seen_at)
    assert None not in read(source(format_, year=2024), *lines, seen_at=seen_at)


def test_a_years_pause_is_no_reason_to_halt_and_a_clock_that_was_wrong_is_none() -> None:
    spec = source(YEARLESS)
    assert read(spec, "Jan 01 10:00:00|x", "Nov 20 10:00:00|x", seen_at="2025-11-20")[1] == "2025-11-20T10:00:00"
    lines = ["Nov 20 10:00:00|x", "Jan 01 00:00:03|boot", "Nov 20 10:00:00|x"]
    assert len(read(spec, *lines, seen_at="2025-11-20")) == 3


def test_dated_lines_may_go_back_as_they_like() -> None:
    lines = ["2025-11-20T10:00:00Z|x", "2024-02-29T10:00:00Z|x"]
    assert None not in read(source(), *lines)


# --- far times -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_format", "text"),
    [
        ("epoch_us", WRITTEN["epoch_ms"]),  # 1970
        ("epoch_s", "2051222400"),  # 2035
        ("epoch_s", WRITTEN["epoch_ms"]),
        ("epoch_ms", WRITTEN["epoch_ns"]),
        ("epoch_ns", "9150000000000000000"),  # 2259
        ("%Y-%m-%d", "1900-01-01"),
        ("%Y-%m-%d", "2262-04-11"),
        (None, "20260115"),  # a date that was read as an epoch
    ],
)
def test_a_source_whose_times_are_not_those_of_a_log_halts(time_format: str | None, text: str) -> None:
    spec = source({"regex": REGEX, "time_format": time_format})
    with pytest.raises(ImplausibleTimes, match=r"source `app`: /logs/app\.log, line at byte 0: the time \d{4}-"):
        read(spec, *[f"{text}|x"] * 5)


def test_a_few_times_far_from_their_neighbours_are_malformed() -> None:
    good = [f"2026-01-0{day}T00:00:00Z|x" for day in (1, 2, 3, 4)]
    for far in ("1970-01-01", "1900-01-01", "2262-04-11", "1999-01-01"):
        found = read(source(), *good[:2], f"{far}T00:00:00Z|x", *good[2:])
        assert [time is None for time in found] == [False, False, True, False, False]


def test_old_archives_and_long_pauses_are_no_reason_to_halt() -> None:
    assert None not in read(source(), *["1995-07-01T00:00:00Z|x"] * 3)
    assert None not in read(source(), "2015-01-01T00:00:00Z|x", "2015-01-01T00:00:01Z|x", "2026-01-01T00:00:00Z|x")


# --- zones -----------------------------------------------------------------------------------------------------------

BERLIN = {"timezone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("format_", "lines"),
    [
        ({"regex": REGEX}, ["2025-07-01 12:00:00|x", "2025-12-01 12:00:00|x", "2025-12-01T12:00:00+00:00|x"]),
        (
            {"regex": REGEX, "time_format": "%d.%m.%Y %H:%M"},
            ["01.07.2025 12:00|x", "01.12.2025 12:00|x", "01.12.2025 13:00|x"],
        ),
        ("syslog", ["Jul  1 12:00:00 h a: m", "Dec  1 12:00:00 h a: m", "2025-12-01T12:00:00Z h a: m"]),
        ("json", ['{"ts": "2025-07-01 12:00"}', '{"ts": "2025-12-01 12:00"}', '{"ts": "2025-12-01T12:00Z"}']),
    ],
)
def test_times_without_an_offset_are_local_times_of_the_zone(format_: Any, lines: list[str]) -> None:
    found = read(source(format_, **BERLIN), *lines)
    assert found == ["2025-07-01T10:00:00", "2025-12-01T11:00:00", "2025-12-01T12:00:00"]


def test_a_declared_timestamp_is_local_too() -> None:
    spec = source("json", columns={"until": "timestamp"}, **BERLIN)
    parser = compile_format(spec)
    lines = pa.array(['{"ts": "2025-07-01 12:00", "until": "2025-07-01 14:00"}'])
    row = parser.parse(lines, parser.times(lines, EPOCH)).to_pylist()[0]
    assert row["until"] == datetime(2025, 7, 1, 12, tzinfo=UTC)


def test_a_time_that_the_clock_jumps_over_is_malformed() -> None:
    assert read(source(**BERLIN), "2025-03-30 01:59:59|x", "2025-03-30 02:30:00|x", "2025-03-30 03:00:00|x") == [
        "2025-03-30T00:59:59",
        None,
        "2025-03-30T01:00:00",
    ]


def test_a_time_that_comes_twice_is_the_first_and_its_hour_is_known() -> None:
    assert read(source(**BERLIN), "2025-10-26 02:30:00|x") == ["2025-10-26T00:30:00"]
    later = compile_format(source(**BERLIN), second=True).times(pa.array(["2025-10-26 02:30:00|x"]), EPOCH)
    assert later.to_pylist() == [datetime(2025, 10, 26, 1, 30, tzinfo=UTC)]
    year = DataInterval(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    hour = (datetime(2025, 10, 26, 0, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC))
    assert LocalZone("Europe/Berlin").repeated(year) == [hour]
    assert LocalZone("Asia/Tokyo").repeated(year) == []


ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])


@given(st.datetimes(datetime(1991, 1, 1), datetime(2060, 1, 1)), ZONES)  # noqa: DTZ001  local times
@settings(max_examples=300, deadline=None)
def test_local_times_are_those_of_the_standard_library(local: datetime, name: str) -> None:
    micros = (local.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    utc, exist = LocalZone(name).to_utc(np.array([micros]))
    aware = local.replace(tzinfo=ZoneInfo(name), fold=0)  # of a repeated hour the first one
    assert EPOCH + timedelta(microseconds=int(utc[0])) == aware.astimezone(UTC)
    assert bool(exist[0]) == (aware.astimezone(UTC).astimezone(ZoneInfo(name)).replace(tzinfo=None) == local)


# --- what cannot work ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_", "keys", "problem"),
    [
        ({"regex": REGEX, "time_format": "%H:%M:%S"}, {}, "needs a month and a day"),
        ({"regex": REGEX, "time_format": "%j %H:%M"}, {}, "needs a month and a day"),
        ({"regex": REGEX, "time_format": "%Y-%m-%d"}, {"year": 2016}, "have a year; leave `year` out"),
        ({"regex": REGEX}, {"year": 2016}, "have a year; leave `year` out"),
        ("combined", {"timezone": "Europe/Berlin"}, "have an offset; leave `timezone` out"),
        ({"regex": REGEX, "time_format": "epoch_s"}, {"timezone": "Europe/Berlin"}, "leave `timezone` out"),
        ("syslog", {"time": {"key": "t"}}, "only lines of `format: json` have keys"),
        ("json", {"time": {"key": "t", "format": "%Q"}}, "strptime does not know"),
    ],
)
def test_a_time_that_cannot_be_read_is_refused(format_: Any, keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        compile_format(source(format_, **keys))
