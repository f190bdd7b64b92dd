"""Documents as a source: each file is a row, chosen by its time, and a bad one is refused alone."""

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.check.source import inspect_source
from penstock.database.connections import Connector
from penstock.errors import FilesChanged, SettingsError
from penstock.interval import DataInterval
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import find_run, list_runs, validations_of
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.row_key import RowKey
from penstock.sources import open_source, read_file_states
from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.erasure import ErasureRequest, erase
from tests.conftest import DIALECTS
from tests.driver import Driver, lapse_leases
from tests.shop import Place
from tests.unit.sources.documents.test_reading import pdf

PRIMARY = """
name: card-risk
interval: {{column: {column}, grain: 1d, start: 2026-01-01}}
sources:
  letters:
    kind: files
    path: "{path}"
    format: {kind}
    max_malformed: {limit}
    {more}
features: |
  select
    path,
    cast(length(text) as double) as amount,
    term_counts(text, ['refund'])['refund'] as items,
    case when contains_any(text, ['Berlin']) then 'DE' else 'FR' end as country,
    hash_bucket(path, 2) = 0 as first
  from letters
model: card-risk@champion
destination: {{connection: warehouse, table: letter_scores, keep: [time, modified, amount, items, country]}}
quarantine_limit: 0.9
partition_rows: 4
"""
DAY_1, DAY_2, DAY_3, DAY_4 = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4))


