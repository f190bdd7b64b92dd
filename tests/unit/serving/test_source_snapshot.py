"""What a snapshot of secondary sources is of, and which sources can be in one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet
from pydantic import ValidationError

from penstock.database.connections import Connector, open_local_file
from penstock.errors import SnapshotTooLarge
from penstock.interval import DataInterval
from penstock.ledger.migrations import make_ledger
from penstock.privacy.masking import NO_MASKING
from penstock.serving.source_snapshot import digest_tables, interval_of, take_snapshot
from penstock.spec.pipeline import Pipeline
from penstock.spec.serve import Serve
from tests.shop import SPEC, START

CUSTOMERS = {"kind": "sql", "connection": "shop", "table": "customers"}
LOG = {"kind": "log", "path": "access.log", "format": "combined"}
DAILY = {"kind": "files", "path": "{interval_start:%Y-%m-%d}.parquet", "format": "parquet"}


def pipeline(**others: object) -> Pipeline:
    spec = yaml.safe_load(SPEC)
    return Pipeline.model_validate(
        spec | {"sources": spec["sources"] | others, "features": "from payments", "serve": {"features": "snapshot"}}
    )


def test_the_digest_is_of_the_rows_and_not_of_their_chunks() -> None:
    whole = pa.table({"id": [1, 2, 3, 4], "name": ["a", None, "c", "d"], "factor": [0.5, None, 1.5, 2.0]})
    cut = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 3)])
    more = pa.concat_tables([whole, whole])

    digest = digest_tables({"customers": whole})

    assert digest_tables({"customers": cut}) == digest
    assert digest_tables({"customers": more.slice(4, 4)}) == digest
    assert digest_tables({"clients": whole}) != digest
    assert digest_tables({"customers": whole.slice(0, 3)}) != digest
    assert digest_tables({"customers": whole.take([1, 0, 2, 3])}) != digest
    assert digest_tables({"customers": whole.cast(whole.schema.set(0, pa.field("id", pa.int32())))}) != digest


@pytest.mark.parametrize(
    ("now", "days"), [("2026-01-03T23:59:59Z", 2), ("2026-01-04T00:00:00Z", 3), ("2025-05-05T00:00:00Z", 0)]
)
def test_a_snapshot_is_of_the_interval_that_now_is_in(now: str, days: int) -> None:
    start = START + timedelta(days=days)

    found = interval_of(pipeline(customers=CUSTOMERS), datetime.fromisoformat(now).astimezone(UTC))

    assert found == DataInterval(start, start + timedelta(days=1), "UTC")


def write_texts(path: Path, lengths: list[int]) -> dict[str, object]:
    parquet.write_table(pa.table({"note": ["x" * length for length in lengths]}), path)
    return {"kind": "files", "path": str(path), "format": "parquet"}


def test_the_limit_of_a_snapshot_counts_all_sources_and_reads_on_where_the_first_rows_are_wide(tmp_path: Path) -> None:
    wide_first = write_texts(tmp_path / "wide.parquet", [2000] * 1000 + [1] * 9000)  # 2 MB and then less than 1 MB
    few = write_texts(tmp_path / "few.parquet", [2000] * 500)  # 1 MB
    warehouse = open_local_file(tmp_path / "warehouse.db")
    make_ledger(warehouse)
    of_both, connect = pipeline(wide=wide_first, few=few), Connector(lambda _: warehouse, ())

    taken = take_snapshot(of_both, connect, NO_MASKING, 3_500_000, START)

    assert {name: table.num_rows for name, table in taken.tables.items()} == {"wide": 10_000, "few": 500}
    assert taken.nbytes < 3_500_000
    with pytest.raises(
        SnapshotTooLarge, match=r"500 rows of `few` have \d,.* bytes beside 2,.* bytes of other sources"
    ):
        take_snapshot(of_both, connect, NO_MASKING, 3_200_000, START)
    with pytest.raises(SnapshotTooLarge, match="500 rows of `few`"):  # fewer rows than the first ones that are read
        take_snapshot(pipeline(few=few), connect, NO_MASKING, 500_000, START)


@pytest.mark.parametrize(
    ("others", "problem"),
    [
        ({}, "there is only one source"),
        ({"visits": LOG}, "`visits` cannot be in a snapshot: the lines of a log come into the warehouse with a run"),
        ({"prices": DAILY}, "`prices` cannot be in a snapshot: it has one file an interval"),
    ],
)
def test_a_source_that_cannot_be_held_is_refused_by_name(others: dict[str, object], problem: str) -> None:
    pipeline(customers=CUSTOMERS)
    with pytest.raises(ValidationError, match=problem):
        pipeline(**others)


def test_refresh_goes_with_a_snapshot_and_is_a_while() -> None:
    assert Serve.model_validate({"features": "snapshot", "refresh": "2m"}).refresh == timedelta(minutes=2)
    with pytest.raises(ValidationError, match="goes with `features: snapshot`"):
        Serve.model_validate({"refresh": "2m"})
    with pytest.raises(ValidationError, match="from one minute to seven days"):
        Serve.model_validate({"features": "snapshot", "refresh": "8d"})
