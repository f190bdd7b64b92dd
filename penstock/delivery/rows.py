"""The rows of a run as a target gets them: chosen by `where`, cut to `columns`, written as JSON."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Database
from penstock.database.types import MAX_DIGITS, ExactNumber, arrow_type
from penstock.errors import ColumnNotDeliverable, DestinationMismatch, KeyNotDeliverable
from penstock.interval import as_utc
from penstock.ledger.destinations import split_name
from penstock.ledger.reader import RunRecord
from penstock.privacy.key_forms import write_value
from penstock.privacy.masking import MaskingPolicy
from penstock.run.history_table import history_name, reflect_history, stored_columns
from penstock.run.row_types import NUMBER
from penstock.spec.column_names import OWN_COLUMNS
from penstock.spec.deliver import AnyTarget
from penstock.spec.pipeline import Pipeline
from penstock.wording import write_decimal


def read_delivered(
    database: Database, run: RunRecord, pipeline: Pipeline, target: AnyTarget, statement_seconds: int
) -> Iterator[pa.Table]:
    """Yield the rows of a run that a target gets, one partition at a time: the key, and then the columns.

    A target that takes an interval as a whole gets the same types in all partitions: those of the table.

    Raises:
        DestinationMismatch: the table lacks a column that is delivered.
        ColumnNotDeliverable: a value does not fit the type of its column.
        ExpressionError: `where` cannot be evaluated.
    """
    schema, _ = split_name(run.destination or "")
    name = history_name(run.destination_table, schema or None)
    with database.reading() as connection:
        table = reflect_history(connection, name.name, schema or None)
        numbers = sa.select(table.c.partition).where(table.c.run_id == run.run_id).distinct()
        partitions = sorted(connection.execute(numbers).scalars())
        kinds = pa.schema([(c.name, _file_type(c.type)) for c in stored_columns(connection, name)])
    stored = [column.name for column in table.c if column.name not in OWN_COLUMNS]
    columns = [column for column in target.columns or stored if column not in pipeline.key]
    if lacking := [column for column in columns if column not in stored]:
        reason = f"it has no column `{lacking[0]}`, which `{target.name}` of `deliver` gets"
        raise DestinationMismatch(run.destination_table, reason, "Correct `columns`, or add the column to `keep`")
    whole = target.batch_rows is None
    for partition in partitions:
        mine = (table.c.run_id == run.run_id, table.c.partition == partition)
        query = sa.select(*(table.c[column] for column in stored)).where(*mine)
        rows = read(database, query, kinds, exact=stored) if whole else read(database, query, exact=pipeline.key)
        if target.where is not None:
            from penstock.run.decisions import choose_delivered

            rows = rows.filter(choose_delivered(pipeline, target.name, target.where, rows, statement_seconds))
        rows = rows.select([*pipeline.key, *columns])
        yield _cast(rows, kinds, target.name) if whole else rows


def _file_type(kind: sa.types.TypeEngine[Any]) -> pa.DataType:
    """Return the type of a column in a file, which does not depend on the values."""
    if isinstance(kind, ExactNumber):
        return pa.decimal128(MAX_DIGITS, kind.scale) if kind.precision is not None or kind.scale else NUMBER
    return arrow_type(kind)


def _cast(rows: pa.Table, kinds: pa.Schema, target: str) -> pa.Table:
    columns = []
    for column in rows.column_names:
        kind = kinds.field(column).type
        try:
            columns.append(rows[column].cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ColumnNotDeliverable(target, column, str(kind)) from None
    return pa.table(columns, names=rows.column_names)


def hide_key(rows: pa.Table, key: Sequence[str], masking: MaskingPolicy) -> pa.Table:
    """Replace the private columns of the key by their keyed hashes."""
    for column in key:
        if masking.hides([column]):
            hashed = [masking.hash(write_value(value)) for value in rows[column].to_pylist()]
            rows = rows.set_column(rows.column_names.index(column), column, pa.array(hashed, pa.string()))
    return rows


def write_rows(rows: pa.Table, key: Sequence[str], masking: MaskingPolicy, target: str) -> tuple[list[str], list[str]]:
    """Return the key and the other columns of each row, as JSON. Equal values give equal texts.

    A private column of the key is written as its keyed hash.

    Raises:
        KeyNotDeliverable: a key is an infinite or undefined number.
    """
    others = [column for column in rows.column_names if column not in key]
    keys = [_write_key(row, masking, target) for row in rows.select(sorted(key)).to_pylist()]
    values = [write_json(row) for row in rows.select(others).to_pylist()]
    return keys, values if others else ["{}"] * len(keys)


def _write_key(row: dict[str, Any], masking: MaskingPolicy, target: str) -> str:
    """Write a key in the order of its columns' names, so that it has one text whatever the spec and the database."""
    for column, value in row.items():
        if isinstance(value, float | Decimal) and not math.isfinite(value):
            raise KeyNotDeliverable(target, column)
        row[column] = masking.hash(write_value(value)) if masking.hides([column]) else _whole(value)
    return write_json(row)


def _whole(value: Any) -> Any:
    """Return a whole number as an integer: a database may give it as one, as a decimal, or as a float."""
    if isinstance(value, float | Decimal) and value == int(value):
        return int(value)
    return value


def digest(values: str) -> str:
    """Return what tells whether two rows have the same values."""
    return hashlib.sha256(values.encode()).hexdigest()[:32]


def write_json(value: Any) -> str:
    """Write a value as JSON without spaces. A number that JSON does not have is null."""
    plain = {name: _plain(each) for name, each in value.items()}
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):  # a receiver would read a JSON number as a float
        return write_decimal(value) if value.is_finite() else None
    if isinstance(value, datetime):
        return as_utc(value).isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value