class Letters:
    """A pipeline whose rows are letters."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder
        folder.mkdir()

    def write(self, name: str, data: str | bytes, at: datetime | None = None) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        if at is not None:
            os.utime(file, (at.timestamp(), at.timestamp()))
        return file

    def driver(
        self,
        path: str = "{interval_start:%Y-%m-%d}/*",
        column: str = "time",
        limit: float = 0.5,
        more: str = "",
        kind: str = "text",
    ) -> Driver:
        text = PRIMARY.format(path=f"{self.folder}/{path}", column=column, limit=limit, more=more, kind=kind)
        return self.read(text)

    def read(self, text: str) -> Driver:
        return Driver(parse_pipeline(text.encode(), "x"), connect, self.place.registry)

    def rows(self, columns: str = "path, amount", table: str = "letter_scores") -> list[tuple[Any, ...]]:
        import sqlalchemy as sa

        with self.place.warehouse.reading() as connection:
            return [tuple(row) for row in connection.execute(sa.text(f"select {columns} from {table} order by path"))]


@pytest.fixture
def letters(make_place: Callable[..., Place], tmp_path: Path, request: pytest.FixtureRequest) -> Letters:
    return Letters(make_place(warehouse=getattr(request, "param", "sqlite"), days=1, a_day=50), tmp_path / "in")


@pytest.mark.parametrize("letters", DIALECTS, indirect=True)
def test_each_document_is_a_row_with_its_path_as_the_key_in_every_warehouse(letters: Letters) -> None:
    letters.write("2026-01-01/a.txt", "Refund, refund! Berlin")
    letters.write("2026-01-01/b.html", "<p>No <b>refund</b> yet")
    letters.write("2026-01-01/ü' \".eml", "Subject: Refund\nContent-Type: text/plain\n\nplease")
    letters.write("2026-01-01/d.pdf", pdf("refund"))
    letters.write("2026-01-01/e.md", "")
    letters.write("2026-01-01/twin.txt", "Refund, refund! Berlin")
    letters.write("2026-01-02/a.txt", "the next day")
    driver = letters.driver()
    list(takewhile(lambda step: step != "load 2/2", driver.steps(DAY_2)))
    lapse_leases(letters.place.warehouse)

    assert driver.run(DAY_3).count("publish") == 2

    assert letters.rows("path, amount, items, country") == sorted(
        [
            ("2026-01-01/a.txt", 22.0, 2, "DE"),
            ("2026-01-01/b.html", 13.0, 1, "FR"),
            ("2026-01-01/d.pdf", 6.0, 1, "FR"),
            ("2026-01-01/e.md", 0.0, 0, "FR"),
            ("2026-01-01/twin.txt", 22.0, 2, "DE"),
            ("2026-01-01/ü' \".eml", 13.0, 1, "FR"),
            ("2026-01-02/a.txt", 12.0, 0, "FR"),
        ]
    )
    assert sorted(run.rows_scored or 0 for run in list_runs(letters.place.warehouse) if run.state == "published") == [
        1,
        6,
    ]


def test_a_bad_document_is_refused_alone_and_kept_with_its_path_reason_and_text(letters: Letters) -> None:
    for number in range(5):
        letters.write(f"2026-01-01/{number}.txt", "fine")
    latin = letters.write("2026-01-01/latin.txt", "für".encode("cp1252"))
    closed = letters.write("2026-01-01/closed.pdf", pdf("x", password="key"))
    photo = letters.write("2026-01-01/photo.txt", b"\x89PNG\r\n\x1a\n\0")
    odd = os.fsencode(letters.folder / "2026-01-01") + b"/n\xe9.txt"
    Path(os.fsdecode(odd)).write_text("fine")

    assert "publish" in letters.driver().run(DAY_2)

    kept = quarantined_rows(letters.place.warehouse)
    found = {json.loads(row.row)["file"]: (row.reasons[0], json.loads(row.row).get("text")) for row in kept}
    assert found == {
        str(latin): ("is not in the encoding utf-8: the byte 0xfc at 1", "f\\xfcr"),
        str(closed): ("is a PDF that needs a password", None),
        str(photo): ("is image/png, and text is read from plain text, HTML, mails (.eml) and PDF", None),
        f"{letters.folder}/2026-01-01/n\\xe9.txt": ("has a name that is not in UTF-8", None),
    }
    [run] = list_runs(letters.place.warehouse)
    assert (run.rows_extracted, run.rows_scored, run.rows_quarantined) == (9, 5, 4)
    [judged] = [v for v in validations_of(letters.place.warehouse, run.run_id) if v.expectation == "max_malformed"]
    assert (judged.evaluated, judged.unexpected) == (9, 4)


def test_too_many_bad_documents_halt_with_the_first_and_its_reason(letters: Letters) -> None:
    letters.write("2026-01-01/a.txt", "fine")
    bad = letters.write("2026-01-01/b.txt", b"\xff\xff\xff")

    [*_, halted] = letters.driver(limit=0.1).run(DAY_2)

    assert "1 of 2 documents cannot be read, and `max_malformed` is 10.00%" in halted
    assert f"The first is {bad}, which is not in the encoding utf-8" in halted
    assert [json.loads(row.key) for row in quarantined_rows(letters.place.warehouse)] == [{"file": str(bad)}]


@pytest.mark.parametrize("private", ["text: drop", "path: hash", "sender: drop"])
def test_the_text_of_a_refused_document_is_not_kept_beside_private_columns(
    letters: Letters, private: str, caplog: pytest.LogCaptureFixture
) -> None:
    letters.write("2026-01-01/a.txt", "fine")
    letters.write("2026-01-01/smith.txt", b"secret \xff")

    driver = letters.driver(more=f"private: {{{private}}}")
    driver = Driver(
        driver.pipeline, connect, driver.registry, MaskingPolicy(driver.pipeline.private_columns, b"s" * 16)
    )
    assert "publish" in driver.run(DAY_2)
    halted = letters.driver(limit=0, more=f"private: {{{private}}}")
    [*_, message] = Driver(
        halted.pipeline, connect, halted.registry, MaskingPolicy(driver.pipeline.private_columns, b"s" * 16)
    ).run(DAY_2)

    kept = quarantined_rows(letters.place.warehouse)
    shown = f"{kept} {message} {caplog.text}"
    assert kept
    assert "secret" not in shown
    assert ("smith" in shown) == ("path" not in private)


@pytest.mark.parametrize("is_private", [False, True])
@pytest.mark.parametrize("kind", ["text", "blob"])
def test_a_document_that_changes_after_planning_is_named_unless_its_path_is_private(
    letters: Letters, kind: str, is_private: bool
) -> None:
    file = letters.write("2026-01-01/smith.txt", "planned")
    pipeline = letters.driver(kind=kind, more="private: {path: hash}" if is_private else "").pipeline
    interval = DataInterval(DAY_1, DAY_2)
    connector = Connector(connect, ())
    files = read_file_states(pipeline, ["letters"], interval, connector)
    file.write_text("written")

    with pytest.raises(FilesChanged) as raised:
        open_source(pipeline, "letters", connector, files).read(interval)

    assert ("smith" in str(raised.value)) != is_private


@pytest.mark.parametrize("kind", ["text", "blob"])
def test_slices_are_the_same_rows_in_the_same_order_wherever_they_are_staged(
    letters: Letters, kind: str, tmp_path: Path
) -> None:
    for number in range(25):
        letters.write(f"2026-01-01/{number}.txt", "bad \xff".encode("latin-1") if number % 5 == 4 else f"text {number}")
    pipeline, interval = letters.driver(kind=kind).pipeline, DataInterval(DAY_1, DAY_2)
    files = read_file_states(pipeline, ["letters"], interval, Connector(connect, ()))

    def read(machine: str) -> list[list[str | None]]:
        reader = open_source(pipeline, "letters", Connector(connect, (), tmp_path / machine), files)
        plan = reader.plan(interval, 4)
        return [reader.read(interval, partition)["path"].to_pylist() for partition in plan.partitions]

    slices = read("one")
    assert max(map(len, slices)) == 4
    assert [path for paths in slices for path in paths] == sorted(
        f"2026-01-01/{n}.txt" for n in range(25) if kind == "blob" or n % 5 < 4
    )
    assert read("two") == slices


def test_a_document_whose_stated_time_is_outside_its_folder_is_stray(letters: Letters) -> None:
    letters.write("2026-01-01/20260101T10.txt", "in")
    letters.write("2026-01-01/20260107T10.txt", "out")
    time = 'documents: {time: {path: "/(.*)[.]", format: "%Y%m%dT%H"}}'

    assert "publish" in letters.driver(more=time).run(DAY_2)

    [run] = list_runs(letters.place.warehouse)
    [found] = [v for v in validations_of(letters.place.warehouse, run.run_id) if v.expectation == "stray: note"]
    assert (run.rows_extracted, found.unexpected) == (1, 1)


def test_a_pdf_without_pypdf_names_the_extra(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    letters.write("2026-01-01/a.pdf", pdf("text"))
    monkeypatch.setitem(sys.modules, "pypdf", None)

    with pytest.raises(SettingsError, match="Install Penstock's extra `documents`"):
        open_source(letters.driver().pipeline, "letters", Connector(connect, ())).read(DataInterval(DAY_1, DAY_2))


def test_documents_without_text_are_counted_and_their_text_is_null(letters: Letters) -> None:
    letters.write("2026-01-01/scan.pdf", pdf(""))
    letters.write("2026-01-01/a.txt", "fine")

    assert "publish" in letters.driver().run(DAY_2)

    [run] = list_runs(letters.place.warehouse)
    [noted] = [v for v in validations_of(letters.place.warehouse, run.run_id) if v.expectation == "without text"]
    assert (noted.evaluated, noted.unexpected, noted.outcome) == (2, 1, "noted")
    assert noted.observed == "1 document has pages and no text, as scans; `text` is NULL"
    assert letters.rows()[1] == ("2026-01-01/scan.pdf", None)


def test_documents_belong_to_the_interval_of_the_files_time_and_only_they_are_read(letters: Letters) -> None:
    letters.write("a.txt", "one", DAY_1)
    letters.write("b.txt", "two", DAY_2 - timedelta(microseconds=1))
    letters.write("c.txt", "three", DAY_2)
    letters.write("never.txt", b"\xff not read", DAY_4)

    assert letters.driver("*", "modified", limit=0).run(DAY_3).count("publish") == 2

    runs = sorted(list_runs(letters.place.warehouse), key=lambda run: run.interval_key)
    assert [run.rows_extracted for run in runs] == [2, 1]
    assert [row[0] for row in letters.rows()] == ["a.txt", "b.txt", "c.txt"]


def test_a_time_in_the_path_wins_over_that_of_a_copied_file(letters: Letters) -> None:
    for name in ("20260101T2359_17.txt", "20260102T0000_17.txt"):
        letters.write(name, "copied", DAY_4)
    letters.write("20260199T0000_17.txt", "no time", DAY_4)
    more = 'documents: {time: {path: "^(\\\\d{8}T\\\\d{4})_", format: "%Y%m%dT%H%M"}}'

    assert letters.driver("*.txt", limit=0.6, more=more).run(DAY_3).count("publish") == 2

    assert [row[0] for row in letters.rows()] == ["20260101T2359_17.txt", "20260102T0000_17.txt"]
    reasons = {row.reasons[0] for row in quarantined_rows(letters.place.warehouse)}
    assert reasons == {"has no time in its path as `documents: {time: …}` says"}


def test_a_local_time_in_the_path_is_one_of_the_zone(letters: Letters) -> None:
    letters.write("20260102T0030.txt", "still the first of January in UTC", DAY_4)
    time = 'documents: {time: {path: "(\\\\w+).txt", format: "%Y%m%dT%H%M"}}'

    driver = letters.driver("*.txt", more=f"{time}\n    timezone: Europe/Berlin")
    assert "publish" in driver.run(DAY_2)

    assert [row[0] for row in letters.rows()] == ["20260102T0030.txt"]


SECONDARY = """
name: card-risk
interval: {{column: created_at, grain: 1d, start: 2026-01-01}}
sources:
  payments: {{kind: sql, connection: shop, table: payments, key: [payment_id]}}
  notes:
    kind: files
    path: "{path}"
    format: text
    {more}
