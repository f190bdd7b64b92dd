"""Destinations in the ledger: their names, locks and owners, and the runs in them that overlap."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.dialects import dialect_of
from penstock.errors import DestinationDisputed, DestinationMismatch, DestinationTaken, KeyCollision
from penstock.interval import DataInterval
from penstock.ledger.tables import destinations, intervals, runs
from penstock.run_types import interval_label
from penstock.spec import parts
from penstock.spec.pipeline import Pipeline
from penstock.spec.pipeline_fields import Destination

LIVE = parts.LIVE
SERVED = parts.SERVED
VIEWS = ("", "_latest", "_reasons", "__reasons", "__served", "__history")
"""What the names of a destination's views and of its tables end in."""


@dataclass(frozen=True)
class PlacedRun:
    """A run in a destination: published, running, or audited and waiting for others."""

    run_id: str
    pipeline: str
    interval: DataInterval | None
    """None: a snapshot. It overlaps every interval."""
    source_fingerprint: str | None
    started_at: datetime
    lease_token: str
    lease_until: datetime

    @property
    def label(self) -> str:
        return interval_label(self.interval)

    def overlaps(self, interval: DataInterval | None) -> bool:
        return self.interval is None or interval is None or self.interval.overlaps(interval)


@dataclass(frozen=True)
class Dispute:
    """What breaks the rules of a destination: several owners, or live runs that overlap."""

    destination: str
    pipelines: tuple[str, ...]
    """The pipelines that have live runs there."""
    overlaps: tuple[tuple[PlacedRun, PlacedRun], ...]


def destination_name(connection: sa.Connection, destination: Destination) -> str:
    """Return the destination's name in the ledger: `schema.table`, in lower case where case makes no difference."""
    return qualified_name(connection, destination.schema_, destination.table)


def qualified_name(connection: sa.Connection, schema: str | None, table: str) -> str:
    """Return `schema.table` with the connection's default schema for None."""
    name = f"{schema or connection.dialect.default_schema_name or ''}.{table}"
    return name if dialect_of(connection).case_sensitive_tables else name.casefold()


def split_name(name: str) -> tuple[str, str]:
    """Return schema and table of a destination's name. A table has no dot."""
    schema, _, table = name.rpartition(".")
    return schema, table


def shown_variant(name: str) -> str:
    """Return the variant of the runs that the views of a destination show: `live`, or that of a sandbox."""
    sandbox = split_name(name)[1].partition(parts.SANDBOX_TABLE)[2]
    return f"{parts.SANDBOX}{sandbox}" if sandbox else LIVE


