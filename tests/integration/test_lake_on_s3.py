"""Tables in a lake on a real S3 server, with the credentials of the environment."""

import datetime as dt
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from penstock.database.connections import Connector, Database
from penstock.errors import OutsideRoots, StoreRefused, StoreUnavailable, VersionGone
from penstock.interval import DataInterval
from penstock.sources import fix_versions, open_source
from penstock.spec.pipeline import Pipeline
from tests.lake import KINDS, Kind
from tests.servers.s3 import S3Server

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
INTERVAL = DataInterval(START, START + dt.timedelta(days=1))


class RemoteLake:
    """A table in a bucket."""

    def __init__(self, kind: Kind, server: S3Server, folder: Path) -> None:
        self.kind, self.server, self.bucket = kind, server, server.make_bucket()
        self.store = server.store(self.bucket)
        obstore.put(self.store, "first", b"")  # the server makes the bucket with it
        self.url = f"s3://{self.bucket}/lake/payments"
        self.database = Database("catalog", sa.create_engine(f"sqlite:///{folder}/catalog.db"))
        properties = {"s3.endpoint": server.url, "s3.region": "us-east-1", "s3.access-key-id": "owner"}
        properties["s3.secret-access-key"] = "owner-secret"
        warehouse = f"s3://{self.bucket}/warehouse"
        self.catalog = SqlCatalog("lake", uri=str(self.database.url), warehouse=warehouse, **properties)

    def append(self, day: int) -> None:
        moments = [START.replace(day=day, hour=hour) for hour in (0, 12)]
        rows = pa.table({"id": [day * 10, day * 10 + 1], "at": pa.array(moments, pa.timestamp("us", "UTC"))})
        if self.kind == "delta":
            write_deltalake(self.url, rows, mode="append", storage_options={"allow_http": "true"})
            return
        self.catalog.create_namespace_if_not_exists("shop")
        self.catalog.create_table_if_not_exists("shop.payments", rows.schema).append(rows)

    def delete(self, condition: str) -> None:
        if self.kind == "delta":
            DeltaTable(self.url, storage_options={"allow_http": "true"}).delete(condition)
        else:
            self.catalog.load_table("shop.payments").delete(condition)

    def pipeline(self, **more: str) -> Pipeline:
        source: dict[str, Any] = {"kind": "delta", "path": self.url}
        if self.kind == "iceberg":
            source = {"kind": "iceberg", "connection": "catalog", "table": "shop.payments"}
        return Pipeline.model_validate(
            {
                "name": "p",
                "interval": {"column": "at", "grain": "1d", "start": "2026-03-01"},
                "sources": {"rows": source | {"key": ["id"]} | more},
                "model": "m@1",
                "destination": {"table": "t"},
            }
        )

    def connector(self, roots: tuple[str, ...] = ()) -> Connector:
        return Connector(lambda _: self.database, roots)


@pytest.fixture(params=KINDS)
def lake(request: pytest.FixtureRequest, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    made = RemoteLake(request.param, s3_server, tmp_path)
    for day in (1, 2, 3):
        made.append(day)
    yield made
    made.catalog.close()
    made.database.engine.dispose()


def test_rows_of_an_interval_are_read_at_the_version_of_the_plan(lake: RemoteLake) -> None:
    pipeline, connect = lake.pipeline(), fix_versions(lake.pipeline(), lake.connector())
    plan = open_source(pipeline, "rows", connect).plan(INTERVAL, 1)

    lake.delete("id = 20")

    slices = [open_source(pipeline, "rows", connect).read(INTERVAL, each)["id"].to_pylist() for each in plan.partitions]
    assert slices == [[20], [21]]
    assert plan.fingerprint.count(".parquet") == 1
    assert open_source(pipeline, "rows", lake.connector()).read(INTERVAL)["id"].to_pylist() == [21]


def test_a_removed_file_is_named(lake: RemoteLake) -> None:
    connect = fix_versions(lake.pipeline(), lake.connector())
    for page in obstore.list(lake.store):
        for found in page:
            if found["path"].endswith(".parquet") and "checkpoint" not in found["path"]:
                obstore.delete(lake.store, found["path"])

    with pytest.raises(VersionGone, match=r"is gone: its file .*\.parquet was removed"):
        open_source(lake.pipeline(), "rows", connect).plan(INTERVAL, 1)


def test_roots_limit_the_bucket(lake: RemoteLake) -> None:
    allowed = lake.connector((f"s3://{lake.bucket}",))
    assert open_source(lake.pipeline(), "rows", allowed).plan(INTERVAL, 5).rows == 2

    with pytest.raises(OutsideRoots):
        open_source(lake.pipeline(), "rows", lake.connector(("s3://other",))).plan(INTERVAL, 5)


def test_denied_access_is_an_error_without_the_secret(lake: RemoteLake, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in lake.server.environment("nobody").items():
        monkeypatch.setenv(name, value)

    with pytest.raises(StoreRefused, match="access is denied") as raised:
        open_source(lake.pipeline(), "rows", lake.connector()).plan(INTERVAL, 5)

    assert "nobody-secret" not in str(raised.value)


def test_a_store_that_does_not_answer_is_tried_again_later(lake: RemoteLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(StoreUnavailable):
        open_source(lake.pipeline(), "rows", lake.connector()).plan(INTERVAL, 5)


@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_folders_of_a_bucket_give_columns(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, format_: str
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.make_bucket()
    for month in ("03", "11"):
        rows = pa.table({"id": [int(month)]})
        file = tmp_path / f"rows.{format_}"
        pq.write_table(rows, file) if format_ == "parquet" else file.write_text(f"id\n{int(month)}\n")
        obstore.put(s3_server.store(bucket), f"in/year=2026/month={month}/a.{format_}", file.read_bytes())
    source = {"kind": "files", "path": f"s3://{bucket}/in/**/*.{format_}", "format": format_, "key": ["id"]}
    pipeline = Pipeline.model_validate(
        {"name": "p", "sources": {"rows": source}, "model": "m@1", "destination": {"table": "t"}}
    )
    warehouse = Database("warehouse", sa.create_engine("sqlite://"))

    read = open_source(pipeline, "rows", Connector(lambda _: warehouse, ())).read(None).to_pylist()

    expected = [{"id": 3, "year": 2026, "month": 3}, {"id": 11, "year": 2026, "month": 11}]
    assert sorted(read, key=lambda row: row["id"]) == expected
