"""Read a pipeline's labels from their source: key, value and the time at which each was seen."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from penstock.database.bulk import fetch_relation
from penstock.database.closed_duckdb import may_quote_values
from penstock.database.connections import Connector
from penstock.errors import ExpressionError, LabelValue, MissingColumns
from penstock.interval import DataInterval
from penstock.labels.key_text import write_key_forms
from penstock.labels.stored import Label
from penstock.privacy.masking import HIDDEN, NO_MASKING, MaskingPolicy
from penstock.run.features import closed_duckdb, time_limit
from penstock.sources import LABELS, open_labels
from penstock.sources.files_reader import FilesReader
from penstock.spec.expression import ROWS
from penstock.spec.labels import Labels
from penstock.spec.pipeline import Pipeline

WHERE = "`value` of `labels`"


@dataclass(frozen=True)
class ReadLabels:
    """Labels of some rows of the source."""

    labels: tuple[Label, ...]
    without_key: int
    """Rows without a key. They are the label of no row."""
    current: Mapping[str, str]
    """By other forms that the ledger may have of the keys: the form that they are stored in now."""


@dataclass(frozen=True)
class LostRows:
    """Rows of the source of labels that no collection can read."""

    without_time: int
    """Rows without the time at which the label was seen."""
    unreadable: int
    """Lines of files."""


def count_lost(pipeline: Pipeline, declared: Labels, connect: Connector, span: DataInterval) -> LostRows:
    """Count the rows that are the label of nothing because of how they are written."""
    reader = open_labels(pipeline, declared.source, declared.seen_at, connect)
    unreadable = len(reader.read_refused(span).rows) if isinstance(reader, FilesReader) else 0
    return LostRows(reader.count_without_time(span), unreadable)


def read_labels(
    pipeline: Pipeline,
    declared: Labels,
    connect: Connector,
    masking: MaskingPolicy,
    span: DataInterval,
    seconds: int,
    *,
    text: bool = False,
) -> Iterator[ReadLabels]:
    """Yield the labels that were seen in a span, some rows of the source at a time.

    Args:
        seconds: How long the value of one part may take.
        text: A label may be text: the name of a class.

    Raises:
        MissingColumns: the source lacks a column of the key, or `seen_at`.
        ExpressionError: the value cannot be computed.
        LabelValue: the value is not a number, and text is no label either.
    """
    reader = open_labels(pipeline, declared.source, declared.seen_at, connect)
    for partition in reader.plan(span, pipeline.partition_rows).partitions:
        yield _read_part(pipeline, declared, reader.read(span, partition), masking, seconds, text=text)


def sample_labels(
    pipeline: Pipeline,
    declared: Labels,
    connect: Connector,
    span: DataInterval,
    seconds: int,
    limit: int,
    *,
    text: bool = False,
) -> ReadLabels:
    """Return at most `limit` labels that were seen in a span, with their keys in the clear.

    Raises:
        As `read_labels`.
    """
    rows = open_labels(pipeline, declared.source, declared.seen_at, connect).read(span, limit=limit)
    return _read_part(pipeline, declared, rows, NO_MASKING, seconds, text=text)


def _read_part(
    pipeline: Pipeline, declared: Labels, rows: pa.Table, masking: MaskingPolicy, seconds: int, *, text: bool
) -> ReadLabels:
    wanted = (*pipeline.key, declared.seen_at)
    if lacking := tuple(column for column in wanted if column not in rows.column_names):
        raise MissingColumns(f"source `{LABELS}`", lacking, tuple(rows.column_names))
    forms = write_key_forms(rows, pipeline.key, masking)
    keys = [each[0] if each else None for each in forms]
    values = _read_values(pipeline, declared, rows, seconds, text=text)
    times: list[datetime | None] = rows[declared.seen_at].to_pylist()
    found = [
        Label(key, seen_at, value)
        for key, seen_at, value in zip(keys, times, values, strict=True)
        if key is not None and seen_at is not None
    ]
    current = {other: each[0] for each in forms for other in each[1:]}
    return ReadLabels(tuple(found), keys.count(None), current)


def _read_values(pipeline: Pipeline, declared: Labels, rows: pa.Table, seconds: int, *, text: bool) -> list[str]:
    """Return each row's label as JSON.

    Raises:
        ExpressionError: it cannot be computed.
        LabelValue: it is not a number, and text is no label either.
    """
    try:
        with closed_duckdb({ROWS: rows}) as connection, time_limit(connection, seconds):
            computed = fetch_relation(connection.table(ROWS).project(f"(\n{declared.value}\n) as label"))
    except duckdb.InterruptException as error:
        raise ExpressionError(pipeline.name, WHERE, f"took longer than {seconds} s") from error
    except duckdb.Error as error:
        private = pipeline.private_columns and may_quote_values(error)
        reason = f"{type(error).__name__} {HIDDEN}" if private else " ".join(str(error).split("LINE ")[0].split())
        raise ExpressionError(pipeline.name, WHERE, f"fails: {reason}") from None
    column = computed["label"]
    if text and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return [json.dumps(value, ensure_ascii=False) for value in column.to_pylist()]
    if not (pa.types.is_boolean(column.type) or _is_number(column.type)):
        raise LabelValue(pipeline.name, f"gives {column.type}")
    numbers = [None if value is None else float(value) for value in column.to_pylist()]
    if strange := next((n for n in numbers if n is not None and not math.isfinite(n)), None):
        raise LabelValue(pipeline.name, f"gives {strange}")
    return ["null" if number is None else json.dumps(number) for number in numbers]


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    )
