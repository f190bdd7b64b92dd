"""Random rows get the same score from a run and over HTTP, to the bit, in every format, or the same reasons."""

import csv
import io
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from penstock.ledger.quarantine import quarantined_rows
from tests.integration.test_serving import make_served_place
from tests.served import client_of, serve_pipeline
from tests.shop import SPEC, START, Place

pytestmark = pytest.mark.slow
SPEC_OF_ALL = (
    SPEC.replace("table: payments", "table: odd")
    .replace("partition_rows: 150", "partition_rows: 20000\nquarantine_limit: 0.5")
    .replace("keep: [amount, country]", "keep: [country]")
    .replace(
        "model: card-risk",
        """features: |
  select payment_id, amount * 1.5 + coalesce(cast(price as double), 0) / 3 as amount, items, country,
    coalesce(first, due > date '2000-01-01', length(note) > 2, seen_at > timestamptz '2020-01-01 00:00:00Z') as first,
    note, due, seen_at, price
  from payments
decide:
  {shown: "note || '!'", day: due, moment: seen_at, whole: items, twice: price * 2, is_high: "score > 0.5 and first"}
model: card-risk""",
    )
)
AMOUNTS = (None, 0.0, -0.0, -5.0, 5e-324, 1e-40, 3.4e38, 1e300, 0.1, 1 / 3, 16777217.0, 25.000000000000004)
ITEMS = (None, 0, -1, 2**24 + 1, 2**53 + 1, 2**63 - 1, -(2**63))
COUNTRIES = (None, "", "de", "XX", "Köln", "DE ", "DE\u0000")
NOTES = (
    None,
    "",
    " ",
    "a,b",
    'say "no"',
    "two\nlines",
    "one\rmore",
    "tab\t",
    "\u202eright to left",
    "e\u0301",
    "🎲",
    "'",
    "NULL",
)
DATES = (None, date(1, 1, 1), date(9999, 12, 31), date(1970, 1, 1), date(2024, 2, 29))
TIMES = (None, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
PRICES = (None, Decimal("0.00"), Decimal("-0.01"), Decimal("9999999999.99"), Decimal("-9999999999.99"))
COLUMNS = ("payment_id", "amount", "items", "country", "first", "note", "due", "seen_at", "price")
BATCH = 1000


def make_rows(count: int, seed: int = 17) -> pa.Table:
    """Return random rows, most values common and some extreme."""
    rng = np.random.default_rng(seed)

    def draw(odd: Sequence[Any], common: Sequence[Any]) -> list[Any]:
        chosen = rng.integers(0, len(odd), count)
        return [
            odd[n] if is_odd else value
            for n, is_odd, value in zip(chosen, rng.random(count) < 0.15, common, strict=True)
        ]

    days = [START.date() - timedelta(days=int(n)) for n in rng.integers(0, 20_000, count)]
    seconds = rng.integers(0, 3 * 86_400, count)
    created = [START + timedelta(seconds=int(n)) for n in seconds]
    return pa.table(
        {
            "payment_id": pa.array(range(1, count + 1), pa.int64()),
            "created_at": pa.array(created, pa.timestamp("us", "UTC")),
            "updated_at": pa.array(created, pa.timestamp("us", "UTC")),
            "amount": pa.array(draw(AMOUNTS, rng.lognormal(3, 1, count).tolist()), pa.float64()),
            "items": pa.array(draw(ITEMS, rng.integers(1, 9, count).tolist()), pa.int64()),
            "country": pa.array(draw(COUNTRIES, [("DE", "FR", "IT", "PL")[n] for n in rng.integers(0, 4, count)])),
            "first": pa.array(draw((None,), (rng.random(count) < 0.3).tolist()), pa.bool_()),
            "note": pa.array(draw(NOTES, [chr(n) * 3 for n in rng.integers(32, 0xD7FF, count)])),
            "due": pa.array(draw(DATES, days), pa.date32()),
            "seen_at": pa.array(draw(TIMES, created), pa.timestamp("us", "UTC")),
            "price": pa.array(
                draw(PRICES, [Decimal(int(n)) / 100 for n in rng.integers(1, 10**6, count)]), pa.decimal128(12, 2)
            ),
        }
    )


@dataclass(frozen=True)
class Scored:
    """What a run made of its rows, as JSON has it."""

    outputs: dict[int, dict[str, Any]]
    reasons: dict[int, list[str]]


def read_run(place: Place) -> Scored:
    names = "payment_id, score, shown, day, moment, whole, twice, is_high"
    with place.warehouse.reading() as connection:
        rows = [dict(row._mapping) for row in connection.execute(sa.text(f"select {names} from card_risk_scores"))]
    outputs = {row.pop("payment_id"): {name: as_json(value) for name, value in row.items()} for row in rows}
    refused = quarantined_rows(place.warehouse, limit=10**6)
    return Scored(outputs, {json.loads(each.key)["payment_id"]: list(each.reasons) for each in refused})


def as_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return orjson.loads(orjson.dumps(value))
    return value.isoformat() if isinstance(value, date) else value


def post(client: TestClient, path: str, body: Any, kind: str = "application/json", **headers: str) -> Any:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return client.post(path, content=content, headers={"content-type": kind, **headers})


def in_batches(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for first in range(0, len(rows), BATCH):
        yield list(rows[first : first + BATCH])


def columns_of(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in COLUMNS}


def write_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([str(row[name]).lower() if isinstance(row[name], bool) else row[name] for name in COLUMNS])
    return written.getvalue().encode()


KINDS = {"payment_id": "INT64", "amount": "FP64", "items": "INT64", "first": "BOOL"}
BINARY = {"INT64": "<i8", "FP64": "<f8", "BOOL": "?"}


def write_tensors(rows: Sequence[dict[str, Any]], *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """Write a request of the Open Inference Protocol. A column with NULL is JSON, for binary tensors have none."""
    inputs, contents = [], b""
    for name, values in columns_of(rows).items():
        kind = KINDS.get(name, "BYTES")
        tensor: dict[str, Any] = {"name": name, "shape": [len(rows)], "datatype": kind}
        if binary and (kind == "FP64" or None not in values):
            if kind == "BYTES":
                texts = [value.encode() for value in values]
                content = b"".join(struct.pack("<I", len(text)) + text for text in texts)
            else:
                content = np.array([math.nan if v is None else v for v in values], BINARY[kind]).tobytes()
            tensor["parameters"] = {"binary_data_size": len(content)}
            contents += content
        else:
            tensor["data"] = values
        inputs.append(tensor)
    head = orjson.dumps({"inputs": inputs})
    return head + contents, {"inference-header-content-length": str(len(head))}


def check_flat(client: TestClient, rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare the formats that answer by position."""
    columns = columns_of(rows)
    split = {"columns": list(COLUMNS), "data": [[row[name] for name in COLUMNS] for row in rows]}
    bodies = [{"dataframe_split": split}, {"dataframe_records": rows}, {"inputs": columns}]
    answers = [post(client, "/invocations", body) for body in bodies]
    assert [answer.json().get("predictions") for answer in answers] == [expected] * 3
    texts = {json.dumps(each, sort_keys=True) for each in expected}  # and -0.0 is not 0.0
    assert {json.dumps(each, sort_keys=True) for each in answers[0].json()["predictions"]} == texts

    full = [at for at, row in enumerate(rows) if "" not in row.values()]  # an empty field is NULL
    as_text = post(client, "/invocations", write_csv([rows[at] for at in full]), "text/csv")
    assert as_text.json().get("predictions") == [expected[at] for at in full]

    for binary in (False, True):
        body, headers = write_tensors(rows, binary=binary)
        infer = post(client, "/v2/models/card-risk/infer", body, "application/octet-stream", **headers).json()
        given = {output["name"]: output["data"] for output in infer["outputs"]}
        assert [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)] == expected


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_random_rows_score_alike_in_a_run_and_in_each_format(tmp_path: Path, count: int) -> None:
    odd = make_rows(count)
    pq.write_table(odd, tmp_path / "odd.parquet")
    change = f"create table odd as select * from read_parquet('{tmp_path}/odd.parquet')"
    place = make_served_place(tmp_path, "duckdb", SPEC_OF_ALL, [change], source="duckdb")
    run = read_run(place)
    rows = [{name: as_json(row[name]) for name in COLUMNS} for row in odd.to_pylist()]
    assert len(run.outputs) > len(run.reasons) > count / 20
    assert len(run.outputs) + len(run.reasons) == count

    with client_of(serve_pipeline(place), poll_seconds=3600) as client:
        for batch in in_batches(rows):
            answer = post(client, "/pipelines/card-risk/score", {"rows": batch}).json()
            for row, given in zip(batch, answer["rows"], strict=True):
                key = row["payment_id"]
                if given["status"] == "scored":
                    assert given["outputs"] == run.outputs[key]
                else:
                    assert given["reasons"] == run.reasons[key]
        for batch in in_batches([row for row in rows if row["payment_id"] in run.outputs]):
            check_flat(client, batch, [run.outputs[row["payment_id"]] for row in batch])
        for batch in in_batches([row for row in rows if row["payment_id"] in run.reasons]):
            refused = [{"row": at, "reasons": run.reasons[row["payment_id"]]} for at, row in enumerate(batch)]
            flat = post(client, "/invocations", {"dataframe_records": batch}).json()
            infer = post(client, "/v2/models/card-risk/infer", write_tensors(batch, binary=False)[0]).json()
            assert flat["error"]["rows"] == infer["rows"] == refused
