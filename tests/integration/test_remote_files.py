"""Sources of files in an object store: found, planned, cut, read and scored as local ones are."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.database.connections import Connector, Database, open_database
from penstock.errors import BrokenFile, FilesChanged, NoFiles, OutsideRoots, SpecError, StoreRefused, StoreUnavailable
from penstock.interval import DataInterval
from penstock.ledger.reader import list_runs
from penstock.object_stores import write_bytes
from penstock.sources import open_source, read_file_states
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import view_rows
from tests.driver import Driver
from tests.servers.faulty import Fault, FaultyProxy
from tests.servers.s3 import S3Server
from tests.servers.web import WebServer
from tests.shop import START, Place, payments

BUCKET = f"bucket-{uuid.uuid4().hex[:12]}"
DAY = timedelta(days=1)
FIRST = DataInterval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def proxy(s3_server: S3Server, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> FaultyProxy:
    """The proxy before the S3 server, which the environment names."""
    for variable, value in s3_server.environment(endpoint=faulty_s3.url).items():
        monkeypatch.setenv(variable, value)
    return faulty_s3


@pytest.fixture
def root(proxy: FaultyProxy) -> str:
    """The URL of a folder that is the test's own."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def warehouse(use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url("sqlite", "warehouse")), "warehouse")


def make_pipeline(path: str, kind: str, **more: Any) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "p",
            "interval": {"column": "at", "grain": "1d", "start": "2026-01-01"},
            "sources": {"rows": {"kind": "files", "path": path, "format": kind, **more}},
            "model": "m@1",
            "destination": {"table": "t"},
        }
    )


def as_parquet(table: pa.Table, **how: Any) -> bytes:
    written = io.BytesIO()
    pq.write_table(table, written, **how)
    return written.getvalue()


def rows_of(count: int, first: int = 0) -> pa.Table:
    times = [FIRST.start + timedelta(seconds=number % 80_000) for number in range(count)]
    return pa.table({"id": range(first, first + count), "at": pa.array(times, pa.timestamp("us", "UTC"))})


def csv_of(count: int, first: int = 0) -> bytes:
    lines = (f"{first + n},{FIRST.start + timedelta(seconds=n % 80_000):%Y-%m-%dT%H:%M:%SZ}\n" for n in range(count))
    return ("id,at\n" + "".join(lines)).encode()


def delete(url: str, server: S3Server) -> None:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    obstore.delete(server.store(bucket), key)


def test_the_files_of_an_interval_are_found_and_the_lists_are_short(
    root: str, proxy: FaultyProxy, warehouse: Database
) -> None:
    for number in range(6):
        day = FIRST.start + number * DAY
        table = pa.table({"id": [number], "at": pa.array([day], pa.timestamp("us", "UTC"))})
        write_bytes(f"{root}/{day:%Y/%m/%d}/a.parquet", as_parquet(table))
    pipeline = make_pipeline(f"{root}/{{interval_start:%Y/%m/%d}}/*.parquet", "parquet", every="1d")
    proxy.seen.clear()

    read = open_source(pipeline, "rows", Connector(lambda _: warehouse, ())).read(
        DataInterval(FIRST.start + 2 * DAY, FIRST.start + 4 * DAY)
    )

    rows = dict(zip(read["id"].to_pylist(), read["_row_id"].to_pylist(), strict=True))
    assert rows == {2: "2026/01/03/a.parquet:0", 3: "2026/01/04/a.parquet:0"}
    lists = [seen.path for seen in proxy.seen if "list-type" in seen.path]
    assert {re.search(r"prefix=[^&]*(\d\d)%2F", path)[1] for path in lists} == {"03", "04"}  # type: ignore[index]


@pytest.mark.parametrize(
    "name", ["a b.parquet", "c%20d.parquet", "e#f.parquet", "g+h.parquet", "ü.parquet", "[1].parquet"]
)
def test_names_are_taken_as_they_are(name: str, root: str, warehouse: Database) -> None:
    write_bytes(f"{root}/in/{name}", as_parquet(rows_of(3)))
    write_bytes(f"{root}/text/{name}", csv_of(3))

    for path, kind in ((f"{root}/in/*.parquet", "parquet"), (f"{root}/text/*", "csv")):
        read = open_source(make_pipeline(path, kind), "rows", Connector(lambda _: warehouse, ())).read(FIRST)
        assert read["_row_id"].to_pylist() == [f"{name}:{number}" for number in range(3)]


