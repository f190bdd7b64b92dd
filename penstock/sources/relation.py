"""A source's rows as a SQL relation: count them, cut them into partitions, read each slice."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Database
from penstock.database.dialects import TableFacts
from penstock.database.types import TIMESTAMP
from penstock.errors import InexactColumn, MissingColumns, MixedTypes
from penstock.interval import DataInterval, as_utc
from penstock.run_types import Bound, Partition, RowGroup, SourcePlan, TablePlaces
from penstock.sources.event_time import TimeType, read_times, sql_type_name
from penstock.sources.groups import pack_groups
from penstock.sources.row_ranges import cut_ranges
from penstock.sources.sqlite_time import sqlite_near, sqlite_seconds, sqlite_within
from penstock.wording import write_decimal

_DAY_SECONDS = 86_400


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
    in_order: bool = False
    """Whether partitions follow the order of `partition_by`, as those of files do. Others can follow the time."""
    nested: bool = False
    """Whether structs, lists and maps are read as they are, for the features query. Without this they are JSON."""
    only: frozenset[str] | None = None
    """The columns to read, with the event time. None: all."""

    @property
    def columns(self) -> list[sa.ColumnElement[Any]]:
        """The expression to select for each column."""
        only = self.only
        return [self.database.sql.readable(c) for c in self.rows.c if only is None or c.key in only]

    def check_columns(self) -> None:
        """Raise MissingColumns if the spec names columns that the relation lacks."""
        group = self.partition_by if self.whole_groups else None
        wanted = [*self.key, *(c for c in (self.time, self.updated, group) if c)]
        lacking = tuple(dict.fromkeys(c for c in wanted if c not in self.rows.c))
        if lacking:
            raise MissingColumns(f"source `{self.source}`", lacking, tuple(self.rows.c.keys()))

    def count_and_fingerprint(self, interval: DataInterval | None) -> tuple[int, str]:
        """Count the interval's rows and take their fingerprint: count, extremes of the key, newest change.

        On Postgres it includes a sum over all changes.
        """
        self.check_columns()
        extremes = [self.database.sql.extreme(f, self.rows.c[c]) for c in self.key for f in (sa.func.min, sa.func.max)]
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
        newest, summed = self.database.sql.extreme(sa.func.max, changed), self.database.sql.sum_of_changes(changed)
        return [newest] if summed is None else [newest, summed]

    def plan(self, interval: DataInterval | None, partition_rows: int) -> SourcePlan:
        """Cut the interval's rows into partitions of about `partition_rows`."""
        rows, fingerprint = self.count_and_fingerprint(interval)
        if self.whole_groups:
            partitions, largest = self._pack_groups(interval, partition_rows)
            return SourcePlan(rows, fingerprint, partitions, largest_group=largest)
        whole = Partition(0, 1, None, None, rows)
        if rows <= partition_rows:
            return SourcePlan(rows, fingerprint, (whole,) if rows else ())
        cut = self._cut_interval(interval, partition_rows, rows) or self._cut_along(interval, partition_rows, whole)
        return SourcePlan(rows, fingerprint, tuple(replace(p, index=i, of=len(cut)) for i, p in enumerate(cut)))

    def read(
        self, interval: DataInterval | None, partition: Partition | None = None, limit: int | None = None
    ) -> pa.Table:
        """Read the interval's rows, or one slice of them, or any `limit` of them."""
        self.check_columns()
        if self.time is not None:
            _ = self._time_type  # a sample of all intervals has no condition that would look at it
        conditions = self._within_partition(interval, partition)
        statement = sa.select(*self.columns).where(*conditions).limit(limit)
        try:
            known = partition.rows if partition else limit
            table = read(self.database, statement, self._declared(), self.exact, nested=self.nested, rows=known)
        except InexactColumn as error:
            raise replace(error, source=self.source) from None
        if self.time is None or self.database.sql.time_types != "none":
            return table
        times = read_times(self.source, self.time, table[self.time])
        return table.set_column(table.column_names.index(self.time), self.time, times)

    def count_without_time(self) -> int:
        """Count the rows whose event time is NULL or infinite. No interval contains them."""
        if self.time is None:
            return 0
        time: sa.ColumnElement[Any] = self.rows.c[self.time]
        outside = self.database.sql.without_time(time)
        if self._time_type is not None and self.database.sql.has_infinite_times:
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
        stored = [] if self.database.sql.time_types == "none" else [pa.field(self.time, TIMESTAMP)]
        return pa.schema([*fields, *stored])

    def _along(self) -> sa.ColumnElement[Any]:
        """Return the expression that partitions are cut along."""
        assert self.partition_by is not None
        element, dialect = self.rows.c[self.partition_by], self.database.sql
        return dialect.cut_by(element) if self.whole_groups else dialect.orderable(element)

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
            if self.database.sql.mixes_types:
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

    def _cut_interval(self, interval: DataInterval | None, size: int, rows: int) -> list[Partition]:
        """Cut an interval along its time if an index serves that, or along the places of its table.

        Returns nothing where neither is possible, or where a key may have several rows. They must meet in one
        partition, so that the run halts.
        """
        if interval is None or self.time is None or self.in_order:
            return []
        facts = None
        if isinstance(self.rows, sa.TableClause):
            with self.database.reading() as connection:
                facts = self.database.sql.read_table_facts(connection, self.rows, self.time)
        places = facts.places if facts is not None and self.database.snapshot is not None else None
        along_time = facts is None or facts.has_time_index
        if facts is not None and along_time and not (facts.is_scattered and places and rows > places.blocks):
            places = None  # of scattered rows, an index would read most blocks once for each slice
        can_cut = places is not None or (along_time and self._time_step(0, 1) is not None)
        if not can_cut or not self._is_unique(interval, facts):
            return []
        return self._cut_time(interval, size) if places is None else self._cut_places(interval, size, rows, places)

    def _is_unique(self, interval: DataInterval, facts: TableFacts | None) -> bool:
        """Whether no key of the interval has two rows. Rows without a key do not count."""
        if facts is not None and any(columns <= {*self.key} for columns in facts.unique):
            return True
        key = [self.database.sql.orderable(self.rows.c[column]) for column in self.key]
        known = (each.is_not(None) for each in key)
        twice = sa.select(sa.literal(1)).select_from(self.rows).where(*self._within(interval), *known)
        twice = twice.group_by(*key).having(sa.func.count() > 1).limit(1)
        with self.database.reading() as connection:
            return bool(self.key) and connection.execute(twice).first() is None

    def _cut_time(self, interval: DataInterval, size: int) -> list[Partition]:
        """Cut an interval along its time, in whole seconds. Too many rows of one second are cut along the key."""

        def count(first: int, end: int, step: int) -> dict[int, int]:
            span = _span(first, end)
            return self._count_steps(self._within(span, self._near(span)), self._time_step(first, step))

        first, end = (int(moment.timestamp()) for moment in (interval.start, interval.end))
        unit = _DAY_SECONDS if self._time_type is not None and self._time_type.name == "DATE" else 1
        ranges = cut_ranges(first, end, size, count, min(unit, end - first))
        edges = [first, *(each.first for each in ranges[1:]), end]
        partitions: list[Partition] = []
        for number, each in enumerate(ranges):
            span = _span(edges[number], edges[number + 1])
            whole = Partition(0, 1, None, None, each.rows, span=span)
            partitions += self._cut_along(span, size, whole) if each.end - each.first <= unit else [whole]
        return partitions

    def _cut_places(self, interval: DataInterval, size: int, rows: int, places: TablePlaces) -> list[Partition]:
        """Cut an interval along the places of its table. Those without rows of the interval are in no partition."""
        table, within = self.rows, self._within(interval)
        assert isinstance(table, sa.TableClause)

        def count(first: int, end: int, step: int) -> dict[int, int]:
            inside = self.database.sql.in_places(table, replace(places, first=first, end=end))
            return self._count_steps([*within, *inside], self.database.sql.place_step(first, end, step))

        ranges = cut_ranges(places.first, places.end, size, count)
        if sum(each.rows for each in ranges) != rows:  # the table was rewritten since it was counted
            return []
        return [Partition(0, 1, None, None, r.rows, places=replace(places, first=r.first, end=r.end)) for r in ranges]

    def _count_steps(
        self, conditions: Sequence[sa.ColumnElement[bool]], step: sa.ColumnElement[Any] | None
    ) -> dict[int, int]:
        assert step is not None
        numbered = sa.select(step.label("step")).select_from(self.rows).where(*conditions).subquery()
        counted = sa.select(numbered.c.step, sa.func.count()).group_by(numbered.c.step)
        with self.database.reading() as connection:
            return {int(number): int(rows) for number, rows in connection.execute(counted)}

    def _time_step(self, first: int, step: int) -> sa.ColumnElement[Any] | None:
        """Return the number of the step that a row's time is in. `first` is an epoch second, `step` is in seconds."""
        assert self.time is not None
        time = self.rows.c[self.time]
        if self.database.sql.time_types == "none":
            return (sqlite_seconds(time) - first).op("/", precedence=8)(sa.literal(step))
        return self.database.sql.time_step(time, first, step)

    def _cut_along(self, interval: DataInterval | None, size: int, whole: Partition) -> list[Partition]:
        """Cut a partition along `partition_by`. Return it as it is if it is not too large."""
        if whole.rows <= size or self.partition_by is None:
            return [whole]
        edges: list[Bound | None] = [None, *self._boundaries(interval, size, whole.rows), None]
        if len(edges) == 2:
            return [whole]
        return [
            replace(whole, lower=lower, upper=upper, rows=min(size, whole.rows - i * size))
            for i, (lower, upper) in enumerate(pairwise(edges))
        ]

    def _boundaries(self, interval: DataInterval | None, size: int, rows: int) -> list[Bound]:
        along = self._along()
        shares = [(n + 0.5) / rows for n in range(size, rows, size)]
        if (wanted := self.database.sql.percentiles(along, shares)) is not None:
            with self.database.reading() as connection:
                picked = connection.execute(sa.select(wanted).where(*self._within(interval))).scalar_one() or []
            return sorted({_plain(value) for value in picked})
        numbered = (
            sa.select(along.label("bound"), sa.func.row_number().over(order_by=along).label("number"))
            .where(*self._within(interval), along.is_not(None))
            .subquery()
        )
        bound = numbered.c.bound
        chosen = sa.select(bound).where(numbered.c.number > 1, (numbered.c.number - 1) % size == 0)
        with self.database.reading() as connection:
            return [_plain(value) for value in connection.execute(chosen.distinct().order_by(bound)).scalars()]

    def _within_partition(
        self, interval: DataInterval | None, partition: Partition | None
    ) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for the rows of a partition, or of the whole interval."""
        if partition is None:
            return self._within(interval)
        slice_, span = self._slice(partition), partition.span or interval
        near = [*slice_, *(self._near(span) if partition.span else [])]
        conditions = [*self._within(span, near), *slice_]
        if partition.places is not None:
            assert isinstance(self.rows, sa.TableClause)
            conditions += self.database.sql.in_places(self.rows, partition.places)
        return conditions

    def _near(self, span: DataInterval | None) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for the rows in which SQLite's style of times is looked up."""
        if span is None or self.time is None or self.database.sql.time_types != "none":
            return []
        return [sqlite_near(self.rows.c[self.time], span)]

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
        if self.database.sql.time_types == "none":
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
        column, dialect = self.rows.c[self.time], self.database.sql
        by_name = sql_type_name(column.type)
        if dialect.time_types == "none" or (dialect.time_types == "plain" and by_name not in ("TEXT", "NUMERIC")):
            return None  # in a database that is not known, a query's columns have no types
        kind = TimeType(dialect.time_type_name(self.database.reading, column) or by_name)
        if kind.is_time:
            return kind
        with self.database.reading() as connection:
            text = sa.select(sa.cast(column, sa.Text)).where(column.is_not(None)).limit(1)
            sample = connection.execute(text).scalar()
        raise kind.error(
            self.source, self.time, "" if sample is None else str(sample), self.declares_columns, dialect.as_time
        )


def _span(first: int, end: int) -> DataInterval:
    """Return an interval from one epoch second to before another."""
    return DataInterval(datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(end, UTC))


def _mark(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else str(value)


def _plain(value: Any) -> Bound:
    if isinstance(value, datetime):
        return as_utc(value)
    if isinstance(value, Decimal) and value.is_finite():
        return write_decimal(value)
    return value if isinstance(value, int | float | str) else str(value)
