"""Check keys: a partition has each key once, and the features have the keys of the primary rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock.database.types import compute
from penstock.errors import Halted
from penstock.privacy.masking import HIDDEN
from penstock.run_types import ScoringRun, interval_label
from penstock.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import duckdb

SHOWN = 5
"""The most keys that a message names."""


def halt_on_duplicates(run: ScoringRun, keys: pa.Table) -> None:
    """Refuse keys of the primary source that have more than one row.

    Raises:
        Halted: there are some.
    """
    if twice := duplicate_keys(run.pipeline, keys):
        raise Halted(run.pipeline.name, interval_label(run.interval), (describe_duplicates(run.pipeline, twice),))


def describe_duplicates(pipeline: Pipeline, twice: Sequence[str]) -> str:
    """Say that keys of the primary source have more than one row."""
    key = ", ".join(f"`{c}`" for c in pipeline.key)
    return f"the key {key} of source `{pipeline.primary}` is not unique: {', '.join(twice)}"


def duplicate_keys(pipeline: Pipeline, table: pa.Table) -> tuple[str, ...]:
    """Return the first keys that have more than one row, with their counts. Empty if the key is unique."""
    key = pipeline.key
    if not table.num_rows or _is_unique(table, key):
        return ()
    keys = pa.table([_with_one_zero(table[name]) for name in key], names=list(key))
    counted = keys.group_by(list(key)).aggregate([([], "count_all")])
    twice = counted.filter(compute.greater(counted["count_all"], pa.scalar(1))).slice(0, SHOWN).to_pylist()
    return tuple(show_duplicate(pipeline, [row[c] for c in key], row["count_all"]) for row in twice)


def key_problems(
    connection: "duckdb.DuckDBPyConnection", pipeline: Pipeline, primary: pa.Table, features: pa.Table
) -> tuple[str, ...]:
    """Return why the keys of the features are wrong. Empty if each is unique and one of the primary rows'."""
    if _is_unique(features, pipeline.key) and has_same_keys(features, primary, pipeline.key):
        return ()
    key, source = quoted(pipeline.key), quoted((pipeline.primary,))
    counted = f"select {key}, count(*) from penstock_features group by {key} having count(*) > 1"  # noqa: S608 # names, quoted
    outside = f"select {key} from penstock_features anti join {source} using ({key})"  # noqa: S608 # names, quoted
    with registered_features(connection, features):
        twice = connection.execute(f"{counted} order by {key} limit {SHOWN}").fetchall()
        strange = connection.execute(f"{outside} limit {SHOWN}").fetchall()
    problems = []
    if twice:
        shown = ", ".join(show_duplicate(pipeline, row[:-1], row[-1]) for row in twice)
        problems.append(f"features give more than one row for a key: {shown}; group or deduplicate the joined side")
    if strange:
        shown = ", ".join(show_key(pipeline, row) for row in strange)
        problems.append(
            f"features give keys that `{pipeline.primary}` does not have: {shown}; join from the primary source"
        )
    return tuple(problems)


@contextmanager
def registered_features(connection: "duckdb.DuckDBPyConnection", features: pa.Table) -> Iterator[None]:
    """Register the features for a block. A connection that is kept has no rows of them afterwards."""
    connection.register("penstock_features", features)
    try:
        yield
    finally:
        connection.unregister("penstock_features")


def _is_unique(table: pa.Table, key: Sequence[str]) -> bool:
    """Whether a key of one column is surely unique. Sorting integers is ten times faster than hashing them."""
    if len(key) != 1 or table[key[0]].null_count:
        return False
    column = table[key[0]]
    if pa.types.is_integer(column.type):
        values: Any = column.to_numpy()
    elif pa.types.is_timestamp(column.type):
        values = column.cast(pa.int64()).to_numpy()
    else:
        return bool(compute.count_distinct(_with_one_zero(column), mode="only_valid").as_py() == table.num_rows)
    if np.all(values[1:] > values[:-1]):
        return True
    ordered = np.sort(values)
    return not np.any(ordered[1:] == ordered[:-1])


def _with_one_zero(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """Write -0.0 as 0.0: they are one key in each database, but two in Arrow's groups."""
    if not pa.types.is_floating(column.type):
        return column
    kind = pa.float32() if pa.types.is_float16(column.type) else column.type  # Arrow cannot add half floats
    added: pa.ChunkedArray[Any] = compute.add(column.cast(kind), pa.scalar(0.0, kind))
    return added


def has_same_keys(features: pa.Table, primary: pa.Table, key: Sequence[str]) -> bool:
    """Whether the features have the keys of the primary rows in the same order, without NULL."""
    return all(not features[name].null_count and features[name].equals(primary[name]) for name in key)


def quoted(names: Sequence[str]) -> str:
    """Return names of columns for SQL."""
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def show_duplicate(pipeline: Pipeline, key: Sequence[Any], rows: int) -> str:
    """Write a key with the number of its rows."""
    return f"{show_key(pipeline, key)} ({rows} rows)"


def show_key(pipeline: Pipeline, values: Sequence[Any]) -> str:
    """Write a key as errors show it."""
    named = zip(pipeline.key, values, strict=True)
    return " / ".join(HIDDEN if c.casefold() in pipeline.private_columns else str(value) for c, value in named)
