"""Types of text columns are judged on all rows, and never change what a text says."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.errors import AmbiguousDate, AmbiguousNumber
from penstock.sources.column_types import ColumnType, identifier
from penstock.sources.text.dialect import SHOWN_BY_ALL_ROWS, Dialect
from penstock.sources.text.guess_types import GuessedTypes, guess_types
from penstock.sources.text.raw_rows import copy_rows

CSV = Dialect("csv", delimiter=";", undecided=SHOWN_BY_ALL_ROWS)
JSON = Dialect("json")


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("duckdb:///:memory:", poolclass=StaticPool)
    with engine.connect() as opened:
        opened.exec_driver_sql("SET TimeZone='UTC'")
        yield opened
    engine.dispose()


def types_of(
    connection: sa.Connection, text: str, dialect: Dialect = CSV, known: Mapping[str, ColumnType] | None = None
) -> GuessedTypes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a"
        file.write_text(text)
        raw = copy_rows("rows", [file], dialect, Path(folder))
        return guess_types(connection, "rows", raw, dialect, known or {})


def kind(connection: sa.Connection, values: list[str], **more: Any) -> str:
    return str(types_of(connection, "\n".join(["x;y", *(f"{v};-" for v in values)]), replace(CSV, **more)).types["x"])


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["1", "-5", "+5", "2.75", ".5", "5."], "number"),
        (["1e-05", "1.5E5", "inf", "-Infinity", "nan", "3"], "number"),
        (["12345678901234567890", "12345678901234567891"], "number"),
        (["1E5", "2E5"], "text"),
        (["5", "1E5"], "text"),
        (["0x1F", "0x20"], "text"),
        (["007", "008"], "text"),
        (["007", "1"], "text"),
        (["+491701234567", "+491701234568"], "text"),
        (["nan", "inf"], "text"),
        (["yes", "no"], "text"),
        (["1", "0", "true"], "text"),
        (["true", "False", "TRUE"], "bool"),
        (["2026-01-03", "2026-01-04"], "date iso"),
        (["2026-01-03", "2026-01-04 10:00"], "timestamp iso"),
        (["2026-01-03", "2026-02-30"], "text"),
        (["20260103", "20260104"], "number"),
        (["24/02/2026", "03/02/2026"], "date %d/%m/%Y"),
        (["24/02/2026", "02/25/2026"], "text"),
        (["10:30", "11:00"], "text"),
        (["", ""], "nothing"),
    ],
)
def test_a_type_is_what_all_texts_say(connection: sa.Connection, values: list[str], found: str) -> None:
    assert kind(connection, values) == found


def test_a_type_holds_below_the_sample(connection: sa.Connection) -> None:
    assert kind(connection, ["1"] * 20_480 + ["k"]) == "text"
    assert kind(connection, ["true"] * 20_480 + ["1"]) == "text"
    assert kind(connection, ["24/02/2026"] * 20_480 + ["02/25/2026"]) == "text"


def test_a_date_with_two_readings_shows_both(connection: sa.Connection) -> None:
    with pytest.raises(AmbiguousDate) as caught:
        kind(connection, ["03/01/2026", "04/02/2026"])

    assert caught.value.formats == ("%d/%m/%Y", "%m/%d/%Y")
    assert kind(connection, ["03/01/2026"], date_format="%m/%d/%Y") == "date %m/%d/%Y"


@pytest.mark.parametrize(
    ("x", "y", "marks"),
    [
        (["1.5", "2"], ["1", "2"], (".", "")),
        (["1,5", "2"], ["1", "2"], (",", "")),
        (["1.250", "2.500"], ["1,5", "2"], (",", ".")),
        (["1,250.5", "2"], ["1,250", "3"], (".", ",")),
        (["1'250.5", "2"], ["1", "3"], (".", "'")),
        (["1 250,5", "2"], ["1", "3"], (",", " ")),
        (["0.125", "0.250"], ["1", "3"], (".", "")),
    ],
)
def test_the_marks_of_numbers_are_those_that_read_all(
    connection: sa.Connection, x: list[str], y: list[str], marks: tuple[str, str]
) -> None:
    found = types_of(connection, "x;y\n" + "".join(f"{a};{b}\n" for a, b in zip(x, y, strict=True)))

    assert (found.dialect.decimal, found.dialect.thousands) == marks
    assert {str(k) for k in found.types.values()} == {"number"}


def test_a_mark_with_two_meanings_shows_both(connection: sa.Connection) -> None:
    with pytest.raises(AmbiguousNumber) as caught:
        kind(connection, ["1.250", "2.500"])

    assert [each.shown for each in caught.value.readings] == ["`2.500`", "`2500`"]
    assert kind(connection, ["1.250"], decimal=",", thousands=".", undecided=("null",)) == "number"


def test_a_mark_that_no_number_shows_stays_open(connection: sa.Connection) -> None:
    found = types_of(connection, "x;y\n1;a\n2;b\n")

    assert "decimal" not in found.dialect.facts()
    known = {"x": ColumnType("number")}
    later = types_of(connection, "x;y\n1,5;a\n", replace(CSV, undecided=found.dialect.undecided), known)
    assert later.dialect.decimal == ","


def test_texts_for_missing_values_are_proved_by_numbers(connection: sa.Connection) -> None:
    found = types_of(connection, "x;y;z\n1;NA;\n?;b;None\n")

    assert found.dialect.null == ("", "?")
    assert {c: str(k) for c, k in found.types.items()} == {"x": "number", "y": "text", "z": "text"}
    assert found.unclear == {"NA": ("y",), "None": ("z",)}


def test_json_values_have_the_types_of_json(connection: sa.Connection) -> None:
    text = '{"n": 1, "b": true, "m": true, "s": "5", "d": "2026-01-03", "o": {"a": 1}, "e": null}\n'
    text += '{"n": 2.75, "b": false, "m": 1, "s": "x", "d": "2026-01-04", "o": {"a": 2}, "e": null}\n'

    assert {c: str(k) for c, k in types_of(connection, text, JSON).types.items()} == {
        "n": "number", "b": "bool", "m": "text", "s": "text", "d": "date iso", "o": "text", "e": "nothing",
    }  # fmt: skip


# --- time zones ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "text", "moment"),
    [
        ("Europe/Berlin", "2026-07-01 12:00", datetime(2026, 7, 1, 10, tzinfo=UTC)),
        ("Europe/Berlin", "2026-01-01", datetime(2025, 12, 31, 23, tzinfo=UTC)),
        ("Europe/Berlin", "2026-07-01T12:00Z", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("Europe/Berlin", "2026-10-25T02:30+01:00", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        ("Europe/Berlin", "2026-10-25 01:59:59", datetime(2026, 10, 24, 23, 59, 59, tzinfo=UTC)),
        ("Europe/Berlin", "2026-10-25 03:00", datetime(2026, 10, 25, 2, tzinfo=UTC)),
        ("Europe/Berlin", "2026-10-25 02:30", None),
        ("Europe/Berlin", "2026-10-25 02:00", None),
        ("Europe/Berlin", "2026-03-29 02:30", None),
        ("Europe/Berlin", "2026-03-29 03:00", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("Australia/Lord_Howe", "2026-04-05 01:45", None),
        ("Australia/Lord_Howe", "2026-10-04 02:15", None),
        ("UTC", "2026-10-25 02:30", datetime(2026, 10, 25, 2, 30, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("format_", ["iso", "%Y-%m-%d %H:%M"])
def test_a_local_time_is_read_if_its_clock_shows_it_once(
    connection: sa.Connection, zone: str, text: str, moment: datetime | None, format_: str
) -> None:
    if format_ != "iso" and len(text) != 16:
        return
    kind_ = ColumnType("timestamp", format_, zone)
    column = identifier("t")
    fitting = f"case when {kind_.fits(column)} then {kind_.strict(column)} end"
    query = f"select {kind_.fits(column)}, {fitting} from (select '{text}' as t)"
    fits, value = connection.exec_driver_sql(query).one()

    assert bool(fits) is (moment is not None)
    assert value == moment


def test_a_refused_local_time_names_the_zone() -> None:
    assert ColumnType("timestamp", "iso", "Europe/Berlin").expected == (
        "timestamp iso, a time that clocks in Europe/Berlin show once"
    )
    assert ColumnType("timestamp", "iso").expected == "timestamp iso"
