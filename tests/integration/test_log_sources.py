"""Logs as they are found: landed once, read as rows, and refused by name where they cannot be judged."""

import bz2
import gzip
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Connector, Database, open_database
from penstock.errors import GroupFailed, ImplausibleTimes, MissingColumns
from penstock.interval import DataInterval
from penstock.ledger.tables import log_files, log_lines, quarantine
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.row_key import RowKey
from penstock.run.audit import audit_interval
from penstock.run.extract import describe_logs, land_logs
from penstock.run_types import LogNotes, ModelPin, ScoringRun
from penstock.sources import open_source
from penstock.sources.logs.landed import LogReader, landed_table
from penstock.sources.logs.landing import Landing
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.erasure import ErasureRequest, erase
from tests.conftest import DIALECTS

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = DataInterval(START, START + timedelta(days=1))
REGEX = {"regex": r"(?P<time>\S+) (?P<session>\S+)(?: (?P<size>\d+))?(?P<rest>\n.*)?"}


@pytest.fixture(params=DIALECTS)
def database(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


@pytest.fixture
def sqlite(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url("sqlite", "warehouse")), "warehouse")


def spec(folder: Path, pattern: str = "app.log*", format_: Any = None, **keys: Any) -> Pipeline:
    source = {"kind": "log", "path": str(folder / pattern), "format": format_ or REGEX, **keys}
    return Pipeline.model_validate(
        {
            "name": "visits",
            "interval": {"column": "time", "grain": "1d", "start": "2026-01-01"},
            "sources": {"web": source},
            "model": "m@1",
            "destination": {"connection": "warehouse", "table": "t"},
        }
    )


def connect(database: Database) -> Connector:
    return Connector(lambda _: database, ())


def land(pipeline: Pipeline, database: Database) -> Landing:
    return land_logs(pipeline, connect(database))["web"]


def read(pipeline: Pipeline, database: Database, interval: DataInterval | None = DAY) -> list[dict[str, Any]]:
    rows = open_source(pipeline, "web", connect(database)).read(interval).to_pylist()
    return sorted(rows, key=lambda row: (row["time"], str(row)))


def age(path: Path, **ago: float) -> None:
    moment = (datetime.now(UTC) - timedelta(**ago)).timestamp()
    os.utime(path, (moment, moment))


# --- archives --------------------------------------------------------------------------------------------------------


def test_a_broken_archive_is_on_record_until_it_is_whole(tmp_path: Path, database: Database) -> None:
    pipeline = spec(tmp_path)
    whole = bz2.compress(b"".join(b"2026-01-01T%02d:00Z old%d\n" % (i, i) for i in range(24)))
    (tmp_path / "app.log").write_text("2026-01-01T05:00Z new\n")
    (tmp_path / "app.log.1.bz2").write_bytes(whole[:-9])

    for lines in (1, 0):
        landed = land(pipeline, database)
        assert (landed.lines, [file.reason for file in landed.set_aside]) == (
            lines,
            ["the bzip2 is truncated (it ends within a stream)"],
        )
    [note] = describe_logs(pipeline, DAY, connect(database))["web"].set_aside
    assert note.endswith("app.log.1.bz2: the bzip2 is truncated (it ends within a stream)")

    (tmp_path / "app.log.1.bz2").write_bytes(whole)
    assert land(pipeline, database) == Landing(24, 0, 1)
    assert describe_logs(pipeline, DAY, connect(database))["web"] == LogNotes()
    assert len(read(pipeline, database)) == 25
    with database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(log_files)).scalar() == 2


def test_what_is_known_of_the_lines_is_on_the_run_card() -> None:
    run = ScoringRun("r", spec(Path("x")), DAY, ModelPin("m", "1", "d"), "due")  # type: ignore[call-arg]
    notes = {"web": LogNotes(("a.gz: cut",), 2, "Europe/Berlin")}
    found = {v.expectation: v for v in audit_interval(run, [], 0, {}, None, notes).validations}
    assert found["archives unpack"].detail == "1 archive is set aside: a.gz: cut"
    assert found["times occur once"].detail == (
        "2 lines have a time that occurs twice in Europe/Berlin; the first occurrence is taken"
    )
    assert {found[name].outcome for name in ("archives unpack", "times occur once")} == {"noted"}


# --- records, headers, last lines ------------------------------------------------------------------------------------


