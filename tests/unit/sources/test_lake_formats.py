"""What a table in a lake may have is read right, or refused by name before a row is used."""

import datetime as dt
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from deltalake import write_deltalake

from penstock.database.connections import Connector, Database
from penstock.errors import (
    AmbiguousColumns,
    MissingLakeTable,
    OutsideRoots,
    PenstockError,
    SettingsError,
    UnfitValue,
    UnreadableTable,
    UnreadableTime,
    VersionGone,
)
from penstock.interval import DataInterval
from penstock.sources import SourceReader, fix_versions, open_source
from penstock.sources.lake.reader import LakeReader
from penstock.spec.pipeline import Pipeline
from tests.lake import KINDS, DeltaLake, IcebergLake, Kind, Lake, delete_by_vector, delta_column, make_delta

UTC = dt.UTC
DAY = dt.datetime(2026, 3, 2, tzinfo=UTC)
INTERVAL = DataInterval(DAY, DAY + dt.timedelta(days=1))


@pytest.fixture
def make_lake(tmp_path: Path) -> Iterator[Any]:
    made: list[IcebergLake] = []

    def make(kind: Kind, **more: Any) -> Lake:
        if kind == "delta":
            return DeltaLake(tmp_path / "lake", **more)
        made.append(IcebergLake(tmp_path / "lake", f"sqlite:///{tmp_path}/catalog.db", **more))
        return made[-1]

    yield make
    for lake in made:
        lake.catalog.close()


def reader(lake: Lake, time: str | None = None, roots: tuple[str, ...] = (), **more: Any) -> SourceReader:
    spec: dict[str, Any] = {
        "name": "p",
        "sources": {"rows": lake.source(**({"key": ["id"]} | more))},
        "model": "m@1",
        "destination": {"table": "t"},
    }
    if time:
        spec["interval"] = {"column": time, "grain": "1d", "start": "2026-03-01"}
    url = lake.url if isinstance(lake, IcebergLake) else "sqlite://"
    catalog = Database("catalog", sa.create_engine(url))
    return open_source(Pipeline.model_validate(spec), "rows", Connector(lambda _: catalog, roots))


def read(lake: Lake, **more: Any) -> list[dict[str, Any]]:
    return sorted(reader(lake, **more).read(None).to_pylist(), key=lambda row: row["id"])


def day_of_rows(day: int, kind: pa.DataType) -> pa.Table:
    """Return four rows of a day, at 0:00, 6:00, 12:00 and one microsecond before midnight."""
    start = dt.datetime(2026, 3, day, tzinfo=UTC)
    moments = [start, start + dt.timedelta(hours=6), start + dt.timedelta(hours=12)]
    moments.append(start + dt.timedelta(days=1, microseconds=-1))
    plain: list[Any] = moments
    if pa.types.is_date(kind):
        plain = [moment.date() for moment in moments]
    elif pa.types.is_timestamp(kind) and kind.tz is None:
        plain = [moment.replace(tzinfo=None) for moment in moments]
    elif pa.types.is_int64(kind):
        plain = [int(moment.timestamp() * 1000) for moment in moments]
    return pa.table({"id": pa.array([day * 10 + n for n in range(4)], pa.int64()), "at": pa.array(plain, kind)})


TIMES = {"with zone": pa.timestamp("us", "UTC"), "without zone": pa.timestamp("us"), "date": pa.date32()}


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_files_that_may_have_rows_of_the_interval_are_read(make_lake: Any, kind: Kind, time: str) -> None:
    lake = make_lake(kind)
    for day in (1, 2, 3):
        lake.append(day_of_rows(day, TIMES[time]))
    rows = reader(lake, time="at")
    named = rows.fingerprint(INTERVAL)
    for file in lake.folder.rglob("*.parquet"):
        if file.name not in named:
            file.unlink()

    plan = rows.plan(INTERVAL, 2)
    read = rows.read(INTERVAL)

    assert (named.count(".parquet"), plan.rows, len(plan.partitions)) == (1, 4, 2)
    assert sorted(read["id"].to_pylist()) == [20, 21, 22, 23]


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_other_partitions_are_not_read(make_lake: Any, kind: Kind) -> None:
    lake = make_lake(kind, partition_by="at")
    for day in (1, 2, 3):
        lake.append(day_of_rows(day, pa.date32()))

    named = reader(lake, time="at").fingerprint(INTERVAL)

    assert named.count("at=2026-03-02") == 1
    assert named.count(".parquet") == 1
    assert [row["at"].day for row in read(lake)] == [1] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_time_is_read_as_declared_and_refused_without(make_lake: Any, kind: Kind) -> None:
    lake = make_lake(kind)
    for day in (1, 2, 3):
        lake.append(day_of_rows(day, pa.int64()))
    declared = {"at": {"type": "timestamp", "format": "epoch_ms"}}

    rows = reader(lake, time="at", columns=declared)

    assert sorted(rows.read(INTERVAL)["id"].to_pylist()) == [20, 21, 22, 23]
    assert rows.plan(INTERVAL, 100).rows == 4
    with pytest.raises(UnreadableTime, match="epoch_ms"):
        reader(lake, time="at").plan(INTERVAL, 100)
    with pytest.raises(UnfitValue, match="`id` is date"):
        reader(lake, columns={"id": "date"}).read(None)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_time_are_counted(make_lake: Any, kind: Kind) -> None:
    lake = make_lake(kind)
    lake.append(day_of_rows(2, pa.timestamp("us", "UTC")))
    lake.append(pa.table({"id": pa.array([1, 2]), "at": pa.array([None, None], pa.timestamp("us", "UTC"))}))

    assert reader(lake, time="at").count_without_time(INTERVAL) == 2


VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "whole": (pa.int64(), [2**62, None]),
    "small": (pa.int32(), [-7, None]),
    "number": (pa.float64(), [1.5, None]),
    "single": (pa.float32(), [0.5, None]),
    "yes": (pa.bool_(), [True, None]),
    "text": (pa.string(), ["ä€", None]),
    "money": (pa.decimal128(38, 10), [Decimal("1234567890123456789012345678.0000000001"), None]),
    "day": (pa.date32(), [dt.date(1900, 2, 3), None]),
    "at": (pa.timestamp("us", "UTC"), [dt.datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), None]),
    "local": (pa.timestamp("us"), [dt.datetime(2026, 3, 29, 2, 30, 0, 1, UTC).replace(tzinfo=None), None]),
    "list": (pa.list_(pa.string()), [["a", None], None]),
    "map": (pa.map_(pa.string(), pa.float64()), [[("k", 1.5)], None]),
    "struct": (pa.struct([("a", pa.int32()), ("b", pa.list_(pa.int64()))]), [{"a": 1, "b": [1, 2]}, None]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_each_type_come_back_as_they_were_written(make_lake: Any, kind: Kind) -> None:
    lake = make_lake(kind)
    written = pa.table({"id": [0, 1]} | {name: pa.array(v, t) for name, (t, v) in VALUES.items()})
    lake.append(written)

    local = {"local": dt.datetime(2026, 3, 29, 2, 30, 0, 1, UTC)}  # a time without a zone is one in UTC
    first, second = read(lake, columns={})

    assert first == {"id": 0} | {name: v[0] for name, (_, v) in VALUES.items()} | local
    assert second == {"id": 1} | dict.fromkeys(VALUES)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_the_same_order_whatever_their_files_are(make_lake: Any, kind: Kind, tmp_path: Path) -> None:
    lake = make_lake(kind)
    for day in (3, 1, 2):
        lake.append(day_of_rows(day, pa.date32()))
    before = reader(lake).plan(None, 5).partitions
    first = [reader(lake).read(None, slice_)["id"].to_pylist() for slice_ in before]

    lake.compact()

    assert first == [[10, 11, 12, 13, 20], [21, 22, 23, 30, 31], [32, 33]]
    assert [reader(lake).read(None, slice_)["id"].to_pylist() for slice_ in before] == first


def test_rows_that_a_deletion_vector_deletes_are_not_read_and_change_the_fingerprint(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path / "lake")
    configuration = {"delta.enableDeletionVectors": "true"}
    write_deltalake(lake.folder, day_of_rows(2, pa.date32()), configuration=configuration)
    before = reader(lake).fingerprint(None)
    [file] = lake.folder.glob("*.parquet")

    delete_by_vector(lake.folder, [1, 3], file.name)

    assert [row["id"] for row in read(lake)] == [20, 22]
    assert reader(lake).plan(None, 10).rows == 2
    assert reader(lake).fingerprint(None) != before


def test_columns_of_a_delta_table_with_other_names_in_its_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    pq.write_table(pa.table({"col-1": pa.array([1, 2]), "col-2": [1.5, 2.5]}), folder / "a.parquet")
    columns = [delta_column("id", "long", "col-1", 1), delta_column("new name", "double", "col-2", 2)]
    make_delta(folder, columns, ["a.parquet"], ["columnMapping"], {"delta.columnMapping.mode": "name"})

    assert read(DeltaLake(folder)) == [{"id": 1, "new name": 1.5}, {"id": 2, "new name": 2.5}]


REFUSED: dict[str, tuple[list[dict[str, Any]], list[str], dict[str, str], str]] = {
    "type widening": ([delta_column("id", "long")], ["typeWidening"], {}, "reader feature `typeWidening`"),
    "unknown feature": ([delta_column("id", "long")], ["newThing"], {}, "newThing"),
    "columns by number": (
        [delta_column("id", "long", "col-1", 1)],
        ["columnMapping"],
        {"delta.columnMapping.mode": "id"},
        "`delta.columnMapping.mode` is `id`",
    ),
    "variant": (
        [delta_column("id", "long"), delta_column("a", {"type": "struct", "fields": [delta_column("b", "variant")]})],
        ["variantType"],
        {},
        r"the column `a\.b` has the type `variant`",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_delta_table_that_would_be_read_wrong_is_refused_by_name(tmp_path: Path, what: str) -> None:
    columns, features, configuration, reason = REFUSED[what]
    folder = tmp_path / "lake"
    folder.mkdir()
    pq.write_table(pa.table({"id": pa.array([1], pa.int32())}), folder / "a.parquet")
    make_delta(folder, columns, ["a.parquet"], features, configuration)

    with pytest.raises(UnreadableTable, match=reason) as raised:
        read(DeltaLake(folder))

    assert "No row of it was used" in str(raised.value)


def test_changed_columns_of_an_iceberg_table_are_read_as_they_are_now(make_lake: Any) -> None:
    from pyiceberg.types import DoubleType, LongType

    lake = make_lake("iceberg")
    old = {
        "id": pa.array([1]),
        "amount": [1.5],
        "count": pa.array([7], pa.int32()),
        "single": pa.array([0.5], pa.float32()),
    }
    lake.append(pa.table(old | {"gone": ["x"]}))
    with lake.table.update_schema() as change:
        change.rename_column("amount", "price")
        change.delete_column("gone")
        change.update_column("count", LongType())
        change.update_column("single", DoubleType())
    lake.append(pa.table({"id": [2], "price": [2.5], "count": [2**40], "single": [0.25], "new": ["n"]}))

    assert read(lake) == [
        {"id": 1, "price": 1.5, "count": 7, "single": 0.5, "new": None},
        {"id": 2, "price": 2.5, "count": 2**40, "single": 0.25, "new": "n"},
    ]


def test_nanoseconds_of_an_iceberg_table_select_and_are_cut_off_at_the_microsecond(make_lake: Any) -> None:
    lake = make_lake("iceberg")
    start = int(DAY.timestamp()) * 1_000_000_000
    times = [start - 1, start, start + 86_400_000_000_000 - 1, start + 86_400_000_000_000]
    kinds = {"at": pa.timestamp("us", "UTC"), "local": pa.timestamp("us")}
    fields = [pa.field("id", pa.int64()), *(pa.field(name, kind) for name, kind in kinds.items())]
    lake.catalog.create_namespace("shop")
    lake.catalog.create_table(lake.name, pa.schema(fields), properties={"write.metadata.metrics.default": "none"})
    lake.append(pa.table([range(4), [0] * 4, [0] * 4], schema=pa.schema(fields)))
    _make_nanoseconds(lake, times)

    last = dt.datetime(2026, 3, 2, 23, 59, 59, 999999, UTC)
    for time in kinds:
        found = reader(lake, time=time).read(INTERVAL)
        assert sorted(found["id"].to_pylist()) == [1, 2]
        assert max(found[time].cast(pa.timestamp("us", "UTC"), safe=False).to_pylist()) == last


def _make_nanoseconds(lake: IcebergLake, times: list[int]) -> None:
    """Make the times of a table nanoseconds, as format 3 has them. The library only reads that format."""
    [task] = lake.table.scan().plan_files()
    file = Path(task.file.file_path.removeprefix("file://"))
    schema = pq.read_schema(file)
    kinds = [pa.int64(), pa.timestamp("ns", "UTC"), pa.timestamp("ns")]
    typed = [field.with_type(kind) for field, kind in zip(schema, kinds, strict=True)]
    pq.write_table(pa.table([range(4), times, times], schema=pa.schema(typed)), file)
    metadata = Path(lake.table.metadata_location.removeprefix("file://"))
    text = metadata.read_text().replace('"timestamptz"', '"timestamptz_ns"').replace('"timestamp"', '"timestamp_ns"')
    text = text.replace('"format-version":2', '"format-version":3,"next-row-id":0')
    metadata.write_text(text)


def test_rows_that_an_iceberg_table_deletes_are_not_read(make_lake: Any) -> None:
    lake = make_lake("iceberg")
    lake.append(day_of_rows(2, pa.date32()))
    _add_delete_file(lake, "position", [1, 3])

    assert [row["id"] for row in read(lake)] == [20, 22]
    assert " without " in reader(lake).fingerprint(None)


def test_equality_deletes_of_an_iceberg_table_are_refused_by_name(make_lake: Any) -> None:
    lake = make_lake("iceberg")
    lake.append(day_of_rows(2, pa.date32()))
    _add_delete_file(lake, "equality", [21])

    with pytest.raises(UnreadableTable, match="equality deletes"):
        reader(lake).plan(None, 10)


def _add_delete_file(lake: IcebergLake, kind: str, values: list[int]) -> None:
    """Commit a file of deletes, as Spark or Flink do. The library itself writes none."""
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    [task] = lake.table.scan().plan_files()
    path = lake.folder / f"{uuid.uuid4()}.parquet"
    if kind == "position":
        fields = [pa.field("file_path", pa.string(), metadata={"PARQUET:field_id": "2147483546"}),
                  pa.field("pos", pa.int64(), metadata={"PARQUET:field_id": "2147483545"})]  # fmt: skip
        rows = pa.table([[task.file.file_path] * len(values), values], schema=pa.schema(fields))
    else:
        rows = pa.table([values], schema=pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})]))
    pq.write_table(rows, path)
    content = DataFileContent.POSITION_DELETES if kind == "position" else DataFileContent.EQUALITY_DELETES
    file = DataFile.from_args(
        content=content, file_path=path.as_uri(), file_format=FileFormat.PARQUET, partition=Record(),
        record_count=len(values), file_size_in_bytes=path.stat().st_size, column_sizes={}, value_counts={},
        null_value_counts={}, nan_value_counts={}, lower_bounds={}, upper_bounds={}, key_metadata=None,
        split_offsets=None, equality_ids=[1] if kind == "equality" else None, sort_order_id=None,
    )  # fmt: skip
    _commit_deletes(lake, file)


