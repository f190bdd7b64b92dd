"""A run reads the files that it was planned with. Text files are staged; a Parquet file must stay as it was."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from penstock.errors import FilesChanged
from penstock.ledger.reader import list_runs, rows_done
from penstock.sources.file_states import SAMPLE_BYTES, SAMPLES, read_states, unchanged_files
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import view_rows
from tests.driver import STAGING, Driver, lapse_leases
from tests.shop import START, Place, payments

FORMATS = ("csv", "json", "parquet")
SPEC = """
name: card-risk
interval: {{column: created_at, grain: 1d, start: 2026-01-01, lookback: 3}}
sources:
  payments: {{kind: files, path: "in/*.{kind}", format: {kind}, key: [payment_id]}}
model: card-risk@champion
destination: {{connection: warehouse, table: card_risk_scores, keep: [amount, country]}}
partition_rows: 15
"""
RATES = """  rates: {kind: files, path: "rates/*.csv", format: csv, key: [country]}
model:"""
TODAY = START.replace(day=2)
MOMENT = 1_767_225_600
"""When all files were written, in seconds: as with files that come out of an archive."""
ROWS = (
    payments(days=1, a_day=60)
    .drop_columns(["updated_at", "amount", "first", "payment_id", "created_at"])
    .append_column("created_at", pa.array([f"2026-01-01 10:00:{second:02}" for second in range(60)]))
    .append_column("payment_id", pa.array(range(10, 70)))
    .append_column("amount", pa.array([100.25 + number for number in range(60)]))
    .append_column("first", pa.array([True] * 60))
)
"""Rows of equal length in each format, so that files with as many rows have the same size."""


def write_rows(file: Path, rows: pa.Table) -> None:
    if file.suffix == ".csv":
        pyarrow.csv.write_csv(rows, file)
    elif file.suffix == ".json":
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows.to_pylist()))
    else:
        times = rows["created_at"].cast(pa.timestamp("us"))
        typed = rows.set_column(rows.column_names.index("created_at"), "created_at", times)
        pq.write_table(typed, file, compression="none", use_dictionary=False, write_statistics=False)
    os.utime(file, (MOMENT, MOMENT))


@pytest.fixture
def make_driver(make_place: Callable[..., Place], tmp_path: Path) -> Callable[..., tuple[Place, Driver]]:
    """Write four files of ten rows, which a run reads in three partitions."""

    def make(kind: str, more: str = "model:") -> tuple[Place, Driver]:
        place = make_place(spec=SPEC.format(kind=kind).replace("model:", more))
        (tmp_path / "in").mkdir()
        for number, name in enumerate("abcd"):
            write_rows(tmp_path / "in" / f"{name}.{kind}", ROWS.slice(10 * number, 10))
        return place, Driver(load_pipeline(place.spec), connect, place.registry)

    return make


def rename(file: Path) -> None:
    file.rename(file.with_stem("z"))


def swap(file: Path) -> None:
    other, aside = file.with_stem("d"), file.with_stem("d").with_suffix(".aside")
    assert (file.stat().st_size, file.stat().st_mtime) == (other.stat().st_size, other.stat().st_mtime)
    file.rename(aside)
    other.rename(file)
    aside.rename(other)


def overwrite(file: Path) -> None:
    write_rows(file, ROWS.slice(40, 10))


def grow(file: Path) -> None:
    write_rows(file, pa.concat_tables([ROWS.slice(0, 10), ROWS.slice(50, 1)]))


def replace_by_the_same(file: Path) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(file.read_bytes())
    os.utime(new, (MOMENT, MOMENT))
    new.rename(file)


def touch(file: Path) -> None:
    os.utime(file)


CHANGES: dict[Callable[[Path], None], tuple[str, list[int]]] = {
    rename: ("was removed", [*range(10, 50)]),
    swap: ("has other content", [*range(10, 50)]),
    overwrite: ("has other content", [*range(20, 60)]),
    grow: ("bytes instead of", [*range(10, 50), 60]),
    Path.unlink: ("was removed", [*range(20, 50)]),
    replace_by_the_same: ("was replaced or changed", [*range(10, 50)]),
    touch: ("was written again", [*range(10, 50)]),
}


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_text_file_that_changes_between_partitions_does_no_harm_and_the_next_run_reads_it_afresh(
    make_driver: Callable[..., tuple[Place, Driver]], tmp_path: Path, kind: str, change: Callable[[Path], None]
) -> None:
    place, driver = make_driver(kind)
    steps = driver.steps(TODAY)
    assert list(takewhile(lambda step: step != "extract 2/3", steps))[-1] == "load 1/3"

    change(tmp_path / "in" / f"a.{kind}")
    assert "publish" in list(steps)

    assert [row[0] for row in view_rows(place.warehouse)] == [*range(10, 50)]
    driver.run(TODAY)
    # Planning compares paths, sizes and times. A file that keeps all three is not read again.
    keys = [*range(10, 50)] if change is overwrite else CHANGES[change][1]
    assert [row[0] for row in view_rows(place.warehouse)] == keys


@pytest.mark.parametrize("change", CHANGES)
def test_a_parquet_file_that_changes_between_partitions_fails_the_run_by_name_and_the_next_reads_afresh(
    make_driver: Callable[..., tuple[Place, Driver]], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    place, driver = make_driver("parquet")
    steps = driver.steps(TODAY)
    assert list(takewhile(lambda step: step != "extract 2/3", steps))[-1] == "load 1/3"

    change(tmp_path / "in" / "a.parquet")
    left = list(steps)

    difference, keys = CHANGES[change]
    assert left[-1].startswith("failed: source `payments`: files changed after the run was planned: in/"), left
    assert difference in left[-1]
    assert view_rows(place.warehouse) == []
    driver.run(TODAY)
    assert [row[0] for row in view_rows(place.warehouse)] == keys


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_comes_while_a_run_reads_is_left_for_the_next_one(
    make_driver: Callable[..., tuple[Place, Driver]], tmp_path: Path, kind: str
) -> None:
    place, driver = make_driver(kind)
    steps = driver.steps(TODAY)
    assert list(takewhile(lambda step: step != "extract 2/3", steps))[-1] == "load 1/3"

    write_rows(tmp_path / "in" / f"Z.{kind}", ROWS.slice(40, 10))  # before all others in the order of the names
    list(steps)

    assert [row[0] for row in view_rows(place.warehouse)] == [*range(10, 50)]
    driver.run(TODAY)
    assert [row[0] for row in view_rows(place.warehouse)] == [*range(10, 60)]
    assert [run.reason for run in list_runs(place.warehouse)] == ["late rows", "due"]


def test_a_text_file_of_another_source_that_changes_between_partitions_does_no_harm(
    make_driver: Callable[..., tuple[Place, Driver]], tmp_path: Path
) -> None:
    (tmp_path / "rates").mkdir()
    rates = tmp_path / "rates" / "today.csv"
    rates.write_text("country,rate\nDE,1\n")
    _, driver = make_driver("csv", RATES)
    steps = driver.steps(TODAY)
    assert list(takewhile(lambda step: step != "extract 2/3", steps))[-1] == "load 1/3"

    rates.write_text("country,rate\nDE,2\n")
    assert "publish" in list(steps)


@pytest.mark.parametrize("lost", ["payments", "rates"])
def test_a_partition_that_does_not_find_the_staged_files_stages_them_again_or_fails_by_name(
    make_driver: Callable[..., tuple[Place, Driver]], tmp_path: Path, lost: str
) -> None:
    (tmp_path / "rates").mkdir()
    rates = tmp_path / "rates" / "today.csv"
    rates.write_text("country,rate\nDE,1\n")
    place, driver = make_driver("csv", RATES)
    steps = driver.steps(TODAY)
    assert list(takewhile(lambda step: step != "extract 2/3", steps))[-1] == "load 1/3"
    for folder in STAGING.glob(f"*/{lost}-*"):
        shutil.rmtree(folder)
    if lost == "payments":  # as on another machine
        assert "publish" in list(steps)
        assert [row[0] for row in view_rows(place.warehouse)] == [*range(10, 50)]
        return

    rates.write_text("country,rate\nDE,2\n")
    left = list(steps)

    assert left[-1].startswith("failed: source `rates`: files changed"), left
    assert view_rows(place.warehouse) == []


def test_staged_files_are_removed_at_the_end_of_the_run_and_those_of_a_dead_run_by_the_next(
    make_driver: Callable[..., tuple[Place, Driver]],
) -> None:
    place, driver = make_driver("csv")
    steps = driver.steps(TODAY)
    assert list(takewhile(lambda step: step != "extract 2/3", steps))[-1] == "load 1/3"
    [dead] = list_runs(place.warehouse)
    steps.close()  # closes what is open, as a kill would not
    folder = STAGING / dead.run_id
    folder.mkdir(parents=True)
    (folder / "rows.parquet").write_text("x")
    lapse_leases(place.warehouse)

    assert "publish" in driver.run(TODAY)

    assert not folder.exists()
    assert not any((STAGING / run.run_id).exists() for run in list_runs(place.warehouse))


@pytest.mark.usefixtures("prefect_api")
def test_the_flow_reads_an_interval_afresh_whose_files_changed(
    make_driver: Callable[..., tuple[Place, Driver]], tmp_path: Path
) -> None:
    from penstock.flows.score import score

    place, _ = make_driver("parquet")
    ended = threading.Event()

    def rename_once() -> None:
        while not ended.is_set():
            if any(0 < rows_done(place.warehouse, [run.run_id]) < 40 for run in list_runs(place.warehouse)):
                rename(tmp_path / "in" / "a.parquet")
                return
            time.sleep(0.01)

    thread = threading.Thread(target=rename_once)
    thread.start()
    state = score(str(place.spec), end="2026-01-02", return_state=True)
    ended.set()
    thread.join()

    assert state.is_completed(), state.message
    assert [run.state for run in list_runs(place.warehouse)] == ["published", "failed"]
    assert [row[0] for row in view_rows(place.warehouse)] == [*range(10, 50)]


def test_a_file_that_changes_while_it_is_read_is_found_whatever_reading_it_raised(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("1")
    planned = read_states("rates", [file])
    with pytest.raises(FilesChanged, match=r"a\.csv has 2 bytes instead of 1"), unchanged_files("rates", planned):
        file.write_text("12")


@pytest.mark.parametrize("place", ["first", "last"])
def test_the_beginning_and_the_end_of_a_large_file_are_compared(tmp_path: Path, place: str) -> None:
    file = tmp_path / "a.parquet"
    size = 3 * SAMPLES * SAMPLE_BYTES + 7
    file.write_bytes(bytes(size))
    os.utime(file, (MOMENT, MOMENT))
    planned = read_states("rates", [file])

    with file.open("r+b") as handle:
        handle.seek(0 if place == "first" else size - 1)
        handle.write(b"x")
    os.utime(file, (MOMENT, MOMENT))

    with pytest.raises(FilesChanged, match="has other content"), unchanged_files("rates", planned):
        pass
