"""Folders named `key=value` give columns to the files below them."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from penstock.database.connections import Connector, Database
from penstock.errors import FolderColumn, UnfitValue
from penstock.interval import DataInterval
from penstock.sources import SourceReader, open_source
from penstock.spec.pipeline import Pipeline

FORMATS = ("parquet", "csv", "json")
UTC = dt.UTC


def write(file: Path, rows: dict[str, list[Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(rows)
    if file.suffix == ".parquet":
        pq.write_table(table, file)
    elif file.suffix == ".json":
        file.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
    else:
        lines = [",".join(rows), *(",".join(map(str, row.values())) for row in table.to_pylist())]
        file.write_text("\n".join(lines) + "\n")


def reader(folder: Path, path: str, format_: str, time: str | None = None, **more: Any) -> SourceReader:
    source = {"kind": "files", "path": f"{folder}/{path}", "format": format_, "key": ["id"]} | more
    spec: dict[str, Any] = {
        "name": "p", "sources": {"rows": source}, "model": "m@1", "destination": {"table": "t"}
    }  # fmt: skip
    if time:
        spec["interval"] = {"column": time, "grain": "1d", "start": "2026-03-01"}
    warehouse = Database("warehouse", sa.create_engine("sqlite://"))
    return open_source(Pipeline.model_validate(spec), "rows", Connector(lambda _: warehouse, ()))


def read(*args: Any, **more: Any) -> list[dict[str, Any]]:
    return sorted(reader(*args, **more).read(None).to_pylist(), key=lambda row: row["id"])


@pytest.mark.parametrize("format_", FORMATS)
def test_keys_are_columns_whose_type_no_value_changes_by(tmp_path: Path, format_: str) -> None:
    null, town = "__HIVE_DEFAULT_PARTITION__", "Z%C3%BCrich%2FWest"
    write(tmp_path / f"year=2026/month=03/day=2026-03-01/shop=007/town={town}/a.{format_}", {"id": [1, 2]})
    write(tmp_path / f"year=2026/month=11/day=2026-11-30/shop=12/town={null}/a.{format_}", {"id": [3]})

    first, second, third = read(tmp_path, f"**/*.{format_}", format_)

    march = {"year": 2026, "month": 3, "day": dt.date(2026, 3, 1), "shop": "007", "town": "Zürich/West"}
    assert [first, second] == [{"id": 1} | march, {"id": 2} | march]
    assert third == {"id": 3, "year": 2026, "month": 11, "day": dt.date(2026, 11, 30), "shop": "12", "town": None}


@pytest.mark.parametrize("format_", FORMATS)
def test_a_declared_key_is_what_the_spec_says(tmp_path: Path, format_: str) -> None:
    write(tmp_path / f"shop=007/on=20260301/a.{format_}", {"id": [1]})
    columns = {"shop": "int", "on": {"type": "date", "format": "%Y%m%d"}}

    assert read(tmp_path, f"**/*.{format_}", format_, columns=columns) == [
        {"id": 1, "shop": 7, "on": dt.date(2026, 3, 1)}
    ]


def test_a_key_that_does_not_fit_its_declared_type_is_named(tmp_path: Path) -> None:
    write(tmp_path / "shop=x/a.parquet", {"id": [1]})

    with pytest.raises(UnfitValue, match=r"`shop` is int, and row 1 of .* has `x`"):
        read(tmp_path, "**/*.parquet", "parquet", columns={"shop": "int"})


@pytest.mark.parametrize("format_", FORMATS)
def test_the_event_time_may_be_in_the_folder_alone(tmp_path: Path, format_: str) -> None:
    for day in (1, 2, 3):
        write(tmp_path / f"day=2026-03-0{day}/a.{format_}", {"id": [day * 10, day * 10 + 1]})
    start = dt.datetime(2026, 3, 2, tzinfo=UTC)
    interval = DataInterval(start, start + dt.timedelta(days=1))

    rows = reader(tmp_path, f"**/*.{format_}", format_, time="day")

    assert rows.plan(interval, 1).rows == 2
    slices = [rows.read(interval, slice_)["id"].to_pylist() for slice_ in rows.plan(interval, 1).partitions]
    assert sorted(key for ids in slices for key in ids) == [20, 21]


@pytest.mark.parametrize("format_", FORMATS)
def test_the_path_of_an_interval_may_have_keys(tmp_path: Path, format_: str) -> None:
    for day in (1, 2, 3):
        moments = [f"2026-03-0{day}T10:00:00Z", f"2026-03-0{day}T11:00:00Z"]
        times: list[Any] = [dt.datetime.fromisoformat(m) for m in moments] if format_ == "parquet" else moments
        write(tmp_path / f"year=2026/month=03/day=0{day}/a.{format_}", {"id": [day * 10, day * 10 + 1], "at": times})
    start = dt.datetime(2026, 3, 2, tzinfo=UTC)
    interval = DataInterval(start, start + dt.timedelta(days=1))
    path = f"{{interval_start:year=%Y/month=%m/day=%d}}/*.{format_}"

    rows = reader(tmp_path, path, format_, time="at").read(interval)

    assert rows.select(["id", "year", "month", "day"]).to_pylist() == [
        {"id": key, "year": 2026, "month": 3, "day": 2} for key in (20, 21)
    ]


@pytest.mark.parametrize("format_", FORMATS)
def test_a_column_of_file_and_folder_must_be_equal(tmp_path: Path, format_: str) -> None:
    write(tmp_path / f"month=03/a.{format_}", {"id": [1], "month": [3]})
    write(tmp_path / f"month=04/b.{format_}", {"id": [2], "month": [4]})
    assert [row["month"] for row in read(tmp_path, f"**/*.{format_}", format_)] == [3, 4]

    write(tmp_path / f"month=05/c.{format_}", {"id": [3, 4], "month": [5, 6]})

    line = "row 2" if format_ == "parquet" else "line 3" if format_ == "csv" else "line 2"
    with pytest.raises(FolderColumn, match=f"`month`.* {line} of .*c.{format_} has another value"):
        read(tmp_path, f"**/*.{format_}", format_)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_without_the_column_of_another_has_the_value_of_its_folder(tmp_path: Path, format_: str) -> None:
    write(tmp_path / f"month=03/a.{format_}", {"id": [1], "month": [3]})
    write(tmp_path / f"month=04/b.{format_}", {"id": [2]})

    assert [row["month"] for row in read(tmp_path, f"**/*.{format_}", format_)] == [3, 4]


@pytest.mark.parametrize("format_", FORMATS)
def test_a_private_key_is_refused_because_paths_show_it(tmp_path: Path, format_: str) -> None:
    write(tmp_path / f"email=zoe/a.{format_}", {"id": [1]})

    with pytest.raises(FolderColumn, match=r"`email`.* is private") as raised:
        read(tmp_path, f"**/*.{format_}", format_, private={"email": "hash"})
    assert "zoe" not in str(raised.value)


def test_a_key_that_a_path_has_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "day=1/Day=2/a.parquet", {"id": [1]})

    with pytest.raises(FolderColumn, match=r"`Day`.* is in the path .* twice"):
        read(tmp_path, "**/*.parquet", "parquet")


@pytest.mark.parametrize("format_", FORMATS)
def test_slices_have_the_rows_and_keys_of_the_whole(tmp_path: Path, format_: str) -> None:
    for day in range(1, 6):
        write(tmp_path / f"day={day}/a.{format_}", {"id": [*range(day * 10, day * 10 + 3)]})
    rows = reader(tmp_path, f"**/*.{format_}", format_)
    slices = [rows.read(None, slice_).to_pylist() for slice_ in rows.plan(None, 4).partitions]

    assert [len(each) for each in slices] == [4, 4, 4, 3]
    slices = [sorted(each, key=lambda row: row["id"]) for each in slices]
    assert [row for each in slices for row in each] == read(tmp_path, f"**/*.{format_}", format_)
    assert all(row["day"] == row["id"] // 10 for each in slices for row in each)
