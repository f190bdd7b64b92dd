"""The spool of recorded requests: what the warehouse refuses, how much is moved, and what is erased meanwhile."""

import asyncio
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from starlette.requests import Request

from penstock.cli.ledger.take_in import take_in
from penstock.database.connections import Connector, Database, open_database
from penstock.interval import DataInterval
from penstock.ledger import served_spool
from penstock.ledger.migrations import make_ledger
from penstock.ledger.served_rows import Layout, ServedRow, find_tables, list_served_runs, read_served_rows
from penstock.ledger.served_spool import Spool, open_spool, settle_served_runs
from penstock.ledger.served_writes import Answer, NewRequest, NewRun, store_requests
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.run_types import ModelPin
from penstock.serving import recorder as recording
from penstock.serving.recorded_answers import digest_request
from penstock.serving.recorded_request import RecordedRequests
from penstock.serving.recorder import Kept, Recorder
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.shop import SPEC
from tests.waiting import wait_until

NOW = datetime.now(UTC) - timedelta(hours=1)
DAY = DataInterval(datetime(2026, 1, 3, tzinfo=UTC), datetime(2026, 1, 4, tzinfo=UTC))
LAYOUT = Layout({"payments": pa.schema([("payment_id", pa.int64())])}, pa.schema([]), pa.schema([]), {}).write()
MODEL = {"score": ModelPin("card-risk", "1", "d" * 64)}
RUN = NewRun("1" * 32, "w" * 32, "here:1", DAY, MODEL, False, "f" * 64, "s" * 64, LAYOUT, "card_risk_scores", None)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    """A warehouse with a ledger and nothing else."""
    url = database_url(request.param, "warehouse")
    database = open_database(use_settings(warehouse=url, shop=url), "warehouse")
    make_ledger(database)
    return database


on_sqlite = pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    file = tmp_path / "card-risk.yaml"
    file.write_text(SPEC + "serve: {record: before_answer}\n")
    return load_pipeline(file)


def make_request(number: int, keys: tuple[str, ...] = ("a",), answer: Answer | None = None, run: NewRun = RUN) -> Any:
    described = {"status": "scored", "outputs": '{"score": 0.5}', "primary_row": "{}", "feature_row": "{}"}
    rows = tuple({**described, "key": key, "other_rows": None} for key in keys)
    return NewRequest(run, f"{number:032}", NOW + timedelta(seconds=number), rows, answer)


def recorded_rows(warehouse: Database) -> list[ServedRow]:
    runs = list_served_runs(warehouse, "card-risk")
    return [row for run in runs for rows in read_served_rows(warehouse, run) for row in rows.rows]


def recorded_keys(warehouse: Database) -> list[str | None]:
    return [row.key for row in recorded_rows(warehouse)]


def test_a_key_of_any_length_is_recorded(warehouse: Database, pipeline: Pipeline) -> None:
    long, at = json.dumps({"payment_id": os.urandom(4_000).hex()}), NOW + timedelta(seconds=1)

    assert store_requests(warehouse, pipeline, [make_request(1, (long, "b"))]) == [None]

    assert [(row.key, row.recorded_at) for row in recorded_rows(warehouse)] == [(long, at), ("b", at)]
    assert verify_ledger(warehouse) == ()


