"""Partitions of Parquet files: each row of the interval is in exactly one, whatever the files, times and row groups."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.database.connections import Connector, open_database
from penstock.interval import DataInterval
from penstock.sources import SourceReader, open_source, read_file_states
from penstock.sources.relation import Relation
from penstock.spec.pipeline import Pipeline

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = DataInterval(START, START + timedelta(days=1))
KINDS = {
    "aware": pa.timestamp("us", "UTC"),
    "naive": pa.timestamp("us"),
    "nanoseconds": pa.timestamp("ns", "UTC"),
    "date": pa.date32(),
}
times = st.one_of(
    st.none(), st.integers(-10, 100_000).map(lambda s: timedelta(seconds=s)), st.just(timedelta(hours=12))
)
inside = st.integers(0, 86_399).map(lambda s: timedelta(seconds=s))
Files = list[list[timedelta | None]]


@pytest.fixture
def open_files(use_settings: Callable[..., Any], tmp_path: Path) -> Callable[[], SourceReader]:
    """Open the Parquet files in the folder `in`."""
    known = use_settings(warehouse=f"sqlite:///{tmp_path}/warehouse.sqlite")
    pipeline = Pipeline.model_validate(
        {
            "name": "p",
            "sources": {"rows": {"kind": "files", "path": "in/*.parquet", "format": "parquet", "key": ["id"]}},
            "interval": {"column": "moment", "grain": "1d", "start": "2026-01-01"},
            "model": "m@1",
            "destination": {"connection": "warehouse", "table": "scores"},
        }
    )

    def open_() -> SourceReader:
        connect = Connector(lambda name: open_database(known, name), ())
        files = dict(read_file_states(pipeline, ["rows"], DAY, connect))
        return open_source(pipeline, "rows", connect, files)

    return open_


def write_files(folder: Path, files: Files, kind: str, row_group: int, statistics: bool) -> list[int]:
    """Write the files. Return the ids of the interval's rows in order."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    wanted, number = [], 0
    for name, moments in enumerate(files):
        ids = list(range(number, number + len(moments)))
        number += len(moments)
        values: Any = [None if m is None else START + m for m in moments]
        if kind == "date":
            values = [None if v is None else v.date() for v in values]
            wanted += [i for i, v in zip(ids, values, strict=True) if v == START.date()]
        else:
            wanted += [i for i, v in zip(ids, values, strict=True) if v is not None and DAY.start <= v < DAY.end]
        if kind == "naive":
            values = [None if v is None else v.replace(tzinfo=None) for v in values]
        table = pa.table({"id": pa.array(ids, pa.int64()), "moment": pa.array(values, KINDS[kind])})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=row_group, write_statistics=statistics)
    return wanted


@pytest.mark.parametrize("kind", KINDS)
def test_partitions_of_files_have_each_row_of_the_interval_once(
    open_files: Callable[[], SourceReader], tmp_path: Path, kind: str
) -> None:
    @given(
        st.one_of(
            st.lists(st.lists(times, max_size=12), min_size=1, max_size=4),
            st.lists(st.lists(inside, max_size=12), min_size=1, max_size=4),
        ),
        st.integers(1, 15),
        st.integers(1, 15),
        st.booleans(),
    )
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    def check(files: Files, size: int, row_group: int, statistics: bool) -> None:
        wanted = write_files(tmp_path / "in", files, kind, row_group, statistics)
        reader = open_files()

        partitions = reader.plan(DAY, size).partitions

        read = [reader.read(DAY, partition)["id"].to_pylist() for partition in partitions]
        assert [each for ids in read for each in sorted(ids)] == wanted
        assert [partition.rows for partition in partitions] == [len(ids) for ids in read]
        assert {len(ids) for ids in read[:-1]} <= {size}

    check()


@pytest.mark.parametrize(
    ("moments", "is_sorted"),
    [
        ([timedelta(0)] * 10, False),
        ([timedelta(days=-1), *[timedelta(0)] * 10, timedelta(days=1), None], False),
        ([*[timedelta(0)] * 6, timedelta(days=1), *[timedelta(0)] * 4], True),
        ([*[timedelta(0)] * 6, None, *[timedelta(0)] * 4], True),
    ],
)
def test_positions_are_sorted_only_if_they_have_a_gap(
    open_files: Callable[[], SourceReader],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moments: list[timedelta | None],
    is_sorted: bool,
) -> None:
    write_files(tmp_path / "in", [moments[:5], moments[5:]], "aware", 3, statistics=True)
    bounds, sorts = Relation._boundaries, []

    def sort(*arguments: Any) -> Any:
        sorts.append(bounds(*arguments))
        return sorts[-1]

    monkeypatch.setattr(Relation, "_boundaries", sort)
    partitions = open_files().plan(DAY, 4).partitions

    assert (len(partitions), bool(sorts)) == (3, is_sorted)
