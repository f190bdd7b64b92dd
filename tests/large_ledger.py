"""A ledger of many short intervals, written in bulk, and the cost of reading it in a process of its own."""

import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import bulk_transaction
from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger.destinations import destination_name
from penstock.ledger.migrations import migrate
from penstock.ledger.tables import destinations, intervals, partitions, runs, validations
from penstock.run.history_table import prepare
from penstock.spec.pipeline import Pipeline
from tests.shop import START

GRAIN = timedelta(minutes=15)
A_YEAR, TEN_YEARS = 35_040, 350_000
"""Intervals of a quarter of an hour."""
_AT_ONCE = 10_000


@dataclass(frozen=True)
class Cost:
    """What an operation took."""

    cpu_seconds: float
    """Of its process, without those of a database server."""
    wall_seconds: float
    peak_bytes: int
    """Growth of the process's memory, at its peak."""
    result: Any


def interval_of(number: int) -> DataInterval:
    return DataInterval(START + number * GRAIN, START + (number + 1) * GRAIN)


def run_id_of(number: int, state: str = "published") -> str:
    return f"{state[:1].encode().hex()}{number:030x}"


def fill_ledger(database: Database, pipeline: Pipeline, count: int, *, parts: bool = True, **changes: Any) -> None:
    """Publish `count` intervals with one scored row each, as runs of one partition with 101 quantiles.

    Args:
        parts: write their partitions, validations and rows, too.
        changes: values of `runs` that differ from a published run's.
    """
    migrate(database)
    with database.writing() as connection:
        place = destination_name(connection, pipeline.destination)
        known = sa.select(destinations.c.pipeline).where(destinations.c.destination == place)
        if connection.execute(known).first() is None:
            row = {"destination": place, "pipeline": pipeline.name, "guard": 0, "disputed": False}
            connection.execute(destinations.insert().values(**row))
    history = prepare(
        database,
        pipeline.destination,
        pipeline.key,
        _scored_rows(pipeline, ["0" * 32]).drop_columns(["run_id", "partition"]),
    )
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        rows = _run_rows(pipeline.name, place, numbers, changes)
        ids = rows["run_id"].to_pylist()
        with bulk_transaction(database) as transaction:
            transaction.append(runs, rows)
            if not parts:
                continue
            transaction.append(partitions, _repeat({"run_id": ids}, partition=0, **_COUNTS, attempts=1, seconds="{}"))
            checked = {"evaluated": 1, "unexpected": 0, "unit": "rows", "observed": "", "released": 0, "detail": ""}
            about = {"stage": "scores", "expectation": "mean", "severity": "error", "outcome": "passed"}
            transaction.append(validations, _repeat({"run_id": ids}, partition=-1, number=0, **checked, **about))
            keys = {"interval_key": rows["interval_key"].to_pylist()}
            if not changes:
                transaction.append(intervals, _repeat(keys, pipeline=pipeline.name, variant="live", guard=2))
            transaction.append(history, _scored_rows(pipeline, ids))


_COUNTS = {"rows_extracted": 1, "rows_scored": 1, "rows_quarantined": 0, "rows_excluded": 0}


def _run_rows(pipeline: str, place: str, numbers: range, changes: dict[str, Any]) -> pa.Table:
    spans = [interval_of(number) for number in numbers]
    state = changes.get("state", "published")
    ends = pa.array([span.end for span in spans], pa.timestamp("us", "UTC"))
    varying: dict[str, Any] = {
        "run_id": [run_id_of(number, state) for number in numbers],
        "interval_key": [span.key for span in spans],
        "interval_start": pa.array([span.start for span in spans], pa.timestamp("us", "UTC")),
        "interval_end": ends,
        **dict.fromkeys(("lease_until", "started_at", "finished_at", "published_at"), ends),
        "score_quantiles": [_QUANTILES[number % len(_QUANTILES)] for number in numbers],
    }
    words = ("model_version", "model_digest", "spec_fingerprint", "lease_token", "source_fingerprint")
    fixed = {
        **{"pipeline": pipeline, "destination": place, "variant": "live", "reason": "due", "state": state},
        **{"model_name": "card-risk", "lease_owner": "nobody:1", "destination_table": place.rpartition(".")[2]},
        **dict.fromkeys(words, "x"),
        **{"partitions": 1, "rows_planned": 1, "timezone": "UTC", "memory": None},
        **_COUNTS,
    }
    return _repeat(varying, **fixed | changes)


def _make_quantiles() -> list[str]:
    draws = np.random.default_rng(1).random((97, 101))
    return [json.dumps(np.sort(row).tolist()) for row in draws]


_QUANTILES = _make_quantiles()


def _scored_rows(pipeline: Pipeline, run_ids: list[Any]) -> pa.Table:
    keys = {name: pa.array(range(len(run_ids)), pa.int64()) for name in pipeline.key}
    return _repeat({"run_id": run_ids, **keys}, partition=0, score=0.5)


def _repeat(columns: dict[str, Any], **fixed: Any) -> pa.Table:
    """Return the columns, and others with one value in all rows. None: leave the column out."""
    rows = len(next(iter(columns.values())))
    repeated = {name: pa.repeat(pa.scalar(value), rows) for name, value in fixed.items() if value is not None}
    return pa.table({name: values for name, values in columns.items() if name not in fixed} | repeated)


def moment_after(count: int) -> datetime:
    """Return the moment at which so many intervals are over."""
    return START + count * GRAIN


def measure(operations: dict[str, Callable[..., Any]], *arguments: Any) -> dict[str, Cost]:
    """Call functions of a module, one after the other, in one process that is measured."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return {name: process.submit(_measure, call, arguments).result() for name, call in operations.items()}


def _measure(operation: Callable[..., Any], arguments: tuple[Any, ...]) -> Cost:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before, cpu, wall = _memory("VmRSS"), time.process_time(), time.perf_counter()
    result = operation(*arguments)
    return Cost(time.process_time() - cpu, time.perf_counter() - wall, _memory("VmHWM") - before, result)


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [found] = [line for line in lines if line.startswith(f"{name}:")]
    return int(found.split()[1]) * 1024