def test_a_request_that_is_refused_stays_and_the_others_are_taken_in(
    warehouse: Database, pipeline: Pipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(tmp_path)
    broken = replace(make_request(1), rows=({**make_request(1).rows[0], "primary_row": None},))
    spool.append("card-risk", [broken, *(make_request(number, (str(number),)) for number in (2, 3, 4))])
    with spool.database.writing() as connection:
        connection.execute(sa.text("update spooled set request = '{}' where request_id like '%3'"))

    assert settle_served_runs(warehouse, tmp_path, pipeline) == 2
    assert recorded_keys(warehouse) == ["2", "4"]
    assert (spool.count("card-risk"), spool.count_refused("card-risk")) == (0, 2)
    assert caplog.text.count("stays in the spool, because it cannot be stored") == 2

    spool.try_again("card-risk")
    assert spool.count("card-risk") == 2
    assert settle_served_runs(warehouse, tmp_path, pipeline) == 0
    assert spool.erase("card-risk", ["a", "3"]) == 2
    assert spool.count_refused("card-risk") == 0
    assert verify_ledger(warehouse) == ()


@on_sqlite
def test_take_in_tries_refused_requests_again_and_says_what_stays(
    warehouse: Database, pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = open_spool(tmp_path / ".penstock")
    spool.append("card-risk", [make_request(1), make_request(2)])
    with spool.database.writing() as connection:
        connection.execute(sa.text("update spooled set problem = 'it was full then'"))
        connection.execute(sa.text("update spooled set request = '{}' where request_id like '%2'"))

    take_in(str(tmp_path / "card-risk.yaml"))

    assert capsys.readouterr().out.splitlines() == [
        "card-risk: 1 request taken in",
        "card-risk: 1 request refused by the warehouse and still in the spool",
    ]


@on_sqlite
def test_what_is_recorded_meanwhile_stays_and_pages_have_a_size(
    warehouse: Database, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    late = replace(make_request(9), recorded_at=datetime.now(UTC) + timedelta(hours=1))
    spool.append("card-risk", [make_request(1), make_request(2), make_request(3), late])
    monkeypatch.setattr(served_spool, "_PAGE_CHARACTERS", len(make_request(1).write()) * 2 + 10)

    assert spool.take_in(warehouse, pipeline, 100) == served_spool.TakenIn(2, 2)
    assert settle_served_runs(warehouse, tmp_path, pipeline) == 1
    assert (spool.count("card-risk"), len(recorded_keys(warehouse))) == (1, 3)


def test_the_oldest_requests_are_found_by_an_index(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append("card-risk", [make_request(1)])
    table, waits = served_spool._spooled, served_spool._WAITS
    query = table.select().where(table.c.pipeline == "card-risk", *waits).order_by(table.c.recorded_at)
    ordered = query.compile(spool.database.engine, compile_kwargs={"literal_binds": True})
    with spool.database.reading() as connection:
        plan = connection.exec_driver_sql(f"explain query plan {ordered}").all()
    assert "spooled_waiting" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


def test_a_row_that_is_erased_while_it_is_taken_in_does_not_come_back(
    warehouse: Database, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the requests in and erases, between the time they are read and their transaction."""
    spool = open_spool(tmp_path)
    spool.append("card-risk", [make_request(1, ("a",)), make_request(2, ("a", "b")), make_request(3, ("c",))])
    read = Spool._read_page

    def read_and_wait(*args: Any) -> Any:
        page = read(*args)
        monkeypatch.setattr(Spool, "_read_page", read)
        settle_served_runs(warehouse, tmp_path, pipeline)
        with warehouse.writing() as connection:
            for table in find_tables(connection, "card-risk", pipeline.destination):
                connection.execute(sa.delete(table).where(table.c.key == "a"))
        spool.append("card-risk", [make_request(4, ("a", "d"))])
        spool.erase("card-risk", ["a"])
        return page

    monkeypatch.setattr(Spool, "_read_page", read_and_wait)
    settle_served_runs(warehouse, tmp_path, pipeline)

    assert sorted(map(str, recorded_keys(warehouse))) == ["b", "c", "d"]


@on_sqlite
def test_a_retry_of_the_time_without_a_warehouse_gets_the_answer_of_the_warehouse_after_it(
    warehouse: Database, pipeline: Pipeline, tmp_path: Path
) -> None:
    spool = open_spool(tmp_path)
    first, second = (Answer("k" * 64, "r" * 64, body) for body in ("first", "second"))
    store_requests(warehouse, pipeline, [make_request(1, ("a",), first)])
    spool.append("card-risk", [make_request(2, ("a",), second), make_request(3, ("b",), replace(first, key="other"))])

    settle_served_runs(warehouse, tmp_path, pipeline)

    assert recorded_keys(warehouse) == ["a", "b"]
    assert set(spool.find_answers("card-risk", [first, replace(first, key="other")])) == {"other"}
    assert store_requests(warehouse, pipeline, [make_request(4, ("a",), second)]) == [first]


def test_a_run_stays_in_the_table_that_it_began_in(warehouse: Database, pipeline: Pipeline, tmp_path: Path) -> None:
    store_requests(warehouse, pipeline, [make_request(1, ("a",))])
    moved = pipeline.model_copy(update={"destination": pipeline.destination.model_copy(update={"table": "moved"})})
    elsewhere = replace(RUN, run_id="2" * 32, table="moved")
    spool = open_spool(tmp_path)
    spool.append("card-risk", [make_request(2, ("b",)), make_request(3, ("c",), run=elsewhere)])

    settle_served_runs(warehouse, tmp_path, moved)

    assert sorted(map(str, recorded_keys(warehouse))) == ["a", "b", "c"]
    assert {run.destination_table: run.rows for run in list_served_runs(warehouse, "card-risk")} == {
        "card_risk_scores": 2,
        "moved": 1,
    }
    assert verify_ledger(warehouse) == ()


def test_only_its_user_reads_the_spool(tmp_path: Path) -> None:
    open_spool(tmp_path / "new").append("card-risk", [make_request(1)])

    assert stat.S_IMODE((tmp_path / "new" / "served.db").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "new") == ["served.db"]


class Scored:
    """A request as the recorder counts it."""

    def __init__(self, rows: int) -> None:
        self.request = self
        self.rows = rows


def make_recorder(pipeline: Pipeline, folder: Path, connect: Callable[[str], Database], record: str) -> Recorder:
    serve = pipeline.serve
    assert serve is not None
    pipeline = pipeline.model_copy(update={"serve": serve.model_copy(update={"record": record})})
    requests = RecordedRequests(pipeline, NO_MASKING)
    made = iter(range(100))
    requests.describe = lambda *_: make_request(next(made))  # type: ignore[method-assign]
    return Recorder(requests, Connector(connect, ()), open_spool(folder), timedelta(minutes=1))


def record(recorder: Recorder, rows: int = 1) -> Kept | None:
    return asyncio.run(asyncio.wait_for(recorder.record(Scored(rows), None, None), 20))  # type: ignore[arg-type]


@on_sqlite
def test_the_warehouse_is_looked_up_once_and_anew_after_an_error(
    warehouse: Database, pipeline: Pipeline, tmp_path: Path
) -> None:
    """Its connection may be in a block of Prefect, whose API raises errors of its own when it is away."""
    calls: list[str] = []
    errors: list[Exception] = [RuntimeError("the API is away")]

    def connect(name: str) -> Database:
        calls.append(name)
        if errors:
            raise errors.pop()
        return warehouse

    recorder = make_recorder(pipeline, tmp_path, connect, "before_answer")
    recorder.start()
    try:
        assert [getattr(record(recorder), "place", None) for _ in range(2)] == ["spool", "spool"]
        assert (recorder.describe()["spooled"], recorder.problem) == (2, "RuntimeError")
        wait_until(lambda: not recorder.problem and recorder.describe()["spooled"] == 0, 20)
        assert [getattr(record(recorder), "place", None) for _ in range(3)] == ["warehouse"] * 3
        assert calls == ["warehouse"] * 2
    finally:
        recorder.close()
    assert len(recorded_keys(warehouse)) == 5


@on_sqlite
def test_to_describe_a_recorder_reads_nothing(
    warehouse: Database, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done on the event loop, where all requests would wait for the file."""
    recorder = make_recorder(pipeline, tmp_path, lambda _: warehouse, "before_answer")
    recorder.start()
    try:
        wait_until(lambda: recorder.describe()["spooled"] == 0, 20)
    finally:
        recorder.close()
    reads: list[str] = []
    monkeypatch.setattr(Database, "reading", lambda database: reads.append(database.name))
    assert recorder.describe()["refused"] == 0
    assert reads == []


@on_sqlite
def test_no_error_ends_the_thread_that_records(
    warehouse: Database, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = make_recorder(pipeline, tmp_path, lambda _: warehouse, "before_answer")
    store = recorder._store_batch
    broken = iter([OSError("unforeseen")])

    def store_later(batch: Any) -> None:
        for error in broken:
            raise error
        store(batch)

    monkeypatch.setattr(recorder, "_store_batch", store_later)
    recorder.start()
    try:
        with pytest.raises(recording.NotRecorded, match="OSError"):
            record(recorder)
        kept = record(recorder)
        assert kept is not None
        assert kept.place == "warehouse"
    finally:
        recorder.close()


@on_sqlite
def test_a_request_larger_than_the_buffer_is_recorded_when_none_waits(
    warehouse: Database, pipeline: Pipeline, tmp_path: Path
) -> None:
    recorder = make_recorder(pipeline, tmp_path, lambda _: warehouse, "async")

    record(recorder, recording.BUFFER_ROWS + 1)
    assert recorder.dropped == 0
    record(recorder, 1)
    assert recorder.dropped == 1


def test_the_digest_of_a_private_body_needs_the_secret() -> None:
    scope = {"type": "http", "path": "/score", "query_string": b"", "headers": [], "method": "POST"}
    request = Request(scope)
    old, new = b"a secret of sixteen", b"another of sixteen!"
    open_body, hidden, rotated = (
        digest_request(request, b"{}", masking)
        for masking in (NO_MASKING, MaskingPolicy({"name": "hash"}, old), MaskingPolicy({"name": "hash"}, new, old))
    )

    assert open_body != hidden
    assert (len(rotated), rotated[1]) == (2, hidden[0])
