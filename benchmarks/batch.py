"""Make rows and models for the workloads: normal numbers, spread over one day in the order of the key."""

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.place import Place
from benchmarks.workload import DAY, START, Work

SAMPLE = 50_000
"""Rows for training a model, even if fewer are scored."""
TREES, DEPTH = 100, 6
NUMBERS = tuple(f"f{number:02d}" for number in range(20))

ROW_EXPECTATIONS = (
    ("expect_column_values_to_not_be_null", {"column": "f00"}),
    ("expect_column_values_to_not_be_null", {"column": "f01"}),
    ("expect_column_values_to_be_between", {"column": "f02", "min_value": -10, "max_value": 10}),
    ("expect_column_values_to_be_between", {"column": "f03", "min_value": -10, "max_value": 10}),
    ("expect_column_values_to_be_between", {"column": "f04", "min_value": -10, "max_value": 10}),
    ("expect_column_values_to_not_be_in_set", {"column": "f05", "value_set": [-999.0, 999.0]}),
)
WHOLE_EXPECTATIONS = (
    ("expect_column_mean_to_be_between", {"column": "f06", "min_value": -1, "max_value": 1}),
    ("expect_table_row_count_to_be_between", {"min_value": 1}),
)
EXPECTATIONS: tuple[tuple[str, dict[str, Any]], ...] = ROW_EXPECTATIONS + WHOLE_EXPECTATIONS


def make_rows(rows: int, numbers: tuple[str, ...] = NUMBERS, span: timedelta = DAY) -> pa.Table:
    """Return `order_id`, `created_at` and one double per name. There are no NULLs and no rows to refuse."""
    rng = np.random.default_rng(1)
    micros = np.linspace(0, span / timedelta(microseconds=1), rows, endpoint=False).astype("timedelta64[us]")
    created = np.datetime64(START.replace(tzinfo=None), "us") + micros
    return pa.table(
        {
            "order_id": pa.array(np.arange(1, rows + 1)),
            "created_at": pa.array(created).cast(pa.timestamp("us", "UTC")),
            **{name: pa.array(rng.standard_normal(rows)) for name in numbers},
        }
    )


def register_model(
    place: Place, rows: pa.Table, features: tuple[str, ...], aliases: tuple[str, ...] = ("champion",)
) -> None:
    """Train a model on the first three features as signal, and register a version for each alias."""
    from penstock.models.registry import Registry  # the environments of peers have no Penstock
    from penstock.models.training import train

    sample = rows.slice(0, SAMPLE).select(list(features))
    first, second, third = (sample[name].to_numpy() for name in features[:3])
    noise = np.random.default_rng(2).standard_normal(sample.num_rows)
    label = pa.array((first * second + third + noise > 0).astype(np.int64))
    trained = train(sample.append_column("label", label), "label", rounds=TREES, holdout=0, params={"max_depth": DEPTH})
    for alias in aliases:
        trained.register(Registry(place.models), place.workload.lower(), alias=alias)


def spell_expectations(stage: str) -> dict[str, Any]:
    """Write the expectations as in a spec: row expectations quarantine, aggregate ones halt."""
    rows = [{"type": type_, "severity": "warning", **arguments} for type_, arguments in ROW_EXPECTATIONS]
    return {stage: rows + [{"type": type_, **arguments} for type_, arguments in WHOLE_EXPECTATIONS]}


def numbers_work(place: Place, table: str = "orders") -> Work:
    """Return the work of the workloads that score one table with twenty doubles."""
    return Work(
        spec={
            "name": "orders",
            "interval": {"column": "created_at", "grain": "1d", "start": START.isoformat()},
            "sources": {"orders": {"kind": "sql", "connection": "shop", "table": table, "key": ["order_id"]}},
            "expectations": spell_expectations("orders"),
            "model": f"{place.workload.lower()}@champion",
            "destination": {"connection": "warehouse", "table": "scores"},
        },
        select=f"select order_id, {', '.join(NUMBERS)} from {table}",
        features=NUMBERS,
        expectations=EXPECTATIONS,
    )
