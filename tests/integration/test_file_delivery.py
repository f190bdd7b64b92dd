"""Targets of files: whatever moves a pointer of the warehouse, readers of the folder find the live rows only."""

import hashlib
import json
import os
import random
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import obstore
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from deltalake import DeltaTable

from penstock.delivery import deliver
from penstock.delivery.files import FileTarget
from penstock.delivery.folders import open_folder
from penstock.delivery.opening import open_outbox
from penstock.delivery.target import Reply
from penstock.delivery.unread_files import count_unread, remove_unread
from penstock.errors import TargetMoved
from penstock.interval import iso
from penstock.ledger.delivery_targets import release_lease, take_lease
from penstock.ledger.outbox import Change, Delivery
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import delivered_keys, deliveries, delivery_rows, delivery_targets
from penstock.ledger.writer import withdraw
from penstock.object_stores import ENVIRONMENT
from penstock.settings import load_settings
from penstock.spec.deliver import FileDelivery
from penstock.upkeep.live_changes import publish_with_rows
from tests.changing_place import ChangingPlace
from tests.conftest import DIALECTS
from tests.lake_readers import (
    data_files,
    list_keys,
    named_files,
    read_delta_scores,
    read_key,
    read_pointers,
    read_scores,
)
from tests.pointer_moves import live_runs, move_at_random
from tests.servers.s3 import S3Server

FOLDER = "{interval_start:%Y-%m-%d}/{run_id}"
FORMATS = ("parquet", "csv")

MakeRoot = Callable[[str], str]


def write_target(place: ChangingPlace, kind: str, root: str, more: str = "") -> None:
    """Let the pipeline deliver to a folder."""
    folder = load_settings().pipelines
    folder.mkdir(parents=True, exist_ok=True)
    place.spec = place.spec.rename(folder / "card-risk.yaml")
    path = root if kind == "delta" else f"{root}/{FOLDER}"
    place.add(f'deliver: [{{kind: {kind}, name: lake, path: "{path}"{more}}}]')


def deliver_all(place: ChangingPlace) -> deliver.Delivered:
    return place.driver.does.deliver("lake")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
def test_each_move_of_a_pointer_moves_that_of_the_folder(
    changing_place: ChangingPlace, kind: str, tmp_path: Path
) -> None:
    place, root = changing_place, str(tmp_path / "out")
    write_target(place, kind, root)
    first = deliver_all(place)
    assert (first.intervals, first.upserts, first.deletes) == (3, 12, 0)
    assert read_scores(root) == place.seen_scores()
    assert deliver_all(place).intervals == 0

    pointers = read_pointers(root)
    [run, *_] = live_runs(place)
    pointer = pointers["_live/20260101T000000Z-20260102T000000Z.json"]
    [file] = pointer.pop("files")
    with place.warehouse.reading() as connection:
        delivery_id = connection.execute(sa.select(deliveries.c.delivery_id).where(deliveries.c.sequence == 1)).scalar()
    assert pointer == {
        "pipeline": "card-risk",
        "destination": pointer["destination"],
        "interval": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        "run": run.run_id,
        "sequence": 1,
        "delivery": delivery_id,
        "rows": 4,
        "replaced": [],
        "ledger": open_outbox(place.warehouse, place.driver.pipeline, "lake").ledger,
    }
    content = read_key(root, file["path"])
    assert file["path"] == f"2026-01-01/{run.run_id}/lake-00000001.{kind}"
    assert (file["rows"], file["bytes"]) == (4, len(content))
    assert file["sha256"] == hashlib.sha256(content).hexdigest()

    place.change("update payments set amount = 99 where payment_id = 21", "delete from payments where payment_id = 24")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    second = deliver_all(place)
    assert (second.intervals, second.upserts, second.deletes) == (1, 1, 1)
    assert read_scores(root) == place.seen_scores()

    withdraw(place.warehouse, live_runs(place)[1].run_id)
    assert (deliver_all(place).deletes, read_scores(root)) == (3, place.seen_scores())
    gone = read_pointers(root)["_live/20260102T000000Z-20260103T000000Z.json"]
    assert (gone["run"], gone["rows"], gone["files"]) == (None, 0, [])

    [older] = [run for run in list_runs(place.warehouse, limit=1000) if run.state == "superseded"]
    publish_with_rows(place.warehouse, [older.run_id], "Ada", "it was right")
    assert (deliver_all(place).upserts, read_scores(root)) == (4, place.seen_scores())
    assert _count(place, delivery_rows) == 0
    assert _count(place, delivered_keys) == 12
    place.verify()


