"""Targets that are Delta tables: one commit a delivery, and never an older one after a newer one."""

import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.delivery.delta import DeltaTarget
from penstock.delivery.folders import open_folder
from penstock.delivery.opening import open_outbox
from penstock.delivery.target import Reply
from penstock.delivery.unread_files import count_unread, remove_unread
from penstock.ledger.outbox import Change, Delivery
from penstock.ledger.reader import list_runs
from penstock.ledger.writer import withdraw
from penstock.object_stores import ENVIRONMENT
from penstock.upkeep.live_changes import publish_with_rows
from tests.changing_place import ChangingPlace
from tests.conftest import DIALECTS
from tests.integration.test_file_delivery import deliver_all, forget, write_target
from tests.lake_readers import read_delta_scores
from tests.pointer_moves import live_runs
from tests.servers.s3 import S3Server


@pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
def test_each_move_of_a_pointer_is_one_commit(changing_place: ChangingPlace, tmp_path: Path) -> None:
    place, path = changing_place, str(tmp_path / "table")
    write_target(place, "delta", path)
    first = deliver_all(place)
    assert (first.intervals, first.upserts, first.deletes) == (3, 12, 0), first.describe()
    assert read_delta_scores(path) == place.seen_scores()
    assert deliver_all(place).intervals == 0
    assert DeltaTable(path).version() == 3

    place.change("update payments set amount = 99 where payment_id = 21", "delete from payments where payment_id = 24")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    assert deliver_all(place).is_complete
    assert read_delta_scores(path) == place.seen_scores()
    assert DeltaTable(path).version() == 4

    withdraw(place.warehouse, live_runs(place)[1].run_id)
    assert (deliver_all(place).deletes, read_delta_scores(path)) == (3, place.seen_scores())

    [older] = [run for run in list_runs(place.warehouse, limit=1000) if run.state == "superseded"]
    publish_with_rows(place.warehouse, [older.run_id], "Ada", "it was right")
    assert (deliver_all(place).upserts, read_delta_scores(path)) == (4, place.seen_scores())
    assert DeltaTable(path).version() == 6
    rows = pa.table(DeltaTable(path).scan())
    assert {older.run_id} < set(rows["run_id"].to_pylist())
    place.verify()


def test_a_table_in_an_object_store_is_read_by_its_readers(
    changing_place: ChangingPlace, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in s3_server.environment().items():
        monkeypatch.setenv(variable, value)
    place, bucket = changing_place, s3_server.make_bucket()
    obstore.put(s3_server.store(bucket), "first", b"")  # SeaweedFS makes the bucket with it
    path = f"s3://{bucket}/{uuid.uuid4().hex}"
    write_target(place, "delta", path)
    code, text = place.command("check", "card-risk")
    assert code == 0, text

    assert deliver_all(place).is_complete
    withdraw(place.warehouse, live_runs(place)[1].run_id)
    assert deliver_all(place).is_complete
    place.run(4)
    assert deliver_all(place).is_complete

    table = DeltaTable(path, storage_options={"allow_http": "true"})
    rows = pa.table(table.scan())
    assert dict(zip(rows["payment_id"].to_pylist(), rows["score"].to_pylist(), strict=True)) == place.seen_scores()
    assert table.version() == 5


def test_a_table_never_goes_back_to_an_older_delivery(changing_place: ChangingPlace, tmp_path: Path) -> None:
    """Many processes replace one interval at once. A retry after a lost answer makes no second commit."""
    place, path = changing_place, str(tmp_path / "table")
    write_target(place, "delta", path)
    deliver_all(place)
    [run, *_] = live_runs(place)
    outbox = open_outbox(place.warehouse, place.driver.pipeline, "lake")
    target = DeltaTarget("lake", path, open_folder(path, ENVIRONMENT), ENVIRONMENT)
    change = Change(run.interval_key, run.interval, run.run_id)

    def put(sequence: int) -> Reply:
        rows = pa.table({"payment_id": [sequence], "score": [0.5]})
        while (reply := _put(sequence, rows)).again:
            pass
        return reply

    def _put(sequence: int, rows: pa.Table) -> Reply:
        return target.replace(outbox, Delivery("id", change, sequence, "", "open"), iter([rows]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(10, 18)))
    scores = read_delta_scores(path)
    assert [key for key in scores if key < 20] == [17]
    version = DeltaTable(path).version()
    assert put(17).text == "written before"
    assert "which is newer than 16" in put(16).text
    assert DeltaTable(path).version() == version

    other = replace(outbox, pipeline="other", destination="other")
    refused = target.replace(other, Delivery("id", change, 99, "", "open"), iter([]))
    assert "was not made by this target" in refused.text


def test_a_table_of_someone_else_is_refused(changing_place: ChangingPlace, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    write_deltalake(path, pa.table({"penstock_interval": ["2026"], "note": ["theirs"]}))
    write_target(changing_place, "delta", path)
    failed = deliver_all(changing_place)
    assert "was not made by this target" in failed.failures[0]
    assert DeltaTable(path).version() == 0


def test_an_erased_row_is_not_in_the_newest_version_and_goes_with_a_prune_after_a_week(
    changing_place: ChangingPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret for the tests")
    place, path = changing_place, tmp_path / "table"
    write_target(place, "delta", str(path))
    deliver_all(place)
    assert "0 rows and 1 removal" in forget(place, 22)
    assert read_delta_scores(str(path)) == place.seen_scores()
    assert 22 in pa.table(DeltaTable(path, version=3).scan())["payment_id"].to_pylist()

    given = (place.warehouse, place.driver.pipeline, str, datetime.now(UTC))
    assert list(count_unread(*given)) == []
    _age(path, timedelta(days=8))
    assert [each.files for each in count_unread(*given)] == [1]
    assert [each.files for each in remove_unread(*given)] == [1]
    live = {Path(file.removeprefix("file://")).name for file in DeltaTable(path).file_uris()}
    assert {file.name for file in path.glob("*.parquet")} == live
    assert read_delta_scores(str(path)) == place.seen_scores()


def _age(table: Path, age: timedelta) -> None:
    """Let all of a table's changes and files be older."""
    for commit in (table / "_delta_log").glob("*.json"):
        lines = [json.loads(line) for line in commit.read_text().splitlines()]
        for line in lines:
            for kind, name in (("remove", "deletionTimestamp"), ("add", "modificationTime")):
                if kind in line:
                    line[kind][name] -= int(age.total_seconds() * 1000)
        commit.write_text("\n".join(map(json.dumps, lines)) + "\n")
    then = (datetime.now(UTC) - age).timestamp()
    for file in table.rglob("*"):
        os.utime(file, (then, then))


def test_other_columns_later_are_added_to_the_table(changing_place: ChangingPlace, tmp_path: Path) -> None:
    """Intervals of before keep NULL there until they move."""
    place, path = changing_place, str(tmp_path / "table")
    write_target(place, "delta", path, ", columns: [score, country]")
    deliver_all(place)
    place.edit("columns: [score, country]", "columns: [score, amount]")
    place.run(4)
    assert deliver_all(place).is_complete
    rows = pa.table(DeltaTable(path).scan()).to_pylist()
    assert {(row["country"] is None, row["amount"] is None) for row in rows} == {(False, True), (True, False)}
    assert read_delta_scores(path) == place.seen_scores()
