"""Targets that are Delta tables: one commit a delivery, and never an older one after a newer one."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from penstock.ledger.reader import list_runs
from penstock.ledger.writer import withdraw
from penstock.upkeep.live_changes import publish_with_rows
from tests.changing_place import ChangingPlace
from tests.conftest import DIALECTS
from tests.integration.test_file_delivery import deliver_all, live_runs, write_target
from tests.lake_readers import read_delta_scores


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