def _count(place: ChangingPlace, table: sa.Table) -> int:
    with place.warehouse.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "FIRST_PAUSE", 0.01)


@pytest.fixture
def make_root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeRoot:
    """Return a new folder: a local one, or one in a bucket of a server that the environment points at."""

    def make(scheme: str) -> str:
        if scheme == "local":
            return str(tmp_path / "out")
        server: Any = request.getfixturevalue({"s3": "s3_server", "gs": "google_server", "az": "azure_server"}[scheme])
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        if scheme not in _BUCKETS:
            _BUCKETS[scheme] = server.make_container() if scheme == "az" else server.make_bucket()
            obstore.put(server.store(_BUCKETS[scheme]), "first", b"")  # SeaweedFS makes the bucket with it
        bucket = _BUCKETS[scheme]
        return f"{scheme}://{bucket}/{uuid.uuid4().hex}"

    return make


_BUCKETS: dict[str, str] = {}
"""One of each server. Each test has a folder in it."""


def files_of(place: ChangingPlace, root: str) -> FileTarget:
    [spec] = place.driver.pipeline.deliver
    assert isinstance(spec, FileDelivery)
    return FileTarget(spec.name, spec.kind, spec.template, open_folder(root, ENVIRONMENT))


def forget(place: ChangingPlace, key: int) -> str:
    place.change(f"delete from payments where payment_id = {key}")
    code, text = place.command("forget", "card-risk", str(key), "--yes")
    assert code == 0, text
    return " ".join(text.split())


