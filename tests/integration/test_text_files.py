"""Text files are staged once a run. A bad row is a refused row, counted and kept, and the others are scored."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import MalformedRows
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import find_run, validations_of
from penstock.settings import Settings
from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import view_rows
from tests.driver import Driver
from tests.shop import Place

SPEC = """
name: card-risk
interval: {{column: created_at, grain: 1d, start: 2026-01-01}}
sources:
  payments:
    kind: files
    path: "{folder}/{{interval_start:%Y-%m-%d}}.{kind}"
    format: {kind}
    key: [payment_id]
    max_malformed: {limit}
    stray: {stray}
model: card-risk@champion
destination: {{connection: warehouse, table: card_risk_scores, keep: [amount, country]}}
quarantine_limit: 0.5
partition_rows: 40
"""
DAY_1, DAY_2, DAY_3 = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3))
HEADER = "payment_id,amount,items,country,first,created_at"


def row(number: int, day: int = 1, kind: str = "csv") -> str:
    values = {
        "payment_id": number,
        "amount": 10.5 + number,
        "items": 2,
        "country": "DE",
        "first": True,
        "created_at": f"2026-01-{day:02} 10:00:{number % 60:02}",
    }
    return json.dumps(values) if kind == "json" else ",".join(map(str, values.values()))


@pytest.fixture
def days(make_place: Callable[..., Place], tmp_path: Path) -> "Days":
    return Days(make_place(days=1, a_day=50), tmp_path / "days")


class Days:
    """A pipeline that reads one file a day."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder
        folder.mkdir()

    def write(self, day: int, lines: list[str], kind: str = "csv") -> Path:
        file = self.folder / f"2026-01-{day:02}.{kind}"
        file.write_text("\n".join([*([HEADER] if kind == "csv" else []), *lines, ""]))
        return file

    def driver(self, kind: str = "csv", limit: float = 0.05, stray: str = "note", more: str = "") -> Driver:
        text = SPEC.format(folder=self.folder, kind=kind, limit=limit, stray=stray) + more
        self.place.spec.write_text(text)
        return Driver(parse_pipeline(text.encode(), "x"), connect, self.place.registry)

    @property
    def keys(self) -> list[int]:
        return [found[0] for found in view_rows(self.place.warehouse)]


BAD = {
    "a ragged line": ("csv", "7,5,2,DE", "4 fields instead of 6"),
    "a date that is none": ("csv", "7,5,2,DE,True,0000-00-00", "`created_at`: does not fit the type timestamp iso:"),
    "a text among numbers": (
        "csv",
        "7,NA?,2,DE,True,2026-01-02 10:00:00",
        "`amount`: does not fit the type number: 'NA?'",
    ),
    "a quote that stays open": ("csv", '7,5,2,"DE,True,2026-01-02 10:00:00', "a quote that is not closed"),
    "broken JSON": ("json", '{"payment_id": 7, ', "no JSON"),
    "JSON that is no object": ("json", "[7]", "no JSON object"),
    "a text among JSON numbers": ("json", '{"payment_id": 7, "amount": "x"}', "`amount`: does not fit"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_row_is_refused_alone_and_kept_with_file_line_and_text(days: Days, bad: str) -> None:
    kind, line, reason = BAD[bad]
    days.write(1, [row(n, 1, kind).replace(",DE,", ',"DE",') for n in range(100, 200)], kind)
    file = days.write(2, [row(n, 2, kind) if n != 250 else line for n in range(200, 300)], kind)

    done = days.driver(kind).run(DAY_3)

    assert done.count("publish") == 2, done
    assert days.keys == [n for n in range(100, 300) if n != 250]
    [refused] = quarantined_rows(days.place.warehouse)
    number = 52 if kind == "csv" else 51
    assert json.loads(refused.key) == {"file": str(file), "line": number}
    assert json.loads(refused.row) == {"file": str(file), "line": number, "text": line}
    assert refused.reasons[0].startswith(reason)
    run = find_run(days.place.warehouse, refused.run_id)
    assert (run.rows_extracted, run.rows_scored, run.rows_quarantined) == (100, 99, 1)
    [found] = [v for v in validations_of(days.place.warehouse, run.run_id) if v.expectation == "max_malformed"]
    assert (found.evaluated, found.unexpected) == (100, 1)


def test_too_many_bad_rows_halt_with_the_first_reason_and_line_and_are_kept(days: Days) -> None:
    file = days.write(1, [row(n) for n in range(100, 110)] + ["1,2", "TOTAL,3"])

    done = days.driver().run(DAY_2)

    assert "halted" in done[-1]
    assert "2 of 12 rows cannot be read" in done[-1]
    assert f"line 12 of {file}: 2 fields instead of 6" in done[-1]
    assert days.keys == []
    kept = quarantined_rows(days.place.warehouse)
    assert [json.loads(refused.row)["text"] for refused in kept] == ["1,2", "TOTAL,3"]


def test_the_text_of_a_refused_row_is_not_kept_beside_private_columns(days: Days) -> None:
    days.write(1, [row(n) for n in range(100, 199)] + ["secret,1"])
    driver = days.driver()
    source = driver.pipeline.sources["payments"].model_copy(update={"private": {"items": "drop"}})
    pipeline = driver.pipeline.model_copy(update={"sources": {"payments": source}})

    Driver(pipeline, connect, driver.registry).run(DAY_2)

    [refused] = quarantined_rows(days.place.warehouse)
    assert set(json.loads(refused.row)) == {"file", "line"}
    assert "secret" not in str(refused)