def _shown(name: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for the published runs whose rows the views of a destination show."""
    return runs.c.variant == shown_variant(name), runs.c.state == "published"


def lock_destination(connection: sa.Connection, name: str) -> None:
    """Write the destination's row. Other writers wait or fail until this transaction ends."""
    connection.execute(
        sa.update(destinations).where(destinations.c.destination == name).values(guard=destinations.c.guard + 1)
    )


def lock_pointer(connection: sa.Connection, destination: str, pipeline: str, key: str, variant: str) -> None:
    """Write the rows of the destination and of the interval. Other writers wait or fail until this transaction ends."""
    lock_destination(connection, destination)
    connection.execute(
        sa.update(intervals)
        .where(intervals.c.pipeline == pipeline, intervals.c.interval_key == key, intervals.c.variant == variant)
        .values(guard=intervals.c.guard + 1)
    )


def ensure_locks(database: Database, pipeline: Pipeline, key: str, variant: str) -> str:
    """Make the rows that `lock_pointer` writes, where they are missing. Return the destination's name.

    Raises:
        DestinationTaken: another destination has a view or a table of the same name.
    """
    with database.reading() as connection:
        name = destination_name(connection, pipeline.destination)
        owner = connection.execute(_owner(name)).scalar()
        guard = {"pipeline": pipeline.name, "interval_key": key, "variant": variant}
        match = [intervals.c[column] == value for column, value in guard.items()]
        locked = connection.execute(sa.select(intervals.c.guard).where(*match)).first()
        if owner is None:
            _refuse_shared_names(connection, name, pipeline.name)
    rows = []
    if owner is None:
        first = {"destination": name, "pipeline": pipeline.name, "guard": 0, "disputed": False}
        rows.append(destinations.insert().values(**first))
    if locked is None:
        rows.append(intervals.insert().values(**guard, guard=0))
    for row in rows:
        try:
            with database.writing() as connection:
                connection.execute(row)
        except KeyCollision:
            pass  # another run has just made the same row
    return name


def lock_run(connection: sa.Connection, run: sa.RowMapping) -> None:
    """Lock the destination and the interval of a row of `runs`."""
    lock_pointer(connection, run["destination"], run["pipeline"], run["interval_key"], run["variant"])


def adopt_older_runs(connection: sa.Connection, name: str, pipeline: Pipeline) -> None:
    """Give runs the destination's name that a process of version 7 wrote while the ledger was upgraded."""
    older = (runs.c.destination.is_(None), runs.c.pipeline == pipeline.name)
    table = runs.c.destination_table == pipeline.destination.table
    connection.execute(sa.update(runs).where(*older, table).values(destination=name))


def take_ownership(connection: sa.Connection, name: str, pipeline: str, now: datetime) -> None:
    """Make the pipeline the owner of the destination. Part of a transaction that has locked it.

    Raises:
        DestinationTaken: another pipeline has a live or a running run there.
        DestinationDisputed: its live runs overlap.
    """
    row = connection.execute(sa.select(destinations).where(destinations.c.destination == name)).mappings().one()
    if not row["disputed"] and row["pipeline"] == pipeline:
        return
    if row["disputed"]:
        refuse_dispute(connection, name, pipeline)
    others = _find_others(connection, name, pipeline, now)
    if others:
        raise _taken(name, pipeline, others)
    values = {"pipeline": pipeline, "disputed": False}
    connection.execute(sa.update(destinations).where(destinations.c.destination == name).values(**values))


def owns(connection: sa.Connection, name: str, pipeline: str) -> bool:
    return bool(connection.execute(_owner(name)).scalar() == pipeline)


def refuse_others(database: Database, pipeline: Pipeline) -> None:
    """Refuse a pipeline that may not write to its destination.

    Raises:
        DestinationMismatch: its schema is missing, or the database has the table in other upper and lower case.
        DestinationTaken: it belongs to another pipeline, or its names collide with those of another destination.
        DestinationDisputed: its live runs overlap, or belong to several pipelines.
    """
    with database.reading() as connection:
        name = destination_name(connection, pipeline.destination)
        _refuse_missing_place(connection, pipeline.destination)
        if not sa.inspect(connection).has_table(destinations.name):
            return  # a check looks before the first run has made the ledger
        row = connection.execute(sa.select(destinations).where(destinations.c.destination == name)).mappings().first()
        if row is None:
            _refuse_shared_names(connection, name, pipeline.name)
        elif row["disputed"]:
            refuse_dispute(connection, name, pipeline.name)
        elif row["pipeline"] != pipeline.name:
            others = _find_others(connection, name, pipeline.name, database.now(connection))
            if others:
                raise _taken(name, pipeline.name, others)


def _refuse_missing_place(connection: sa.Connection, destination: Destination) -> None:
    """Refuse a schema that is missing, and a table that the database has in other upper and lower case.

    Raises:
        DestinationMismatch: the schema is missing, or the history table is spelled otherwise.
    """
    inspector, schema = sa.inspect(connection), destination.schema_
    if schema is not None and not inspector.has_schema(schema):
        has_schemas = dialect_of(connection).has_schemas
        remedy = f"Create it: `create schema {schema}`" if has_schemas else "Take `schema` out"
        raise DestinationMismatch(destination.table, f"the database has no schema `{schema}`", remedy)
    if dialect_of(connection).case_sensitive_tables:
        return
    wanted = destination.table + VIEWS[-1]
    for table in inspector.get_table_names(schema=schema or connection.dialect.default_schema_name):
        if table != wanted and table.casefold() == wanted.casefold():
            spelled = table.removesuffix(VIEWS[-1])
            reason = f"the database has it as `{spelled}`, and makes no difference between upper and lower case"
            raise DestinationMismatch(destination.table, reason, f"Write `table: {spelled}`")


def refuse_dispute(connection: sa.Connection, name: str, pipeline: str) -> None:
    """Refuse a destination that broke the rules before version 8 and still does.

    Raises:
        DestinationDisputed: its live runs overlap, or belong to several pipelines.
    """
    dispute = find_dispute(connection, name)
    if dispute is not None:
        overlaps = tuple(f"{a.run_id[:8]} {a.label} and {b.run_id[:8]} {b.label}" for a, b in dispute.overlaps)
        raise DestinationDisputed(split_name(name)[1], pipeline, dispute.pipelines, overlaps)


def _find_others(connection: sa.Connection, name: str, pipeline: str, now: datetime) -> dict[str, int]:
    """Return other pipelines whose runs the destination's view shows, or with running ones under a lease."""
    live = sa.and_(runs.c.state == "published", runs.c.variant == shown_variant(name))
    state = sa.or_(live, sa.and_(runs.c.state == "running", runs.c.lease_until > now))
    return _count_runs(connection, name, state, runs.c.pipeline != pipeline)


def _count_runs(connection: sa.Connection, name: str, *where: sa.ColumnElement[bool]) -> dict[str, int]:
    query = sa.select(runs.c.pipeline, sa.func.count()).where(runs.c.destination == name, *where)
    return {str(p): int(number) for p, number in connection.execute(query.group_by(runs.c.pipeline))}


def find_dispute(connection: sa.Connection, name: str, limit: int = 5) -> Dispute | None:
    """Return what breaks the rules of the destination, with the first overlaps. None: nothing does."""
    pipelines = tuple(sorted(_count_runs(connection, name, *_shown(name))))
    found = [*_find_overlapping_pairs(connection, name, limit), *_find_beside_snapshots(connection, name, limit)][
        :limit
    ]
    return Dispute(name, pipelines, tuple(found)) if found or len(pipelines) > 1 else None


def _find_overlapping_pairs(connection: sa.Connection, name: str, limit: int) -> list[tuple[PlacedRun, PlacedRun]]:
    """Return the first pairs of published intervals that overlap.

    An index gives the runs in the order of their starts. Only those that begin before the end of an earlier one are
    compared with others, because a comparison of all with all would take hours for a year of short intervals.
    """
    here = (runs.c.destination == name, *_shown(name))
    reached = sa.func.max(runs.c.interval_end).over(order_by=runs.c.interval_start, rows=(None, -1)).label("reached")
    ordered = sa.select(runs.c.interval_start, reached).where(*here, runs.c.interval_start.is_not(None)).subquery()
    late = sa.select(ordered.c.interval_start).where(ordered.c.interval_start < ordered.c.reached).distinct()
    starts = connection.execute(late.order_by(ordered.c.interval_start).limit(limit)).scalars().all()
    if not starts:
        return []
    one, two = _published(name, "one"), _published(name, "two")
    begins_inside = sa.and_(two.c.interval_start >= one.c.interval_start, two.c.interval_start < one.c.interval_end)
    later = sa.or_(two.c.interval_start > one.c.interval_start, two.c.run_id > one.c.run_id)
    return _fetch_pairs(connection, one, two, limit, two.c.interval_start.in_(starts), begins_inside, later)


def _find_beside_snapshots(connection: sa.Connection, name: str, limit: int) -> list[tuple[PlacedRun, PlacedRun]]:
    """Return published snapshots with other published runs, which they overlap. Two snapshots are one pair."""
    one, two = _published(name, "one"), _published(name, "two")
    other = sa.or_(two.c.interval_start.is_not(None), two.c.run_id > one.c.run_id)
    return _fetch_pairs(connection, one, two, limit, one.c.interval_start.is_(None), other)


def _fetch_pairs(
    connection: sa.Connection, one: sa.Subquery, two: sa.Subquery, limit: int, *where: sa.ColumnElement[bool]
) -> list[tuple[PlacedRun, PlacedRun]]:
    query = (
        sa.select(*(c.label(f"one_{c.name}") for c in one.c), *(c.label(f"two_{c.name}") for c in two.c))
        .where(*where)
        .order_by(one.c.interval_start, two.c.interval_start)
        .limit(limit)
    )
    return [(_placed_run(r, "one_"), _placed_run(r, "two_")) for r in connection.execute(query).mappings()]


def find_overlapping(
    connection: sa.Connection, name: str, variant: str, interval: DataInterval | None, state: str = "published"
) -> list[PlacedRun]:
    """Return the destination's runs in a state that share a moment with the interval, the earliest first."""
    here = (runs.c.destination == name, runs.c.variant == variant, runs.c.state == state)
    query = sa.select(*_COLUMNS).where(*here).order_by(runs.c.interval_start)
    if interval is not None:
        # Published runs do not overlap, so of those that began before only the last can reach into the interval.
        before = sa.select(sa.func.max(runs.c.interval_start)).where(*here, runs.c.interval_start <= interval.start)
        first = sa.func.coalesce(before.scalar_subquery(), interval.start) if state == "published" else None
        meets = [runs.c.interval_start < interval.end, runs.c.interval_end > interval.start]
        meets += [] if first is None else [runs.c.interval_start >= first]
        query = query.where(sa.or_(sa.and_(*meets), runs.c.interval_start.is_(None)))
    return [_placed_run(row) for row in connection.execute(query).mappings()]


def read_placed(connection: sa.Connection, run_id: str) -> PlacedRun:
    return _placed_run(connection.execute(sa.select(*_COLUMNS).where(runs.c.run_id == run_id)).mappings().one())


_COLUMNS = [
    runs.c[name]
    for name in (
        *("run_id", "pipeline", "interval_start", "interval_end", "timezone"),
        *("source_fingerprint", "started_at", "lease_token", "lease_until"),
    )
]


def _placed_run(row: sa.RowMapping, prefix: str = "") -> PlacedRun:
    start, end = row[f"{prefix}interval_start"], row[f"{prefix}interval_end"]
    interval = None if start is None else DataInterval(start, end, row[f"{prefix}timezone"] or "UTC")
    own = ("interval_start", "interval_end", "timezone")
    rest = {c.name: row[prefix + c.name] for c in _COLUMNS if c.name not in own}
    return PlacedRun(interval=interval, **rest)


def _published(name: str, alias: str) -> sa.Subquery:
    here = (runs.c.destination == name, *_shown(name))
    return sa.select(*_COLUMNS).where(*here).subquery(alias)


def _owner(name: str) -> "sa.Select[tuple[str]]":
    return sa.select(destinations.c.pipeline).where(destinations.c.destination == name)


def _taken(name: str, pipeline: str, others: Mapping[str, int]) -> DestinationTaken:
    other, number = next(iter(sorted(others.items())))
    return DestinationTaken(split_name(name)[1], pipeline, other, number)


def _refuse_shared_names(connection: sa.Connection, name: str, pipeline: str) -> None:
    """Refuse a new destination one of whose names is a view or a table of another one."""
    schema, table = split_name(name)
    names = {f"{schema}.{table}{ending}" for ending in VIEWS}
    # Another run may have just made the row of this one.
    others = sa.select(destinations.c.destination, destinations.c.pipeline).where(destinations.c.destination != name)
    for known, owner in connection.execute(others):
        for clash in sorted(names & {f"{known}{ending}" for ending in VIEWS}):
            raise DestinationTaken(split_name(clash)[1], pipeline, owner, 0)