@pytest.mark.parametrize("scheme", ["local", "s3", "gs", "az"])
def test_an_erased_row_is_in_no_file_any_more(
    changing_place: ChangingPlace, make_root: MakeRoot, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the live one, and in none of an older run, which readers may have been reading."""
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret for the tests")
    place, root = changing_place, make_root(scheme)
    write_target(place, "csv", root)
    assert deliver_all(place).is_complete
    place.change("update payments set amount = 99 where payment_id = 21")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    deliver_all(place)
    old = [key for key in data_files(root) if b"\r\n22," in read_key(root, key)]
    assert len(old) == 2
    assert set(old) > {key for key in named_files(root) if key in old}

    text = forget(place, 22)

    assert "1 interval delivered, 0 rows and 1 removal" in text
    assert read_scores(root) == place.seen_scores()
    assert 22 not in read_scores(root)
    assert data_files(root) == named_files(root)
    assert all(b"\r\n22," not in read_key(root, key) for key in data_files(root))
    with place.warehouse.reading() as connection:
        assert connection.execute(sa.select(delivery_targets.c.erased_at)).scalar() is None
    place.verify()


def test_an_erased_row_that_only_older_files_have_is_removed_too(
    changing_place: ChangingPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its interval is live without it, so nothing is delivered. The folder was busy meanwhile."""
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret for the tests")
    place, root = changing_place, str(tmp_path / "out")
    write_target(place, "csv", root)
    deliver_all(place)
    place.change("delete from payments where payment_id = 24")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    deliver_all(place)
    assert len(data_files(root)) == 4
    outbox = open_outbox(place.warehouse, place.driver.pipeline, "lake")
    token = take_lease(place.warehouse, outbox, 60)
    forget(place, 24)
    assert len(data_files(root)) == 4

    release_lease(place.warehouse, outbox, token)
    assert deliver_all(place).is_complete
    assert data_files(root) == named_files(root)
    assert len(data_files(root)) == 3


@pytest.mark.parametrize("scheme", ["local", "s3", "gs", "az"])
def test_prune_removes_what_no_pointer_names_after_a_day(
    changing_place: ChangingPlace, make_root: MakeRoot, scheme: str
) -> None:
    place, root = changing_place, make_root(scheme)
    write_target(place, "parquet", root)
    deliver_all(place)
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    deliver_all(place)
    foreign = f"2026-01-01/{'0' * 32}/notes-00000001.parquet"
    folder = open_folder(root, ENVIRONMENT)
    with folder.writing(foreign) as path:
        path.write_bytes(b"not ours")
    given = (place.warehouse, place.driver.pipeline, str)
    now = datetime.now(UTC)
    assert list(remove_unread(*given, now)) == []
    assert [each.files for each in count_unread(*given, now + timedelta(days=2))] == [1]

    assert [each.files for each in remove_unread(*given, now + timedelta(days=2))] == [1]

    assert data_files(root) == sorted([*named_files(root), foreign])
    assert read_scores(root) == place.seen_scores()


def test_the_prune_command_counts_files_and_removes_them(changing_place: ChangingPlace, tmp_path: Path) -> None:
    """Those that a killed process has begun to write, too."""
    place, root = changing_place, tmp_path / "out"
    write_target(place, "parquet", str(root))
    deliver_all(place)
    [run, *_] = live_runs(place)
    withdraw(place.warehouse, run.run_id)
    deliver_all(place)
    begun = root / f"2026-01-01/{run.run_id}/.lake-00000009.parquet-{uuid.uuid4().hex}"
    begun.write_bytes(b"half")
    for path in (root / f"2026-01-01/{run.run_id}").iterdir():
        os.utime(path, (1, 1))
    code, text = place.command("prune", "card-risk", "--dry-run")
    assert "1 file would be removed" in " ".join(text.split()), text  # the other one is live no more since just now
    pointer = root / "_live/20260101T000000Z-20260102T000000Z.json"
    content = json.loads(pointer.read_text())
    content["replaced"][0]["at"] = iso(datetime.now(UTC) - timedelta(days=1, minutes=1))
    pointer.write_text(json.dumps(content))

    code, text = place.command("prune", "card-risk", "--dry-run")
    assert code == 0, text
    assert "0 rows and 2 files would be removed" in " ".join(text.split())
    code, text = place.command("prune", "card-risk", "--yes")
    assert code == 0, text
    assert "2 files removed" in text
    assert not (root / "2026-01-01").exists()
    assert read_scores(str(root)) == place.seen_scores()


@pytest.mark.parametrize("scheme", ["local", "s3", "gs", "az"])
def test_a_pointer_never_moves_back(changing_place: ChangingPlace, make_root: MakeRoot, scheme: str) -> None:
    """Many processes move one pointer at once, each to another delivery. The newest one stands."""
    place, root = changing_place, make_root(scheme)
    write_target(place, "parquet", root)
    deliver_all(place)
    [run, *_] = live_runs(place)
    outbox = open_outbox(place.warehouse, place.driver.pipeline, "lake")
    target, rows = files_of(place, root), pa.table({"payment_id": [1], "score": [0.5]})
    change = Change(run.interval_key, run.interval, run.run_id)

    def move(sequence: int) -> Reply:
        return target.replace(outbox, Delivery("id", change, sequence, "", "open"), iter([rows]))

    with ThreadPoolExecutor(8) as pool:
        replies = dict(zip(range(10, 22), pool.map(move, range(10, 22)), strict=True))
    pointer = read_pointers(root)["_live/20260101T000000Z-20260102T000000Z.json"]
    assert pointer["sequence"] == 21
    assert replies[21].accepted
    assert "which is newer than 9" in move(9).text
    assert not move(9).again
    assert move(21).text == "written before"
    other = replace(outbox, pipeline="other", destination="other")
    assert (
        "belongs to the pipeline `card-risk`"
        in target.replace(other, Delivery("id", change, 99, "", "open"), iter([rows])).text
    )


def test_a_folder_that_takes_no_files_is_named_and_healed(changing_place: ChangingPlace, tmp_path: Path) -> None:
    place, root = changing_place, tmp_path / "out"
    write_target(place, "parquet", str(root))
    root.write_text("a file in its place")
    failed = deliver_all(place)
    assert failed.intervals == 0
    assert f"Not a directory ({root}" in failed.failures[0] or "File exists" in failed.failures[0]
    code, text = place.command("check", "card-risk")
    assert code != 0
    assert "cannot be written: Not a directory" in " ".join(text.split())
    assert len(place.view()) == 12

    root.unlink()
    assert deliver_all(place).is_complete
    assert read_scores(str(root)) == place.seen_scores()
    place.verify()


def test_a_full_disk_fails_the_delivery_and_leaves_the_pointer(changing_place: ChangingPlace, tmp_path: Path) -> None:
    place, root = changing_place, tmp_path / "out"
    write_target(place, "parquet", str(root))
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "full", root]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        (root / "ballast").write_bytes(b"x" * 16_384)
        failed = deliver_all(place)
        assert "No space left on device" in failed.failures[0]
        assert read_pointers(str(root)) == {}
        assert not [key for key in list_keys(str(root)) if key.endswith(".parquet")]
    finally:
        subprocess.run(["umount", root], check=True)
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(delivery_targets).values(not_before=None))
    assert deliver_all(place).is_complete
    assert read_scores(str(root)) == place.seen_scores()