def _commit_deletes(lake: IcebergLake, file: Any) -> None:
    """Commit a manifest of deletes beside those that there are."""
    from pyiceberg.manifest import ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestWriterV2
    from pyiceberg.table.update.snapshot import _FastAppendFiles

    class DeletesWriter(ManifestWriterV2):
        def content(self) -> Any:
            return ManifestContent.DELETES

    class AppendDeletes(_FastAppendFiles):
        def _manifests(self) -> Any:
            output = self._io.new_output(f"{lake.table.location()}/metadata/{uuid.uuid4()}.avro")
            spec = self._transaction.table_metadata.spec()
            schema = self._transaction.table_metadata.schema()
            with DeletesWriter(spec, schema, output, self._snapshot_id, "null") as writer:
                status = ManifestEntryStatus.ADDED
                entry = ManifestEntry.from_args(
                    status=status, snapshot_id=self._snapshot_id, sequence_number=None, file_sequence_number=None,
                    data_file=file,
                )  # fmt: skip
                writer.add_entry(entry)
            return [writer.to_manifest_file(), *self._existing_manifests()]

    from pyiceberg.table.snapshots import Operation

    with lake.table.transaction() as transaction:
        AppendDeletes(operation=Operation.OVERWRITE, transaction=transaction, io=lake.table.io).commit()