features: |
  select p.payment_id, p.amount, (select count(*) from notes n) as items, p.country, p.first,
    (select string_agg(path, ' ' order by path) from notes) as paths
  from payments p
model: card-risk@champion
destination: {{connection: warehouse, table: card_risk_scores, keep: [amount, paths]}}
"""
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("more", "expected"), [("", "before.txt within.txt"), ("lookback: 1d", "within.txt"), ("lookback: 9d", None)]
)
def test_a_document_from_after_the_interval_never_reaches_its_features(
    letters: Letters, more: str, expected: str | None
) -> None:
    letters.write("before.txt", "x", START - timedelta(days=3))
    letters.write("within.txt", "x", START + timedelta(hours=23, minutes=59))
    letters.write("after.txt", b"\xff not read", START + timedelta(days=1))

    driver = letters.read(SECONDARY.format(path=f"{letters.folder}/*.txt", more=more))
    assert "publish" in driver.run(START + timedelta(days=1))

    rows = letters.place.warehouse
    with rows.reading() as connection:
        found = connection.exec_driver_sql("select distinct paths from card_risk_scores").scalars().all()
    assert list(found) == [expected or "before.txt within.txt"]


def test_a_day_without_notes_is_no_error_and_a_missing_folder_is_one(letters: Letters) -> None:
    path = f"{letters.folder}/notes/{{interval_start:%Y-%m-%d}}/*.txt"
    driver = letters.read(SECONDARY.format(path=path, more=""))

    assert "no file matches" in driver.run(START + timedelta(days=1))[-1]

    (letters.folder / "notes").mkdir()
    assert "publish" in driver.run(START + timedelta(days=1))


BLOB = """
name: card-risk
interval: {{column: time, grain: 1d, start: 2026-01-01}}
sources: {{scans: {{kind: files, path: "{path}", format: blob}}}}
features: |
  select path, cast(size as double) as amount, 1 as items, 'DE' as country, true as first, sha256, media_type from scans
