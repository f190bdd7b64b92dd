"""A folder and a Delta table: whose they are, which delivery they have, and which of their files nobody reads."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.delivery.delta import DeltaTarget
from penstock.delivery.files import GRACE, FileTarget
from penstock.delivery.folders import open_folder
from penstock.delivery.target import IntervalTarget, Reply
from penstock.interval import DataInterval
from penstock.ledger.outbox import Change, Delivery, Outbox
from penstock.object_stores import ENVIRONMENT
from penstock.spec.target_path import TargetPath

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "0123456789abcdef" * 2
CHANGE = Change("2026-01-01", DataInterval(FIRST, FIRST + timedelta(days=1)), RUN)
OUTBOX = Outbox("card-risk", "main.scores", "lake", "2026-01-01T00:00:00.000001+00:00")

MakeTarget = Callable[[Path], IntervalTarget]


def make_files(root: Path) -> FileTarget:
    return FileTarget("lake", "csv", TargetPath(f"{root}/{{run_id}}"), open_folder(str(root), ENVIRONMENT))


def make_delta(root: Path) -> DeltaTarget:
    return DeltaTarget("lake", str(root), open_folder(str(root), ENVIRONMENT), ENVIRONMENT)


def deliver(target: IntervalTarget, sequence: int, delivery_id: str = "", outbox: Outbox = OUTBOX) -> Reply:
    delivery = Delivery(delivery_id or str(sequence), CHANGE, sequence, "", "open")
    return target.replace(outbox, delivery, iter([pa.table({"id": [1], "score": [sequence / 10]})]))


@pytest.mark.parametrize("make", [make_files, make_delta])
def test_a_place_takes_no_delivery_for_one_that_it_has(make: MakeTarget, tmp_path: Path) -> None:
    """A restored ledger counts again from where it was, and a second ledger of the same path from 1."""
    target = make(tmp_path / "out")
    assert deliver(target, 1, "first").accepted
    assert deliver(target, 1, "first").text == "written before"

    restored = deliver(target, 1, "another")
    assert (restored.accepted, restored.again) == (False, False)
    assert "it has another delivery 1 than the ledger" in restored.text
    assert "restored from an older copy" in restored.text

    second = deliver(target, 2, outbox=replace(OUTBOX, ledger="2026-02-02T00:00:00.000000+00:00"))
    assert not second.accepted
    assert f"another ledger delivers there, which was made at {OUTBOX.ledger}" in second.text

    assert deliver(target, 2, outbox=replace(OUTBOX, pipeline="renamed")).accepted
    assert deliver(target, 3).accepted
    assert deliver(target, 4, outbox=replace(OUTBOX, destination="main.renamed")).accepted
    assert deliver(target, 5).accepted
    assert not deliver(target, 6, outbox=replace(OUTBOX, pipeline="other", destination="main.others")).accepted


def test_a_file_stays_for_a_day_after_it_was_replaced(tmp_path: Path) -> None:
    """However long ago it was written."""
    target = make_files(tmp_path)
    deliver(target, 1)
    os.utime(tmp_path / f"{RUN}/lake-00000001.csv", (1, 1))
    assert deliver(target, 2).accepted
    now = datetime.now(UTC)
    assert target.find_unread(now - GRACE) == []
    old = [f"{RUN}/lake-00000001.csv"]
    assert target.find_unread(now + timedelta(seconds=1)) == old
    assert target.find_unread(None) == old
    assert deliver(target, 3).accepted
    assert target.find_unread(now - GRACE) == []


@pytest.mark.parametrize("name", ["README.md", "raw/2026/visits.csv"])
def test_a_table_is_not_made_in_a_folder_that_has_files(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / name
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("theirs")
    refused = deliver(make_delta(tmp_path), 1)
    assert not refused.accepted
    assert f"its folder is not empty: it has `{name}`" in refused.text
    theirs.unlink()
    assert deliver(make_delta(tmp_path), 1).accepted


def test_only_files_of_a_table_itself_are_removed_from_its_folder(tmp_path: Path) -> None:
    target = make_delta(tmp_path)
    deliver(target, 1)
    part = "part-00000-7bb5ad9d-05b9-4ec9-da96-631171b9b182-c000.snappy.parquet"
    for name in ("README.md", "raw/2026/visits.csv", f"raw/{part}", part):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1, 1))
    now = datetime.now(UTC)
    assert target.find_unread(now) == [part]
    target.remove_unread(now)
    assert not (tmp_path / part).exists()
    assert (tmp_path / f"raw/{part}").exists()
    assert (tmp_path / "README.md").exists()
    assert deliver(target, 2).accepted