def test_an_iceberg_table_without_a_snapshot_has_no_rows(make_lake: Any) -> None:
    lake = make_lake("iceberg")
    lake.catalog.create_namespace("shop")
    lake.catalog.create_table(lake.name, pa.schema([("id", pa.int64())]))

    assert read(lake) == []
    assert reader(lake).plan(None, 10).rows == 0


def test_a_table_that_does_not_exist_is_named(make_lake: Any) -> None:
    lake = make_lake("iceberg")
    lake.append(day_of_rows(2, pa.date32()))

    with pytest.raises(MissingLakeTable, match=r"no Iceberg table `shop\.payment` .* Did you mean `shop\.payments`"):
        reader(lake, table="shop.payment").plan(None, 10)
    with pytest.raises(MissingLakeTable, match="no Delta table at `nowhere`"):
        reader(DeltaLake(Path("nowhere"))).plan(None, 10)


def test_a_catalog_must_be_named_if_several_have_the_table(make_lake: Any, tmp_path: Path) -> None:
    lake = make_lake("iceberg")
    lake.append(day_of_rows(2, pa.date32()))
    other = IcebergLake(tmp_path / "other", lake.url, catalog_name="other")
    other.append(day_of_rows(3, pa.date32()))

    with pytest.raises(SettingsError, match=r"the catalogs `lake`, `other` .* `catalog:`"):
        read(lake)
    assert [row["id"] for row in read(lake, catalog="other")] == [30, 31, 32, 33]
    other.catalog.close()