@pytest.mark.parametrize(
    ("changing_place", "kind", "seed"),
    [*zip(DIALECTS, ("parquet", "csv", "delta"), range(3), strict=True), ("sqlite", "delta", 7)],
    indirect=["changing_place"],
)
def test_whatever_happens_readers_find_the_live_rows_in_the_end(
    changing_place: ChangingPlace, tmp_path: Path, kind: str, seed: int
) -> None:
    """Publishes, restates, withdrawals and runs that become live again, between deliveries to a place that fails."""
    place, root, chance = changing_place, tmp_path / "out", random.Random(seed)
    write_target(place, kind, str(root))
    for _ in range(14):
        if chance.random() < 0.2 and root.exists():
            root.rename(tmp_path / "away")
            root.write_text("a file in its place")
            deliver_all(place)
            root.unlink()
            (tmp_path / "away").rename(root)
        else:
            move_at_random(place, chance)
        if chance.random() < 0.6:
            deliver_all(place)
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(delivery_targets).values(not_before=None))
    assert deliver_all(place).is_complete
    read = read_delta_scores if kind == "delta" else read_scores
    assert read(str(root)) == place.seen_scores()
    place.verify()


@pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
def test_values_keep_their_types_in_parquet_and_csv_and_delta(changing_place: ChangingPlace, tmp_path: Path) -> None:
    place = changing_place
    place.change("alter table payments add column price numeric(12, 3)")
    place.change("update payments set price = 12.5, country = null where payment_id = 21")
    place.edit("keep: [amount, country]", "keep: [amount, country, items, first, created_at, price]")
    parquet, csv, delta = (tmp_path / name for name in ("parquet", "csv", "delta"))
    write_target(place, "parquet", str(parquet))
    spec = place.spec.read_text()
    line = spec.splitlines()[-1]
    more = [line.replace("lake", "text").replace("kind: parquet", "kind: csv").replace(str(parquet), str(csv))]
    more.append(f'deliver: [{{kind: delta, name: table, path: "{delta}"}}]')
    targets = ", ".join(each.removeprefix("deliver: [").removesuffix("]") for each in (line, *more))
    place.spec.write_text(spec.replace(line, f"deliver: [{targets}]"))
    assert place.run(3, "restate", "2026-01-02", "2026-01-03") == ["published 2026-01-02 → 01-03"]
    for name in ("lake", "text", "table"):
        done = place.driver.does.deliver(name)
        assert done.is_complete, done.describe()

    [path] = [key for key in named_files(str(parquet)) if key.startswith("2026-01-02")]
    rows = pq.read_table(parquet / path, partitioning=None)
    kinds = {field.name: str(field.type) for field in rows.schema}
    price = kinds.pop("price")
    assert price == "double" if place.warehouse.engine.dialect.name == "sqlite" else price.startswith("decimal128(")
    assert kinds == {
        "payment_id": "int64",
        "score": "double",
        "amount": "double",
        "country": "string",
        "items": "int64",
        "first": "bool",
        "created_at": "timestamp[us, tz=UTC]",
    }
    first, *_ = rows.to_pylist()
    assert (first["payment_id"], first["country"], first["price"]) == (21, None, Decimal("12.5"))
    assert first["created_at"] == datetime(2026, 1, 2, 3, tzinfo=UTC)

    [path] = [key for key in named_files(str(csv)) if key.startswith("2026-01-02")]
    written = (csv / path).read_bytes().decode()
    header, one, *_ = written.split("\r\n")
    assert sorted(header.replace('"', "").split(",")) == sorted([*kinds, "price"])
    fields = dict(zip(header.replace('"', "").split(","), one.split(","), strict=True))
    assert (fields["country"], fields["created_at"], fields["first"]) == ("", '"2026-01-02T03:00:00Z"', "true")
    assert float(fields["score"]) == place.seen_scores()[21]

    table = pa.table(DeltaTable(str(delta)).scan()).to_pylist()
    [same] = [row for row in table if row["payment_id"] == 21]
    assert {name: same[name] for name in first} == first
    assert same["interval_start"] == datetime(2026, 1, 2, tzinfo=UTC)