model: card-risk@champion
destination: {{connection: warehouse, table: letter_scores, keep: [sha256, media_type, size]}}
"""


def test_a_blob_has_its_digest_and_the_media_type_of_its_bytes(letters: Letters) -> None:
    data = {"2026-01-01/a": b"\xff\xd8\xff\xe0" + bytes(3 << 20), "2026-01-01/b.txt": b"", "2026-01-01/c.txt": b"\xff?"}
    for name, content in data.items():
        letters.write(name, content)

    assert "publish" in letters.read(BLOB.format(path=f"{letters.folder}/{{interval_start:%Y-%m-%d}}/*")).run(DAY_2)

    digests = [sha256(content).hexdigest() for content in data.values()]
    kinds = ["image/jpeg", "text/plain", "text/plain"]
    found = letters.rows("path, sha256, media_type, size")
    assert found == list(zip(data, digests, kinds, map(len, data.values()), strict=True))


@pytest.mark.parametrize("kind", ["text", "blob"])
def test_a_late_document_is_seen_by_lookback(letters: Letters, kind: str) -> None:
    letters.write("2026-01-01/a.txt", "one")
    blob = BLOB.format(path=f"{letters.folder}/{{interval_start:%Y-%m-%d}}/*")
    driver = letters.driver() if kind == "text" else letters.read(blob)
    lookback = driver.pipeline.interval.model_copy(update={"lookback": 3})  # type: ignore[union-attr]
    pipeline = driver.pipeline.model_copy(update={"interval": lookback})
    assert "publish" in Driver(pipeline, connect, driver.registry).run(DAY_2)
    assert "publish" not in Driver(pipeline, connect, driver.registry).run(DAY_2)

    letters.write("2026-01-01/late.txt", "two")

    assert "publish" in Driver(pipeline, connect, driver.registry).run(DAY_2)
    assert [row[0] for row in letters.rows("path")] == ["2026-01-01/a.txt", "2026-01-01/late.txt"]


def test_forgetting_a_word_deletes_refused_documents_with_it(letters: Letters) -> None:
    letters.write("2026-01-01/a.txt", b"from 4711 \xff")
    letters.write("2026-01-01/b.txt", b"from 47110 \xff")
    letters.write("2026-01-01/c.txt", b"fine")
    driver = letters.driver(limit=1)
    driver.run(DAY_2)

    erase(
        letters.place.warehouse, ErasureRequest(driver.pipeline, RowKey({"path": "4711"})), MaskingPolicy(), b"x" * 16
    )

    [kept] = quarantined_rows(letters.place.warehouse)
    assert find_run(letters.place.warehouse, kept.run_id).rows_quarantined == 2
    assert json.loads(kept.row)["text"].startswith("from 47110")


DESTINATION = "{connection: w, table: t}"


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ("format: text\n    columns: {text: string}", "the columns of `format: text` are fixed"),
        ("format: blob\n    documents: {encoding: utf-8}", "a blob is not decoded"),
        ("format: csv\n    documents: {encoding: utf-8}", "`documents` is for"),
        ("format: text\n    csv: {delimiter: ;}", "`csv` says how csv files are written"),
        ("format: text\n    documents: {encoding: klingon}", "no encoding `klingon`"),
        ('format: text\n    documents: {time: {path: "x", format: "%Y-%m-%d"}}', "needs one group"),
        ('format: text\n    documents: {time: {path: "(x)", format: "%H"}}', "needs a year"),
        ("format: text\n    lookback: 3d\n    path: a/{interval_start}/*", "`lookback` reads whole files"),
    ],
)
def test_a_spec_that_makes_no_sense_for_documents_is_refused(keys: str, why: str) -> None:
    path = "" if "path: a" in keys else "path: a/*\n    "
    text = f"name: x\nsources:\n  s:\n    kind: files\n    {path}{keys}\nmodel: a@b\ndestination: {DESTINATION}"
    with pytest.raises(Exception, match=why):
        parse_pipeline(text.encode(), "x")


@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        ("*.txt", "", "`time` is that of the file, which is the time of the copy if it was copied"),
        ("{interval_start:%Y-%m-%d}*", "", "0 files match {path}; `time` is the start of the interval in the path"),
        ("*", 'documents: {time: {path: "(.*)", format: "%Y-%m-%d"}}', "`time` is what `documents: {time: …}` finds"),
    ],
)
def test_a_check_says_where_the_time_of_documents_comes_from(
    letters: Letters, path: str, more: str, expected: str
) -> None:
    letters.write("a.txt", "x")
    path = f"{letters.folder}/{path}"
    pipeline = letters.read(SECONDARY.format(path=path, more=more)).pipeline

    found = inspect_source(pipeline, "notes", DataInterval(DAY_1, DAY_2), Connector(connect, ()))

    assert expected.replace("{path}", path) in found
