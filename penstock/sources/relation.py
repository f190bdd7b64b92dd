"""A source's rows as a SQL relation: count them, cut them into partitions, read each slice."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from penstock.database.bulk import read
from penstock.database.connections import Database
from penstock.database.decimals import write_decimal
from penstock.database.types import TIMESTAMP
from penstock.errors import InexactColumn, MissingColumns, MixedTypes
from penstock.interval import DataInterval, as_utc
from penstock.run_types import Bound, Partition, RowGroup, SourcePlan
from penstock.sources.event_time import TimeType, read_times, sql_type_name
from penstock.sources.groups import pack_groups
from penstock.sources.postgres_types import is_ordered, readable
from penstock.sources.sqlite_time import sqlite_within


@dataclass(frozen=True)
class Relation:
    """The rows of one source in one database."""

    source: str
    database: Database
    rows: sa.FromClause
    key: tuple[str, ...]
    partition_by: str | None
    """The column that partitions are cut by. Rows with equal values stay together."""
    time: str | None = None
    """The event time column, if rows are selected by interval."""
    updated: str | None = None
    declared: pa.Schema | None = None
    whole_groups: bool = False
    """Whether `partition_by` is that of the spec: a value's rows are never cut, and partitions keep to their size."""
    exact: frozenset[str] = frozenset()
    """Keys and columns to keep, which must not lose a digit."""
    declares_columns: bool = False
    """Whether the spec can declare the types of the columns."""
    nested: bool = False
    """Whether structs, lists and maps are read as they are, for the features query. Without this they are JSON."""

    @property
    def columns(self) -> list[sa.ColumnElement[Any]]:
        """The expression to select for each column."""
        return [readable(c) for c in self.rows.c] if self.database.dialect == "postgresql" else list(self.rows.c)

    def check_columns(self) -> None:
        """Raise MissingColumns if the spec names columns that the relation lacks."""
        group = self.partition_by if self.whole_groups else None
        wanted = [*self.key, *(c for c in (self.time, self.updated, group) if c)]
        lacking = tuple(dict.fromkeys(c for c in wanted if c not in self.rows.c))
        if lacking:
            raise MissingColumns(f"source `{self.source}`", lacking, tuple(self.rows.c.keys()))

    def count_and_fingerprint(self, interval: DataInterval | None) -> tuple[int, str]:
        """Count the interval's rows and take their fingerprint: count, extremes of the key, newest change.

        On Postgres it includes a sum over all changes. The transaction that began first may commit last, and its
        changes are then older than the newest one.
        """
        self.check_columns()
        extremes = [self._marked(f(self._orderable(c))) for c in self.key for f in (sa.func.min, sa.func.max)]
        counted = (
            sa.select(sa.func.count(), *extremes, *self._changes())
            .select_from(self.rows)
            .where(*self._within(interval))
        )
        with self.database.reading() as connection:
            rows, *marks = connection.execute(counted).one()
        return int(rows), json.dumps([int(rows), *(_mark(m) for m in marks)], ensure_ascii=False)

    def _changes(self) -> list[sa.ColumnElement[Any]]:
        if self.updated is None:
            return []
        changed = self.rows.c[self.updated]
        newest = self._marked(sa.func.max(changed))
        if self.database.dialect != "postgresql":
            return [newest]
        dated = isinstance(changed.type, sa.DateTime)  # the type's own hash takes a seventh of the time
        hashed = sa.func.timestamp_hash(sa.cast(changed, sa.DateTime)) if dated else sa.func.hashtext(_as_text(changed))
        return [newest, sa.func.sum(hashed)]

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        """Cut the interval's rows into partitions of about `partition_rows`."""
        rows, fingerprint = self.count_and_fingerprint(interval)
        if self.whole_groups:
            partitions, largest = self._pack_groups(interval, partition_rows)
            return SourcePlan(rows, fingerprint, partitions, largest_group=largest)
        bounds = self._boundaries(interval, partition_rows, rows) if rows > partition_rows and self.partition_by else []
        edges: list[Bound | None] = [None, *bounds, None]
        count = len(edges) - 1 if rows else 0
        partitions = tuple(
            Partition(
                i, count, edges[i], edges[i + 1], min(partition_rows, rows - i * partition_rows) if count > 1 else rows
            )
            for i in range(count)
        )
        return SourcePlan(rows, fingerprint, partitions)

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        """Read the interval's rows, or one slice of them, or any `limit` of them."""
        self.check_columns()
        if self.time is not None:
            _ = self._time_type  # a sample of all intervals has no condition that would look at it
        slice_ = self._slice(partition) if partition else []
        conditions = [*self._within(interval, slice_), *slice_]
        statement = sa.select(*self.columns).where(*conditions).limit(limit)
        try:
            table = read(self.database, statement, self._declared(), self.exact, nested=self.nested)
        except InexactColumn as error:
            raise replace(error, source=self.source) from None
        if self.time is None or self.database.dialect != "sqlite":
            return table
        times = read_times(self.source, self.time, table[self.time])
        return table.set_column(table.column_names.index(self.time), self.time, times)

    def count_without_time(self) -> int:
        """Count the rows whose event time is NULL or infinite. No interval contains them."""
        if self.time is None:
            return 0
        time: sa.ColumnElement[Any] = self.rows.c[self.time]
        if self.database.dialect == "sqlite":
            time = sa.func.nullif(sa.type_coerce(time, sa.Text()), "")
        outside: sa.ColumnElement[bool] = time.is_(None)
        if self._time_type is not None:
            outside = sa.or_(outside, sa.not_(self._time_type.is_finite(time)))
        lacking = sa.select(sa.func.count()).select_from(self.rows).where(outside)
        with self.database.reading() as connection:
            return int(connection.execute(lacking).scalar_one())

    def _declared(self) -> pa.Schema | None:
        """Return the declared types, with the event time as a timestamp whatever the database declares.

        SQLite's times are read as they are stored, and `read_times` converts them.
        """
        if self.time is None:
            return self.declared
        fields = [] if self.declared is None else [f for f in self.declared if f.name != self.time]
        stored = [] if self.database.dialect == "sqlite" else [pa.field(self.time, TIMESTAMP)]
        return pa.schema([*fields, *stored])

    def _orderable(self, column: str) -> sa.ColumnElement[Any]:
        element = self.rows.c[column]
        if self.database.dialect == "postgresql":
            return element if is_ordered(element.type) else _as_text(element)
        return _as_text(element) if isinstance(element.type, sa.Uuid | sa.Boolean) else element

    def _marked(self, element: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return an extreme for the fingerprint. Postgres has times that Python lacks, such as `infinity`."""
        postgres = self.database.dialect == "postgresql"
        return _as_text(element) if postgres and isinstance(element.type, sa.Date | sa.DateTime) else element

    def _along(self) -> sa.ColumnElement[Any]:
        """Return the expression that partitions are cut along."""
        assert self.partition_by is not None
        element = self.rows.c[self.partition_by]
        if (
            not self.whole_groups
            or self.database.dialect != "duckdb"
            or isinstance(element.type, sa.Integer | sa.String)
        ):
            return self._orderable(self.partition_by)
        return _as_text(element)  # a bound of another type may not compare with the column as it is

    def _pack_groups(self, interval: DataInterval | None, size: int) -> tuple[tuple[Partition, ...], RowGroup | None]:
        """Count the rows of each value of `partition_by`, and fill partitions with them.

        Raises:
            MixedTypes: a SQLite column has numbers and texts, which become equal only after they are read.
        """
        along, within = self._along(), self._within(interval)
        numbered = sa.func.count()
        counted = sa.select(along, numbered).select_from(self.rows).where(*within, along.is_not(None))
        without = sa.select(numbered).select_from(self.rows).where(*within, along.is_(None))
        with self.database.reading() as connection:
            if self.database.dialect == "sqlite":
                self._refuse_mixed(connection, within)
            nulls = int(connection.execute(without).scalar_one())
            groups = connection.execution_options(yield_per=10_000).execute(counted.group_by(along).order_by(along))
            return pack_groups(((_plain(value), int(rows)) for value, rows in groups), nulls, size)

    def _refuse_mixed(self, connection: sa.Connection, within: Sequence[sa.ColumnElement[bool]]) -> None:
        assert self.partition_by is not None
        kind = sa.func.typeof(self.rows.c[self.partition_by])
        kinds = set(connection.execute(sa.select(kind).select_from(self.rows).where(*within).distinct()).scalars())
        if not any(kinds <= {*alike, "null"} for alike in (("integer", "real"), ("text",))):
            raise MixedTypes(self.source, self.partition_by, tuple(sorted(kinds - {"null"})))

    def _boundaries(self, interval: DataInterval | None, size: int, rows: int) -> list[Bound]:
        along = self._along()
        if self.database.dialect == "postgresql" and isinstance(along.type, sa.Integer | sa.DateTime):
            return self._percentiles(interval, along, [(n + 0.5) / rows for n in range(size, rows, size)])
        numbered = (
            sa.select(along.label("bound"), sa.func.row_number().over(order_by=along).label("number"))
            .where(*self._within(interval), along.is_not(None))
            .subquery()
        )
        bound = numbered.c.bound
        picked = sa.select(bound).where(numbered.c.number > 1, (numbered.c.number - 1) % size == 0)
        with self.database.reading() as connection:
            return [_plain(value) for value in connection.execute(picked.distinct().order_by(bound)).scalars()]

    def _percentiles(
        self, interval: DataInterval | None, along: sa.ColumnElement[Any], shares: list[float]
    ) -> list[Bound]:
        """Find the boundaries by sorting the bare values, which takes a third of the window function's time."""
        wanted = sa.func.percentile_disc(sa.literal(shares, ARRAY(sa.Double))).within_group(along)
        with self.database.reading() as connection:
            picked = connection.execute(sa.select(wanted).where(*self._within(interval))).scalar_one() or []
        return sorted({_plain(value) for value in picked})

    def _slice(self, partition: Partition) -> list[sa.ColumnElement[bool]]:
        if self.partition_by is None:
            return []
        along = self._along()
        conditions: list[sa.ColumnElement[bool]] = []
        if partition.lower is not None:
            conditions.append(along >= self._literal(partition.lower, along))
        if partition.upper is not None:
            below = along < self._literal(partition.upper, along)
            conditions.append(sa.or_(below, along.is_(None)) if partition.lower is None else below)
        return conditions

    def _literal(self, value: Bound, along: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        if isinstance(value, str):
            text = sa.literal(value, sa.Text())
            known = not isinstance(along.type, sa.String | sa.types.NullType)
            return sa.cast(text, along.type) if known else text  # a decimal or a date, stored as text
        return sa.literal(value, sa.DateTime(timezone=True)) if isinstance(value, datetime) else sa.literal(value)

    def _within(
        self, interval: DataInterval | None, slice_: Sequence[sa.ColumnElement[bool]] = ()
    ) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for the interval's rows.

        Args:
            slice_: further conditions. SQLite's style of times is looked up only in these rows.
        """
        if self.time is None or interval is None:
            return []
        column: sa.ColumnElement[Any] = self.rows.c[self.time]
        if self.database.dialect == "sqlite":
            with self.database.reading() as connection:
                return sqlite_within(connection, self.source, self.rows, self.time, interval, slice_)
        if self._time_type is not None:
            first, last = (self._time_type.literal(m) for m in (interval.start, interval.end))
            return [sa.type_coerce(column, first.type) >= first, sa.type_coerce(column, last.type) < last]
        first, last = (sa.literal(m.replace(tzinfo=None), sa.DateTime()) for m in (interval.start, interval.end))
        column = sa.type_coerce(column, sa.DateTime())
        return [column >= first, column < last]

    @cached_property
    def _time_type(self) -> TimeType | None:
        """The type of the event time in a database that has types of time, or None for databases not known here.

        Raises:
            UnreadableTime: the column has another type.
        """
        assert self.time is not None
        column, dialect = self.rows.c[self.time], self.database.dialect
        if dialect not in ("postgresql", "duckdb"):
            return None
        with self.database.reading() as connection:
            name = sql_type_name(column.type)
            if dialect == "duckdb":  # the reflected type does not show nanoseconds
                described: Any = connection.execute(sa.select(column).limit(0)).cursor
                name = str(described.description[0][1]).upper()
            kind = TimeType(name)
            if kind.is_time:
                return kind
            sample = connection.execute(sa.select(_as_text(column)).where(column.is_not(None)).limit(1)).scalar()
        raise kind.error(self.source, self.time, "" if sample is None else str(sample), self.declares_columns)


def _as_text(element: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(element, sa.Text)


def _mark(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else str(value)


def _plain(value: Any) -> Bound:
    if isinstance(value, datetime):
        return as_utc(value)
    if isinstance(value, Decimal) and value.is_finite():
        return write_decimal(value)
    return value if isinstance(value, int | float | str) else str(value)