def test_a_database_without_a_catalog_is_named_and_stays_as_it_is(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, f"sqlite:///{tmp_path}/empty.db")
    sa.create_engine(lake.url).connect().close()

    with pytest.raises(MissingLakeTable, match="the database has no table `iceberg_tables`"):
        read(lake)
    assert sa.inspect(sa.create_engine(lake.url)).get_table_names() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_library_names_the_extra(make_lake: Any, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = make_lake(kind)
    lake.append(day_of_rows(2, pa.date32()))
    for module in ("deltalake", "pyiceberg.table"):
        monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(SettingsError, match=f"Install Penstock's extra `{kind}`"):
        read(lake)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_outside_of_the_allowed_folders_is_refused(make_lake: Any, kind: Kind, tmp_path: Path) -> None:
    lake = make_lake(kind)
    lake.append(day_of_rows(2, pa.date32()))

    assert len(read(lake, roots=(str(tmp_path),))) == 4
    with pytest.raises(OutsideRoots):
        read(lake, roots=(str(tmp_path / "other"),))


def test_a_data_file_of_an_allowed_table_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    secret = tmp_path / "secret.parquet"
    pq.write_table(pa.table({"id": [1]}), secret)
    os.symlink(secret, folder / "a.parquet")
    make_delta(folder, [delta_column("id", "long")], ["a.parquet"])

    assert read(DeltaLake(folder)) == [{"id": 1}]
    with pytest.raises(OutsideRoots):
        read(DeltaLake(folder), roots=(str(folder),))


def test_names_that_differ_in_case_are_refused(make_lake: Any) -> None:
    lake = make_lake("iceberg")
    lake.append(pa.table({"id": [1], "Amount": [1.5], "amount": [2.5]}))

    with pytest.raises(AmbiguousColumns, match="`Amount`, `amount`"):
        read(lake)


def test_a_private_value_in_a_path_is_not_shown(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path / "lake", partition_by="email")
    lake.append(pa.table({"id": [1], "email": ["zoe@example.com"]}))
    for file in lake.folder.rglob("*.parquet"):
        file.unlink()

    with pytest.raises(PenstockError) as raised:
        read(lake, private={"email": "hash"})

    assert "zoe" not in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_whose_log_or_metadata_was_cleaned_up_is_gone(make_lake: Any, kind: Kind) -> None:
    lake = make_lake(kind)
    for day in (1, 2):
        lake.append(day_of_rows(day, pa.date32()))
    rows = reader(lake)
    assert isinstance(rows, LakeReader)
    planned = replace(rows.connect, versions={"rows": rows.read_version()})
    lake.append(day_of_rows(3, pa.date32()))
    if isinstance(lake, DeltaLake):
        lake.table.create_checkpoint()
        old = [lake.folder / "_delta_log" / f"{number:020}.json" for number in range(2)]
    else:
        old = [Path(planned.versions["rows"].location.removeprefix("file://"))]
    for file in old:
        file.unlink()

    with pytest.raises(VersionGone, match="Run again to read the newest version"):
        replace(rows, connect=planned).plan(None, 10)
    assert reader(lake).plan(None, 100).rows == 12


def test_a_version_is_fixed_before_the_contract_is_compared(make_lake: Any) -> None:
    lake = make_lake("delta")
    lake.append(day_of_rows(2, pa.date32()))
    pipeline = Pipeline.model_validate(
        {"name": "p", "sources": {"rows": lake.source(key=["id"])}, "model": "m@1", "destination": {"table": "t"}}
    )
    nothing = Database("none", sa.create_engine("sqlite://"))

    connect = fix_versions(pipeline, Connector(lambda _: nothing, ()))
    lake.append(day_of_rows(3, pa.date32()))

    assert open_source(pipeline, "rows", connect).plan(None, 10).rows == 4
    assert connect.versions["rows"].version == "0"