def test_readers_of_other_tools_find_the_live_files_through_the_pointers(
    changing_place: ChangingPlace, tmp_path: Path
) -> None:
    """DuckDB, pandas and pyarrow, as docs/delivery.md has it."""
    place, root = changing_place, str(tmp_path / "out")
    write_target(place, "parquet", root)
    deliver_all(place)
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    withdraw(place.warehouse, live_runs(place)[0].run_id)
    deliver_all(place)
    live = place.seen_scores()

    found = duckdb.sql(f"""
        select list('{root}/' || file.path)
        from (select unnest(files) as file
              from read_json('{root}/_live/*.json', columns = {{files: 'struct(path varchar)[]'}}))
    """).fetchall()
    [[paths]] = found
    assert dict(duckdb.execute("select payment_id, score from read_parquet($1)", [paths]).fetchall()) == live
    assert dict(pd.concat(map(pd.read_parquet, paths)).set_index("payment_id")["score"]) == live
    rows = pq.ParquetDataset(paths, partitioning=None).read()
    assert dict(zip(rows["payment_id"].to_pylist(), rows["score"].to_pylist(), strict=True)) == live


def test_a_private_key_is_in_files_as_its_hash(
    changing_place: ChangingPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret for the tests")
    place, root = changing_place, str(tmp_path / "out")
    place.edit("updated_column: updated_at}", "updated_column: updated_at, private: {payment_id: hash}}")
    write_target(place, "csv", root, ", where: \"country <> 'DE'\", columns: [score]")
    deliver_all(place)
    files = [pd.read_csv(f"{root}/{key}") for key in named_files(root)]
    assert all(file["payment_id"].is_monotonic_increasing for file in files)  # not in the order of the plain keys
    rows = pd.concat(files)
    assert list(rows.columns) == ["payment_id", "score"]
    assert rows["payment_id"].str.startswith("hash:").all()
    assert len(rows) == len([1 for _, country in place.view("country") if country != "DE"])


def test_check_refuses_a_place_that_cannot_be(
    changing_place: ChangingPlace, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in s3_server.environment().items():
        monkeypatch.setenv(variable, value)
    place = changing_place
    write_target(place, "parquet", f"s3://{s3_server.make_bucket()}/out")
    code, text = place.command("check", "card-risk")
    assert code != 0
    assert "there is no bucket `bucket-" in " ".join(text.split())

    [line] = [line for line in place.spec.read_text().splitlines() if line.startswith("deliver:")]
    for targets, reason in (
        ("{kind: csv, name: a, path: 'x/{day}/{run_id}'}", "has the field `{day}`"),
        ("{kind: csv, name: a, path: 'x/../{run_id}'}", "a part `.` or `..`"),
        ("{kind: csv, name: a, path: 'x/{run_id}'}, {kind: delta, name: b, path: ./x/y}", "are both in `x`"),
        ("{kind: delta, name: a, path: 'x/{run_id}'}", "a Delta table has no fields"),
        ("{kind: delta, name: a, path: 'gs://x/y'}", "in a local folder, or in one of `s3://"),
        ("{kind: csv, name: a, path: 'x/{run_id}', connection: lake}", "is for a path in an object store"),
    ):
        place.edit(line, f"deliver: [{targets}]")
        line = f"deliver: [{targets}]"
        code, text = place.command("check", "card-risk")
        assert code != 0
        assert reason in " ".join(text.split()), text


def test_a_whole_run_is_written_again_if_asked(changing_place: ChangingPlace, tmp_path: Path) -> None:
    """A file was lost, and is written under another name."""
    place, root = changing_place, str(tmp_path / "out")
    write_target(place, "parquet", root)
    deliver_all(place)
    lost = named_files(root)[0]
    (Path(root) / lost).unlink()
    code, text = place.command("deliver", "run", live_runs(place)[0].run_id, "--again")
    assert code == 0, text
    assert lost not in named_files(root)
    assert read_scores(root) == place.seen_scores()
    place.verify()


def test_prune_removes_nothing_if_a_pointer_cannot_be_read(changing_place: ChangingPlace, tmp_path: Path) -> None:
    place, root = changing_place, tmp_path / "out"
    write_target(place, "parquet", str(root))
    deliver_all(place)
    pointer = next((root / "_live").glob("2*.json"))
    pointer.write_text("half")
    given = (place.warehouse, place.driver.pipeline, str, datetime.now(UTC) + timedelta(days=2))
    [kept] = remove_unread(*given)
    assert "cannot be read" in kept.error
    assert len(data_files(str(root))) == 3


def test_another_place_needs_another_name(changing_place: ChangingPlace, tmp_path: Path) -> None:
    """The rows at the former place would else be live there for ever."""
    place, root = changing_place, tmp_path / "out"
    write_target(place, "csv", str(root))
    deliver_all(place)
    for before, after in (("kind: csv", "kind: parquet"), (str(root), f"{root}-2")):
        place.edit(before, after)
        code, text = place.command("check", "card-risk")
        assert code != 0
        assert "`lake` in `deliver` of `card-risk` has rows at another place" in " ".join(text.split())
        with pytest.raises(TargetMoved):
            deliver_all(place)
        place.edit(after, before)
    assert deliver_all(place).is_complete

    [line] = [line for line in place.spec.read_text().splitlines() if line.startswith("deliver:")]
    place.edit(line, line.replace("lake", "sea").replace(str(root), f"{root}-2"))
    assert place.driver.does.deliver("sea").intervals == 3
    code, text = place.command("forget", "card-risk", "22", "--dry-run")
    assert "1 row at targets that `deliver` no longer reaches: to be removed there by hand" in " ".join(text.split())


@pytest.mark.parametrize("changing_place", ["postgresql"], indirect=True)
def test_a_column_that_is_not_delivered_refuses_none(changing_place: ChangingPlace, tmp_path: Path) -> None:
    """A number that fits into no column of a file is kept with the scores."""
    place, root = changing_place, str(tmp_path / "out")
    place.change("alter table payments add column rate numeric")
    place.change("update payments set rate = 0.123456789012")
    place.edit("keep: [amount, country]", "keep: [amount, country, rate]")
    write_target(place, "csv", root, ", where: rate < 0.2, columns: [score]")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    assert deliver_all(place).is_complete
    assert sorted(read_scores(root)) == [21, 22, 23, 24]