def test_a_slice_of_a_large_file_fetches_its_part(root: str, proxy: FaultyProxy, warehouse: Database) -> None:
    count = 400_000
    table = rows_of(count).append_column("x", pa.array(np.random.default_rng(1).random(count)))
    content = as_parquet(table, row_group_size=20_000)
    write_bytes(f"{root}/a.parquet", content)
    pipeline, connector = make_pipeline(f"{root}/*.parquet", "parquet"), Connector(lambda _: warehouse, ())
    files = read_file_states(pipeline, ["rows"], FIRST, connector)
    plan = open_source(pipeline, "rows", connector, files).plan(FIRST, 20_000)
    assert (plan.rows, len(plan.partitions)) == (count, 20)

    proxy.seen.clear()
    read = open_source(pipeline, "rows", connector, files).read(FIRST, plan.partitions[10])

    assert sorted(read["id"].to_pylist()) == [*range(200_000, 220_000)]
    bounds = [
        re.search(r"bytes=(\d+)-(\d+)", seen.headers.get("range") or seen.headers["Range"]) for seen in proxy.seen
    ]
    fetched = sum(int(found[2]) - int(found[1]) + 1 for found in bounds if found)
    assert fetched < len(content) / 5
    tags = {seen.headers.get("if-match") or seen.headers.get("If-Match") for seen in proxy.seen}
    assert tags == {files["rows"][0].digest}


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_threads_that_share_an_open_file_read_their_own_parts(compression: str, root: str, warehouse: Database) -> None:
    """DuckDB's threads share an open file. A place that one takes from another would show other rows, in silence."""
    count = 300_000
    table = rows_of(count).append_column("x", pa.array(np.random.default_rng(1).random(count)))
    content = as_parquet(table, row_group_size=10_000, compression=compression, write_statistics=False)
    write_bytes(f"{root}/a.parquet", content)
    source = open_source(make_pipeline(f"{root}/*.parquet", "parquet"), "rows", Connector(lambda _: warehouse, ()))

    for _ in range(5):
        read = source.read(FIRST).sort_by("id")  # without a slice, rows come in any order
        assert read.select(["id", "x"]) == table.select(["id", "x"])
        assert read["_row_id"].to_pylist() == [f"a.parquet:{number}" for number in range(count)]


def compress_zip(content: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)
    return written.getvalue()


def compress_zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": compress_zstd,
    "zip": compress_zip,
}


@pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS.keys())
def test_text_files_are_read_from_their_store(
    compress: Callable[[bytes], bytes], root: str, warehouse: Database
) -> None:
    write_bytes(f"{root}/a.csv", compress(csv_of(1000)))
    write_bytes(f"{root}/b.csv", compress(csv_of(1000, 1000)))
    pipeline, connector = make_pipeline(f"{root}/*.csv", "csv"), Connector(lambda _: warehouse, ())
    files = read_file_states(pipeline, ["rows"], FIRST, connector)

    plan = open_source(pipeline, "rows", connector, files).plan(FIRST, 700)
    read = [open_source(pipeline, "rows", connector, files).read(FIRST, slice_) for slice_ in plan.partitions]

    assert [key for table in read for key in table["id"].to_pylist()] == [*range(2000)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_files_of_google_and_azure_are_read_in_slices_and_not_once_they_are_replaced(
    scheme: str,
    kind: str,
    request: pytest.FixtureRequest,
    warehouse: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = request.getfixturevalue({"gs": "google_server", "az": "azure_server"}[scheme])
    for variable, value in server.environment().items():
        monkeypatch.setenv(variable, value)
    root = f"{scheme}://{server.make_bucket() if scheme == 'gs' else server.make_container()}/x y"

    def write(name: str, first: int) -> None:
        write_bytes(f"{root}/2026-01-01/{name}", csv_of(50, first) if kind == "csv" else as_parquet(rows_of(50, first)))

    write("ä 1", 0)
    write("b", 50)
    pipeline = make_pipeline(f"{root}/{{interval_start:%Y-%m-%d}}/*", kind)
    connector = Connector(lambda _: warehouse, ())
    files = read_file_states(pipeline, ["rows"], FIRST, connector)
    plan = open_source(pipeline, "rows", connector, files).plan(FIRST, 30)
    read = [open_source(pipeline, "rows", connector, files).read(FIRST, slice_) for slice_ in plan.partitions]

    assert sorted(key for table in read for key in table["id"].to_pylist()) == [*range(100)]
    assert plan.fingerprint == open_source(pipeline, "rows", connector).fingerprint(FIRST)
    write("b", 70)
    with pytest.raises(FilesChanged, match="/b was replaced"):
        open_source(pipeline, "rows", connector, files).read(FIRST, plan.partitions[-1])


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_files_that_change_after_planning_are_not_read(
    kind: str, change: str, root: str, s3_server: S3Server, warehouse: Database
) -> None:
    def write(name: str, first: int) -> None:
        records = "".join(f'{{"id": {first + n}, "at": "2026-01-01T00:00:00Z"}}\n' for n in range(10)).encode()
        written = {"csv": csv_of(10, first), "json": records, "parquet": as_parquet(rows_of(10, first))}
        write_bytes(f"{root}/{name}", written[kind])

    write("a", 10)
    write("b", 20)
    pipeline, connector = make_pipeline(f"{root}/*", kind), Connector(lambda _: warehouse, ())
    files = read_file_states(pipeline, ["rows"], FIRST, connector)
    reader = open_source(pipeline, "rows", connector, files)
    plan = reader.plan(FIRST, 10)
    before = open_source(pipeline, "rows", connector).fingerprint(FIRST)
    assert before == plan.fingerprint

    write("a", 30) if change == "replaced" else delete(f"{root}/a", s3_server)

    with pytest.raises(FilesChanged, match=f"/a was {change}"):
        reader.read(FIRST, plan.partitions[0])
    assert open_source(pipeline, "rows", connector).fingerprint(FIRST) != before


def test_a_file_that_is_replaced_while_it_is_read_halts(root: str, proxy: FaultyProxy, warehouse: Database) -> None:
    url = f"{root}/a.parquet"
    old, new = (as_parquet(rows_of(50_000, first), row_group_size=5_000) for first in (100_000, 200_000))
    pipeline, connector = make_pipeline(url, "parquet"), Connector(lambda _: warehouse, ())
    write_bytes(url, old)
    files = read_file_states(pipeline, ["rows"], FIRST, connector)
    proxy.seen.clear()
    open_source(pipeline, "rows", connector, files).read(FIRST)
    requests, halted = proxy.requests(), 0

    for after in range(0, requests, 2):
        write_bytes(url, old)
        files = read_file_states(pipeline, ["rows"], FIRST, connector)
        proxy.faults.clear()
        fault = proxy.spoil(Fault(methods=("GET",), after=after, first=lambda: write_bytes(url, new)))
        try:
            read = open_source(pipeline, "rows", connector, files).read(FIRST)
        except FilesChanged:
            halted += 1
        else:  # threads share blocks, so a read may take fewer requests
            assert (fault.times, sorted(read["id"].to_pylist())) == (1, [*range(100_000, 150_000)])
    assert halted > requests / 4


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_cut_body_is_read_again_or_an_error_and_never_fewer_rows(
    kind: str, root: str, proxy: FaultyProxy, warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(f"{root}/a", csv_of(5_000) if kind == "csv" else as_parquet(rows_of(5_000)))
    source = open_source(make_pipeline(f"{root}/a", kind), "rows", Connector(lambda _: warehouse, ()))
    proxy.spoil(Fault(methods=("GET",), cut_after=500, times=2))
    assert source.read(FIRST).num_rows == 5_000

    monkeypatch.setattr("penstock.object_stores.access._RETRIES", 1)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "")  # another environment, so that the store is opened anew
    proxy.spoil(Fault(methods=("GET",), cut_after=500, times=float("inf")))
    with pytest.raises(StoreUnavailable):
        source.read(FIRST)


def test_an_object_that_is_no_parquet_file_is_named(root: str, warehouse: Database) -> None:
    write_bytes(f"{root}/a.parquet", b"not parquet")

    with pytest.raises(BrokenFile, match=r"a\.parquet"):
        open_source(make_pipeline(f"{root}/*", "parquet"), "rows", Connector(lambda _: warehouse, ())).read(FIRST)


def test_what_is_not_there_is_named(root: str, warehouse: Database) -> None:
    write_bytes(f"{root}/a.parquet", as_parquet(rows_of(1)))
    connector = Connector(lambda _: warehouse, ())
    for path in (f"{root}/none/*.parquet", f"{root}/none.parquet"):
        with pytest.raises(NoFiles, match="none"):
            open_source(make_pipeline(path, "parquet"), "rows", connector).read(FIRST)
    with pytest.raises(StoreRefused, match="there is no bucket `no-such-bucket`"):
        open_source(make_pipeline("s3://no-such-bucket/a/*", "parquet"), "rows", connector).read(FIRST)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gcs://b/*.csv", "gs://bucket"),
        ("https://host/a.csv?sig=hunter2", "may contain a secret"),
        ("https://user:hunter2@host/a.csv", "a user or a password"),
        ("https://host/*.csv", "does not list"),
    ],
)
def test_a_path_that_no_store_has_is_refused_by_the_spec(path: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        f"name: p\nsources:\n  rows: {{kind: files, path: '{path}', format: csv}}\nmodel: m@1\n"
        "destination: {table: t}\n"
    )

    with pytest.raises(Exception, match=said) as caught:
        load_pipeline(file)

    assert "hunter2" not in str(caught.value)


