"""Targets of files: whatever moves a pointer of the warehouse, readers of the folder find the live rows only."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.delivery import deliver
from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.tables import delivered_keys, delivery_rows
from penstock.ledger.writer import withdraw
from penstock.settings import load_settings
from penstock.upkeep.live_changes import publish_with_rows
from tests.changing_place import ChangingPlace
from tests.conftest import DIALECTS
from tests.lake_readers import read_key, read_pointers, read_scores

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


def live_runs(place: ChangingPlace) -> list[RunRecord]:
    found = [run for run in list_runs(place.warehouse, limit=1000) if run.state == "published"]
    return sorted(found, key=lambda run: run.interval_key)


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
    assert pointer == {
        "pipeline": "card-risk",
        "destination": pointer["destination"],
        "interval": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        "run": run.run_id,
        "sequence": 1,
        "rows": 4,
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