def test_records_are_whole_across_landings_rotation_and_packing(tmp_path: Path, database: Database) -> None:
    pipeline = spec(tmp_path, record_start=r"\d{4}-")
    log = tmp_path / "app.log"
    log.write_text("2026-01-01T01:00Z a\n\tat x\n2026-01-01T02:00Z b\n")
    assert land(pipeline, database).lines == 1
    log.write_text(log.read_text() + "\tat y\n\n\tat z")
    assert land(pipeline, database) == Landing(0, 0, 1, (), 1)
    (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(log.read_bytes() + b" end\n2026-01-01T03:00Z c"))
    log.write_text("2026-01-01T04:00Z d\n")
    assert land(pipeline, database).lines == 2
    age(log, hours=2)
    assert land(pipeline, database) == Landing(1, 0, 1)
    assert [(row["session"], row["rest"]) for row in read(pipeline, database)] == [
        ("a", "\n\tat x"),
        ("b", "\n\tat y\n\n\tat z end"),
        ("c", None),
        ("d", None),
    ]


def test_w3c_lines_are_read_by_the_fields_that_were_above_them(tmp_path: Path, database: Database) -> None:
    pipeline = spec(tmp_path, format_="w3c", columns={"sc-status": "int", "cs(Agent)": "string"})
    log = tmp_path / "app.log"
    log.write_text("#Version: 1.0\n#Fields: date time sc-status\n2026-01-01 01:00:00 200\n")
    assert land(spec(tmp_path, format_="w3c", columns={"sc-status": "int"}), database).lines == 1
    log.write_text(
        log.read_text()
        + "2026-01-01 02:00:00 404\n#Fields: time date cs(Agent) sc-status\n03:00:00 2026-01-01 Mo 500\n"
    )
    assert land(pipeline, database) == Landing(2, 0, 1)
    rows = [(row["sc-status"], row["cs(Agent)"], row["line"]) for row in read(pipeline, database)]
    assert rows == [
        (200, None, "2026-01-01 01:00:00 200"),
        (404, None, "2026-01-01 02:00:00 404"),
        (500, "Mo", "03:00:00 2026-01-01 Mo 500"),
    ]


def test_the_last_line_of_an_old_file_counts_without_an_end(tmp_path: Path, database: Database) -> None:
    pipeline, log = spec(tmp_path), tmp_path / "app.log"
    log.write_text("2026-01-01T01:00Z a\n2026-01-01T02:00Z b")
    assert land(pipeline, database) == Landing(1, 0, 1, (), 1)
    age(log, hours=2)
    assert land(pipeline, database) == Landing(1, 0, 1)
    assert land(pipeline, database) == Landing()


# --- times -----------------------------------------------------------------------------------------------------------

YEARLESS = {"regex": r"(?P<time>\w+ \d+ [\d:]+) (?P<session>\S+)", "time_format": "%b %d %H:%M:%S"}