def test_a_log_source_reads_no_object(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: p\nsources:\n  rows: {kind: log, path: 's3://b/*.log', format: combined}\nmodel: m@1\n"
        "destination: {table: t}\n"
    )

    with pytest.raises(SpecError, match="a log source reads local files"):
        load_pipeline(file)


def test_remote_roots_limit_what_is_read(root: str, proxy: FaultyProxy, warehouse: Database) -> None:
    write_bytes(f"{root}/in/a.csv", csv_of(2))
    pipeline = make_pipeline(f"{root}/in/*.csv", "csv")
    read = open_source(pipeline, "rows", Connector(lambda _: warehouse, ("/data", f"{root}/in"))).read(FIRST)
    assert read.num_rows == 2
    proxy.seen.clear()
    for roots in ((f"{root}/i",), (f"{root}/in/deeper",), ("/data",), (f"s3://{BUCKET}-other",)):
        with pytest.raises(OutsideRoots):
            open_source(pipeline, "rows", Connector(lambda _: warehouse, roots)).read(FIRST)
    assert not proxy.seen


def test_the_options_of_a_named_connection_open_the_store(
    root: str, s3_server: S3Server, warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(f"{root}/a.csv", csv_of(2))
    write_bytes(f"{root}/a.parquet", as_parquet(rows_of(2)))
    for variable in s3_server.environment():
        monkeypatch.delenv(variable)
    options = {"endpoint": s3_server.url, "region": "us-east-1", "access_key_id": "owner"}
    value = json.dumps({**options, "secret_access_key": "owner-secret"})
    for kind in ("csv", "parquet"):
        pipeline = make_pipeline(f"{root}/*.{kind}", kind, connection="lake")
        connector = Connector(lambda _: warehouse, (), read_value=lambda _: value)
        assert open_source(pipeline, "rows", connector).read(FIRST).num_rows == 2


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_of_a_web_server_is_read(kind: str, web_server: WebServer, warehouse: Database) -> None:
    (web_server.folder / "a b").mkdir()
    file = web_server.folder / "a b" / f"2026-01-01.{kind}"
    file.write_bytes(csv_of(5) if kind == "csv" else as_parquet(rows_of(5)))
    path = f"{web_server.url}/a%20b/{{interval_start:%Y-%m-%d}}.{kind}"
    pipeline, connector = make_pipeline(path, kind), Connector(lambda _: warehouse, ())

    read = open_source(pipeline, "rows", connector).read(FIRST)

    assert read["_row_id"].to_pylist() == [f"2026-01-01.{kind}:{number}" for number in range(5)]
    with pytest.raises(NoFiles):
        open_source(pipeline, "rows", connector).read(DataInterval(FIRST.end, FIRST.end + DAY))


SPEC = """
name: card-risk
interval: {{column: created_at, grain: 1d, start: 2026-01-01, lookback: 3}}
sources:
  payments: {{kind: files, path: "{root}/{{interval_start:%Y-%m-%d}}/*.{kind}", format: {kind}, key: [payment_id]}}
model: card-risk@champion
destination: {{connection: warehouse, table: card_risk_scores, keep: [amount, country]}}
partition_rows: 60
"""


def write_day(root: str, kind: str, rows: pa.Table) -> None:
    written = io.BytesIO()
    if kind == "parquet":
        pq.write_table(rows, written)
    else:
        written.write("".join(f"{json.dumps(row, default=str)}\n" for row in rows.to_pylist()).encode())
    write_bytes(f"{root}/2026-01-01/a.{kind}", written.getvalue())


@pytest.mark.parametrize(("kind", "warehouse"), [("parquet", "postgresql"), ("json", "sqlite"), ("json", "duckdb")])
def test_a_run_scores_objects_once_and_sees_one_that_is_replaced(
    kind: str, warehouse: str, root: str, make_place: Callable[..., Place]
) -> None:
    place = make_place(warehouse=warehouse, spec=SPEC.format(root=root, kind=kind))
    rows = payments(days=1, a_day=150)
    write_day(root, kind, rows)
    driver = Driver(load_pipeline(place.spec), connect, place.registry)
    now = START + DAY

    assert "publish" in driver.run(now)
    first = view_rows(place.warehouse)
    assert len(first) == 150
    assert "publish" not in driver.run(now)

    write_day(root, kind, rows.slice(0, 140))
    assert "publish" in driver.run(now)
    assert view_rows(place.warehouse) == first[:140]
    assert [run.state for run in list_runs(place.warehouse, "card-risk", 5)] == ["published", "superseded"]


def test_a_run_of_local_files_does_not_load_obstore() -> None:
    code = "import sys, penstock.scoring_steps; sys.exit(not {'obstore', 'fsspec'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


def make_documents(path: str, kind: str = "text", **more: Any) -> Pipeline:
    pipeline = make_pipeline(path, kind, **more)
    return pipeline.model_copy(
        update={"interval": pipeline.interval.model_copy(update={"column": "time"})}  # type: ignore[union-attr]
    )


def test_documents_of_a_store_are_rows_with_the_time_in_their_path(
    root: str, proxy: FaultyProxy, warehouse: Database
) -> None:
    for name in ("2026-01-01/a b.txt", "2026-01-01/c%20d.txt", "2026-01-01/ü[1].txt", "2026-01-02/e.txt"):
        write_bytes(f"{root}/{name}", f"text of {name}".encode())
    connector = Connector(lambda _: warehouse, ())

    by_day = make_documents(f"{root}/{{interval_start:%Y-%m-%d}}/*.txt")
    read = open_source(by_day, "rows", connector).read(FIRST)
    assert read["path"].to_pylist() == ["2026-01-01/a b.txt", "2026-01-01/c%20d.txt", "2026-01-01/ü[1].txt"]
    assert read["text"].to_pylist() == [f"text of {path}" for path in read["path"].to_pylist()]
    assert set(read["time"].to_pylist()) == {FIRST.start}

    proxy.seen.clear()
    time = {"path": r"^([\d-]+)/", "format": "%Y-%m-%d"}
    stated = make_documents(f"{root}/*/*.txt", documents={"time": time})
    assert open_source(stated, "rows", connector).read(FIRST)["path"].to_pylist() == read["path"].to_pylist()
    assert not [seen.path for seen in proxy.seen if "e.txt" in seen.path and "list-type" not in seen.path]


def test_a_blob_of_a_store_has_its_digest(root: str, warehouse: Database) -> None:
    content = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20_000
    write_bytes(f"{root}/2026-01-01/scan", content)

    pipeline = make_documents(f"{root}/{{interval_start:%Y-%m-%d}}/*", "blob")
    [row] = open_source(pipeline, "rows", Connector(lambda _: warehouse, ())).read(FIRST).to_pylist()

    assert (row["sha256"], row["media_type"], row["size"]) == (
        hashlib.sha256(content).hexdigest(),
        "image/png",
        len(content),
    )


def test_a_document_that_is_replaced_after_planning_is_not_read(root: str, warehouse: Database) -> None:
    write_bytes(f"{root}/2026-01-01/a.txt", b"planned")
    connector = Connector(lambda _: warehouse, ())
    pipeline = make_documents(f"{root}/{{interval_start:%Y-%m-%d}}/*")
    files = read_file_states(pipeline, ["rows"], FIRST, connector)
    write_bytes(f"{root}/2026-01-01/a.txt", b"written")

    with pytest.raises(FilesChanged, match=r"a\.txt"):
        open_source(pipeline, "rows", connector, files).read(FIRST)
