"""A refused row is found by its key as a person types it, whatever its type and source, in the clear and private."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.explain.scores import read_key
from penstock.models.registry import Registry
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.privacy.row_key import read_row_key
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.erasure import ErasureRequest, erase
from penstock.upkeep.quarantine_release import choose_keys, select_rows
from tests.driver import Driver
from tests.faults.one_table import GOOD, OneTable
from tests.shop import START

PRIVATE = MaskingPolicy({"id": "hash"}, b"a secret of sixteen")
DAY, ZONED = date(2026, 3, 4), datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MOMENT = ZONED.replace(tzinfo=None)
TIMES = ("2026-03-04 05:06:07", "2026-03-04T05:06:07Z", "2026-03-04T06:06:07+01:00", "2026-03-04 05:06:07+00:00")

KINDS: dict[str, tuple[str, Any, Any, tuple[str, ...]]] = {
    "integer": ("bigint", 7, 70, ("7", "7.0", "7.00")),
    "decimal": ("numeric(10,2)", Decimal("12.50"), Decimal("12.51"), ("12.5", "12.50")),
    "float": ("double precision", 3.0, 3.5, ("3", "3.0")),
    "flag": ("boolean", True, False, ("true", "True")),
    "date": ("date", DAY, DAY + timedelta(1), ("2026-03-04",)),
    "time": ("timestamp", MOMENT, MOMENT + timedelta(microseconds=1), TIMES),
    "zoned": ("timestamptz", ZONED, ZONED.replace(day=5), TIMES),
    "text": ("varchar", "1.10", "1.1", ("1.10",)),
    "text like a time": ("varchar", "2026-03-04 05:06:07", "2026-03-04T05:06:07", TIMES[:1]),
    "uuid": ("uuid", "9f8b1c3e-0000-4000-8000-00000000000a", "9f8b1c3e-0000-4000-8000-00000000000b", ()),
    "bytes": ("bytea", b"abc", b"abd", ("abc", r"\x616263")),
}
"""By kind: its SQL type, the value of a refused row, that of another one, and how people type the first."""
LACKS = {"sqlite": {"zoned", "uuid", "bytes"}, "csv": {"bytes", "text like a time", "text"}}


def choose() -> Iterator[Any]:
    """Yield each kind of each source, by turns in the clear and private."""
    for at, place in enumerate(("sqlite", "postgresql", "duckdb", "csv", "parquet")):
        for number, kind in enumerate(KINDS):
            if kind not in LACKS.get(place, ()):
                is_private = bool((at + number) % 2)
                yield pytest.param(place, kind, is_private, id=f"{place}-{kind}-{'private' if is_private else 'clear'}")


def fill(table: OneTable, folder: Path, place: str, kind: str) -> dict[str, Any]:
    """Give a source two rows that are refused, for they have no amount, and one that is scored."""
    sql, first, second, _ = KINDS[kind]
    third = {"flag": None, "uuid": second[:-1] + "c" if isinstance(second, str) else None}.get(kind, _next(second))
    rows = [{"id": first, "amount": None}, {"id": second, "amount": None}, {"id": third, **GOOD}]
    if place in ("csv", "parquet"):
        times = pa.array([START + timedelta(hours=1)] * 3, pa.timestamp("us", "UTC"))
        columns = {name: [row.get(name, GOOD.get(name)) for row in rows] for name in ("id", *GOOD)}
        written = pa.table({**columns, "created_at": times})
        file = folder / f"rows.{place}"
        if place == "parquet":
            pq.write_table(written, file)
        else:
            lines = [
                ",".join(written.column_names),
                *(",".join(map(_cell, row.values())) for row in written.to_pylist()),
            ]
            file.write_text("\n".join(lines) + "\n")
        return {"payments": {"kind": "files", "path": str(file), "format": place, "key": ["id"]}}
    if place == "duckdb" and kind == "bytes":
        sql = "blob"
    table.create(f"id {sql}")
    table.insert(*[row | ({"id": float(row["id"])} if (place, kind) == ("sqlite", "decimal") else {}) for row in rows])
    return {"payments": {"kind": "sql", "connection": "shop", "table": "payments", "key": ["id"]}}


def _next(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return value[:-1] + (b"z" if isinstance(value, bytes) else "z")
    return value + (timedelta(days=9) if isinstance(value, date) else 9)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "kind", "is_private"), list(choose()))
def test_a_refused_row_is_found_by_its_key_as_people_type_it(
    empty_database: Callable[..., str],
    registry: Registry,
    tmp_path: Path,
    place: str,
    kind: str,
    is_private: bool,
) -> None:
    masking = PRIVATE if is_private else NO_MASKING
    shop = place if place not in ("csv", "parquet") else "sqlite"
    table = OneTable(empty_database, registry, shop, shop)
    sources = fill(table, tmp_path, place, kind)
    not_null = {"type": "expect_column_values_to_not_be_null", "column": "amount", "severity": "warning"}
    pipeline: Pipeline = table.pipeline(more_sources=sources, expectations={"payments": [not_null]})
    done = Driver(pipeline, table.connect, registry, masking).run(START + timedelta(days=1))
    assert done[-1] == "publish", done

    spelled = KINDS[kind][3] or (KINDS[kind][1], KINDS[kind][1].upper())
    if (place, kind) == ("postgresql", "bytes"):
        spelled = spelled[1:]  # as Postgres shows it
    for text in spelled:
        typed = read_row_key(text, ("id",))
        found = erase(table.warehouse, ErasureRequest(pipeline, typed), masking, None)
        choice = choose_keys(table.warehouse, pipeline, (), [typed], masking)
        released = [row for run in select_rows(table.warehouse, choice, pipeline.name).runs for row in run.rows]
        explained = read_key(table.warehouse, pipeline, typed, masking, None)
        assert (found["penstock_quarantine"], len(released), len(explained.refusals)) == (1, 1, 1), text
    erase(table.warehouse, ErasureRequest(pipeline, typed), masking, b"s" * 16)
    assert not read_key(table.warehouse, pipeline, typed, masking, None).refusals
    again = read_key(
        table.warehouse, pipeline, read_row_key(spelled[0], ("id",)), masking, MaskingPolicy({}, b"s" * 16)
    )
    assert len(again.forgotten_at) == 1