def test_a_stated_year_is_that_of_the_first_line_however_the_file_is_landed(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, log = spec(tmp_path, format_=YEARLESS, year=2016), tmp_path / "app.log"
    log.write_text("Nov 30 10:00:00 a\nDec 31 23:59:59 b\n")
    land(pipeline, database)
    log.write_text(log.read_text() + "Jan 01 00:00:00 c\nDec 31 23:59:58 late\n")
    land(pipeline, database)
    log.write_text(log.read_text() + "Dec 31 12:00:00 d\nJan 01 12:00:00 e\n")
    land(pipeline, database)
    assert [(row["session"], row["time"].year) for row in read(pipeline, database, None)] == [
        ("a", 2016),
        ("d", 2016),
        ("late", 2016),
        ("b", 2016),
        ("c", 2017),
        ("e", 2017),
    ]


def test_a_source_of_impossible_times_lands_nothing_and_goes_on_when_it_is_mended(
    tmp_path: Path, database: Database
) -> None:
    (tmp_path / "app.log").write_text("".join(f"1767254400{i:03} s{i}\n" for i in range(5)))
    wrong = spec(tmp_path, format_={"regex": r"(?P<time>\S+) (?P<session>\S+)", "time_format": "epoch_us"})
    for _ in range(2):
        with pytest.raises(ImplausibleTimes, match=r"the time 1970-01-21T.* Correct the time format"):
            land(wrong, database)
    right = spec(tmp_path, format_={"regex": r"(?P<time>\S+) (?P<session>\S+)", "time_format": "epoch_ms"})
    assert land(right, database) == Landing(5, 0, 1)
    assert len(read(right, database)) == 5


def test_lines_in_the_repeated_hour_are_counted(tmp_path: Path, database: Database) -> None:
    pipeline, log = spec(tmp_path, timezone="Europe/Berlin"), tmp_path / "app.log"
    clock = ["01:59", "02:00", "02:30", "02:59", "02:00", "03:00"]
    lines = [f"2025-10-26T{time} s{i}\n" for i, time in enumerate(clock)]
    log.write_text("".join([*lines, "2025-10-26T00:30Z zoned\n"]))
    land(pipeline, database)
    for interval in (
        DataInterval(datetime(2025, 10, 25, 22, tzinfo=UTC), datetime(2025, 10, 26, 23, tzinfo=UTC)),
        None,
    ):
        assert describe_logs(pipeline, interval, connect(database))["web"] == LogNotes((), 4, "Europe/Berlin")
    assert describe_logs(pipeline, DAY, connect(database))["web"].repeated == 0


# --- declared columns ------------------------------------------------------------------------------------------------


def test_a_declared_column_that_no_line_has_is_refused_by_name(tmp_path: Path, database: Database) -> None:
    log = tmp_path / "app.log"
    log.write_text('{"ts": "2026-01-01T01:00Z", "process": {"pid": 7}}\n')
    columns = {"process.pid": "int", "process.name": "string"}
    pipeline = spec(tmp_path, format_="json", columns=columns)
    for _ in range(2):  # the lines are landed by then, and the answer stays
        with pytest.raises(MissingColumns, match=r"each of its lines lacks `process\.name`"):
            land(pipeline, database)
    with pytest.raises(MissingColumns, match=r"Did you mean `process\.pid`"):
        land(spec(tmp_path, format_="json", columns={"proces.pid": "int"}), database)
    log.write_text(log.read_text() + '{"ts": "2026-01-01T02:00Z", "process": {"name": null}}\n')
    land(pipeline, database)
    log.write_text(log.read_text() + '{"ts": "2026-01-01T03:00Z"}\n')
    assert land(pipeline, database).lines == 1  # an earlier line had it
    assert [row["process.pid"] for row in read(pipeline, database)] == [7, None, None]


def test_a_field_that_no_header_names_is_refused(tmp_path: Path, sqlite: Database) -> None:
    (tmp_path / "app.log").write_text("#Fields: date time sc-status\n2026-01-01 01:00:00 200\n")
    with pytest.raises(MissingColumns, match=r"lacks `sc-statu`. Did you mean `sc-status`"):
        land(spec(tmp_path, format_="w3c", columns={"sc-statu": "int"}), sqlite)


# --- groups ----------------------------------------------------------------------------------------------------------

GROUP = {
    "key": ["session"],
    "columns": {
        "requests": "count(*)",
        "bytes": "sum(size)",
        "last": "max(time)",
        "first size": "arg_min(size, time)",
    },
}


def grouped(folder: Path, **more: Any) -> Pipeline:
    return spec(folder, columns={"size": "int"}, group=GROUP | more)


def write_sessions(path: Path) -> None:
    lines = [
        f"2026-01-0{1 + day}T{hour:02}:{number:02}Z s{(number * 7 + hour) % 11} {number}\n"
        for day in range(2)
        for hour in range(24)
        for number in range(10)
    ]
    path.write_text("".join(lines))


@pytest.mark.parametrize("size", [1, 30, 100_000])
def test_each_group_is_one_row_of_its_interval_and_in_one_partition(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("penstock.sources.logs.landed._PIECE_ROWS", 17)
    write_sessions(tmp_path / "app.log")
    pipeline = grouped(tmp_path)
    land(pipeline, database)
    source = open_source(pipeline, "web", connect(database))
    plan = source.plan(DAY, size)
    slices = [source.read(DAY, partition) for partition in plan.partitions]
    assert [part.num_rows for part in slices] == [partition.rows for partition in plan.partitions]
    rows = {row["session"]: row for row in pa.concat_tables(slices).to_pylist()}
    assert (plan.rows, len(rows), pipeline.key) == (11, 11, ("session",))
    own = [(h, n) for h in range(24) for n in range(10) if (n * 7 + h) % 11 == 3]
    assert rows["s3"] == {
        "session": "s3",
        "time": START + timedelta(hours=own[0][0], minutes=own[0][1]),
        "requests": len(own),
        "bytes": sum(n for _, n in own),
        "last": START + timedelta(hours=own[-1][0], minutes=own[-1][1]),
        "first size": own[0][1],
    }
    assert sorted(rows) == sorted(row["session"] for row in source.read(DAY).to_pylist())


@pytest.mark.parametrize("size", [1, 100])
def test_a_row_may_be_a_client_and_hour(tmp_path: Path, database: Database, size: int) -> None:
    key = {"hour": "date_trunc('hour', time)", "client": "upper(session)"}
    pipeline = spec(tmp_path, group={"key": key, "columns": {"n": "count(*)"}})
    (tmp_path / "app.log").write_text(
        "2026-01-01T01:00Z a\n2026-01-01T01:59Z A\n2026-01-01T02:00Z a\n2026-01-01T23:59Z b\n2026-01-02T00:00Z b\n"
    )
    land(pipeline, database)
    source = open_source(pipeline, "web", connect(database))
    plan = source.plan(DAY, size)
    rows = [row for part in plan.partitions for row in source.read(DAY, part).to_pylist()]
    assert [(row["hour"].hour, row["client"], row["n"], row["time"].minute) for row in rows] == [
        (1, "A", 2, 0),
        (2, "A", 1, 0),
        (23, "B", 1, 59),
    ]
    assert (pipeline.key, plan.rows, len(plan.partitions)) == (("hour", "client"), 3, 3 if size == 1 else 1)
    erase(database, ErasureRequest(pipeline, RowKey({"session": "b"}), "web"), MaskingPolicy(), b"x" * 32)
    assert len(source.read(DAY)) == 2


def test_partition_by_of_a_group_is_a_column_of_its_key(tmp_path: Path, sqlite: Database) -> None:
    (tmp_path / "app.log").write_text("2026-01-01T01:00Z a 1\n2026-01-01T01:00Z b 1\n")
    pipeline = grouped(tmp_path)
    land(pipeline, sqlite)
    whole = pipeline.model_copy(update={"partition_by": "session"})
    assert len(open_source(whole, "web", connect(sqlite)).plan(DAY, 1).partitions) == 2
    with pytest.raises(MissingColumns, match="the key of its `group` lacks `requests`"):
        open_source(pipeline.model_copy(update={"partition_by": "requests"}), "web", connect(sqlite)).plan(DAY, 1)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"n": "count(*)"}, "needs many rows"),
        (["time"], "give it another name"),
        (["a", "A"], "give it another name"),
        ({}, "at least 1"),
    ],
)
def test_a_key_that_is_no_column_of_a_line_is_refused(key: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grouped(Path("x"), key=key)


def test_a_late_line_changes_the_fingerprint_and_the_row_of_its_interval(tmp_path: Path, database: Database) -> None:
    pipeline = grouped(tmp_path, time="max")
    (tmp_path / "app.log").write_text("2026-01-01T01:00Z a 1\n2026-01-02T01:00Z a 2\n2026-01-01T03:00Z b 4\n")
    land(pipeline, database)
    source = open_source(pipeline, "web", connect(database))
    before = source.fingerprint(DAY)
    assert [(row["session"], row["requests"], row["time"].hour) for row in read(pipeline, database)] == [
        ("a", 1, 1),
        ("b", 1, 3),
    ]
    (tmp_path / "app.log.1").write_text("2026-01-01T02:00Z a 8\n2026-01-03T00:00Z a 16\n")
    land(pipeline, database)
    assert source.fingerprint(DAY) != before
    assert [(row["session"], row["bytes"], row["time"].hour) for row in read(pipeline, database)] == [
        ("a", 9, 2),
        ("b", 4, 3),
    ]


def test_an_interval_without_lines_has_no_groups(tmp_path: Path, database: Database) -> None:
    (tmp_path / "app.log").write_text("2026-01-05T01:00Z a 1\n")
    pipeline = grouped(tmp_path)
    land(pipeline, database)
    source = open_source(pipeline, "web", connect(database))
    assert (source.plan(DAY, 5).rows, source.read(DAY).num_rows) == (0, 0)
    assert source.read(DAY).column_names == ["session", "time", "requests", "bytes", "last", "first size"]


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        ({"key": ["sesion"]}, MissingColumns, "Did you mean `session`"),
        ({"columns": {"n": "sum(rest)"}}, GroupFailed, "its lines cannot be grouped"),
        ({"columns": {"n": "count(nothing)"}}, GroupFailed, "nothing"),
    ],
)
def test_a_group_that_cannot_be_made_is_refused_by_name(
    tmp_path: Path, sqlite: Database, group: dict[str, Any], error: type[Exception], message: str
) -> None:
    (tmp_path / "app.log").write_text("2026-01-01T01:00Z a 1\n")
    pipeline = grouped(tmp_path, **group)
    land(pipeline, sqlite)
    with pytest.raises(error, match=message):
        read(pipeline, sqlite)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"n": "size"}, "is no aggregate"),
        ({"n": "count(*) over ()"}, "a window over other rows"),
        ({"n": "(select count(*) from lines)"}, "a query inside"),
        ({"n": "max(random())"}, "changes with each call"),
        ({"Session": "count(*)"}, "already a column of the group"),
        ({"time": "max(time)"}, "already a column of the group"),
    ],
)
def test_an_expression_that_is_no_aggregate_of_the_lines_is_refused(columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grouped(Path("x"), columns=columns)


def test_forgetting_a_session_deletes_its_lines(tmp_path: Path, database: Database) -> None:
    pipeline = grouped(tmp_path)
    (tmp_path / "app.log").write_text("2026-01-01T01:00Z a 1\n2026-01-01T02:00Z b 2\n2026-01-01T02:00Z a 2\n")
    land(pipeline, database)
    counts = erase(database, ErasureRequest(pipeline, RowKey({"session": "a"}), "web"), MaskingPolicy(), b"x" * 32)
    assert counts["visits__web"] == 2
    assert [row["session"] for row in read(pipeline, database)] == ["b"]


def test_forgetting_a_text_of_a_log_leaves_the_lines_with_equal_numbers(tmp_path: Path, sqlite: Database) -> None:
    pipeline = grouped(tmp_path)
    texts = ["007", "7", "1.10", "1.1"]
    (tmp_path / "app.log").write_text(
        "".join(f"2026-01-01T0{n}:00Z {text} 1\nbroken {text}\n" for n, text in enumerate(texts))
    )
    land(pipeline, sqlite)
    with sqlite.writing() as connection:  # no row was scored yet, and each one was refused
        for n, text in enumerate(texts):
            where = {"run_id": "r", "partition": 1, "number": n, "pipeline": "visits", "stage": "", "source": "web"}
            row = json.dumps({"session": text})
            connection.execute(quarantine.insert().values(**where, key=row, row=row, reasons="[]", state="open"))

    for text in ("007", "1.10"):
        erase(sqlite, ErasureRequest(pipeline, RowKey({"session": text}), "web"), MaskingPolicy(), b"x" * 32)

    with sqlite.reading() as connection:
        broken = connection.execute(sa.select(log_lines.c.line).order_by(log_lines.c.offset)).scalars().all()
        refused = connection.execute(sa.select(quarantine.c.row).order_by(quarantine.c.number)).scalars().all()
    assert [row["session"] for row in read(pipeline, sqlite)] == ["7", "1.1"]
    assert broken == ["broken 7", "broken 1.1"]
    assert [json.loads(row)["session"] for row in refused] == ["7", "1.1"]


def test_private_lines_that_cannot_be_read_are_hidden_whatever_their_form(tmp_path: Path, sqlite: Database) -> None:
    source = {"private": {"session": "hash"}, "record_start": r"\d{4}-"}
    (tmp_path / "app.log").write_text("secret\n  secret too\n2026-01-01T01:00Z a 1\n2026-01-01T02:00Z a 1\n")
    pipeline = spec(tmp_path, **source)
    assert land(pipeline, sqlite).malformed == 1
    with sqlite.reading() as connection:
        assert "secret" not in str(connection.execute(sa.select(log_lines)).all())
        assert connection.execute(sa.select(landed_table("visits", "web").c.line)).scalars().all() == [
            "2026-01-01T01:00Z a 1"
        ]
    assert isinstance(open_source(pipeline, "web", connect(sqlite)), LogReader)
