"""Read the quarantine: each refused row, its reasons, and what became of it. `run/load` writes it."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger.destinations import LIVE
from penstock.ledger.migrations import has_ledger
from penstock.ledger.tables import quarantine, releases, runs

ENDED = ("published", "halted", "failed")
"""States of runs whose refusals are current: no other run has replaced them."""
PAGE = 5_000


@dataclass(frozen=True)
class QuarantinedRow:
    """One refused row with its reasons."""

    run_id: str
    partition: int
    number: int
    pipeline: str
    stage: str
    source: str
    key: str
    reasons: tuple[str, ...]
    row: str
    state: str
    """`held` or `released`."""
    digest: str
    """Identifies the row to a release: a hash of its stage, its key and its values."""
    interval_key: str
    interval_start: datetime | None
    interval_end: datetime | None
    settled_by_run: str | None = None
    """The published run that read the row again after its release."""
    refused_again: bool = False
    """Whether that run refused it again."""

    @property
    def interval(self) -> DataInterval | None:
        if self.interval_start is None or self.interval_end is None:
            return None
        return DataInterval(self.interval_start, self.interval_end)

    @property
    def is_line(self) -> bool:
        """Whether it is a line of a file that no row can be read from. Such a line cannot be released."""
        return set(json.loads(self.key)) == {"file", "line"} and set(json.loads(self.row)) <= {"file", "line", "text"}

    @property
    def fate(self) -> str:
        """The state of the row, as text."""
        if self.state != "released":
            return self.state
        if self.settled_by_run is None:
            return "released, waits for the next run"
        return f"{'refused again' if self.refused_again else 'released'} in run {self.settled_by_run[:8]}"


@dataclass(frozen=True)
class ReasonCount:
    """How many rows were refused for one reason. A row with two reasons counts in both."""

    pipeline: str
    stage: str
    reason: str
    held: int
    released: int


@dataclass(frozen=True)
class RefusalCount:
    """How many rows of a run were refused at one stage for the same reasons."""

    stage: str
    reasons: tuple[str, ...]
    rows: int


def digest_row(stage: str, source: str, key: str, judged: str) -> str:
    """Hash what identifies a refused row. Any change of its values makes it another row."""
    return hashlib.sha256(json.dumps([stage, source, key, judged], ensure_ascii=False).encode()).hexdigest()


def quarantined_rows(
    database: Database, pipeline: str | None = None, run_id: str | None = None, limit: int = 50
) -> list[QuarantinedRow]:
    """Return refused rows, newest runs first. Those of challengers only if their run is named."""
    if not has_ledger(database):
        return []
    conditions = [quarantine.c.pipeline == pipeline] if pipeline is not None else []
    conditions += [quarantine.c.run_id == run_id if run_id is not None else runs.c.variant == LIVE]
    newest = (runs.c.started_at.desc(), runs.c.run_id)
    return _fetch(database, _select().where(*conditions).order_by(*newest, *_PLACE).limit(limit))


def newest_rows(database: Database, run_ids: Sequence[str], limit: int) -> list[QuarantinedRow]:
    """Return refused rows of runs that stand in the order of their intervals, those of the newest interval first."""
    found: list[QuarantinedRow] = []
    for end in range(len(run_ids), 0, -500):
        mine = quarantine.c.run_id.in_(run_ids[max(end - 500, 0) : end])
        query = _select().where(mine).order_by(runs.c.interval_start.desc(), runs.c.run_id, *_PLACE)
        found += _fetch(database, query.limit(limit - len(found)))
        if len(found) == limit:
            break
    return found


def refusals_of(database: Database, pipeline: str, parts: Sequence[str]) -> list[QuarantinedRow]:
    """Return the refused rows of a pipeline whose key contains one of the texts, newest runs first."""
    if not has_ledger(database):
        return []
    near = sa.or_(*(quarantine.c.key.contains(part, autoescape=True) for part in parts))
    query = _select().where(quarantine.c.pipeline == pipeline, near)
    return _fetch(database, query.order_by(runs.c.started_at.desc(), runs.c.run_id, *_PLACE))


def count_rows(database: Database, pipeline: str | None = None, run_id: str | None = None) -> int:
    """Count the rows that `quarantined_rows` would return without a limit."""
    conditions = [quarantine.c.pipeline == pipeline] if pipeline is not None else []
    conditions += [quarantine.c.run_id == run_id if run_id is not None else runs.c.variant == LIVE]
    joined = quarantine.join(runs, runs.c.run_id == quarantine.c.run_id)
    counted = sa.select(sa.func.count()).select_from(joined).where(*conditions)
    with database.reading() as connection:
        return int(connection.execute(counted).scalar_one())


def pages_of(database: Database, run_id: str) -> Iterator[list[QuarantinedRow]]:
    """Yield all of a run's refused rows in their order, some thousands at a time."""
    after = (-1, -1)
    while True:
        beyond = sa.or_(
            quarantine.c.partition > after[0],
            sa.and_(quarantine.c.partition == after[0], quarantine.c.number > after[1]),
        )
        page = _fetch(database, _select().where(quarantine.c.run_id == run_id, beyond).order_by(*_PLACE).limit(PAGE))
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = (page[-1].partition, page[-1].number)


def standing_runs(database: Database, pipeline: str | None = None) -> list[str]:
    """Return the newest run of each interval whose refusals are current, oldest interval first.

    A run that was superseded or taken over is left out: its successor has judged the rows again.
    """
    if not has_ledger(database):
        return []
    newest = sa.func.row_number().over(
        partition_by=[runs.c.pipeline, runs.c.interval_key, runs.c.variant], order_by=runs.c.started_at.desc()
    )
    query = sa.select(runs.c.run_id, runs.c.pipeline, runs.c.interval_start, newest.label("age")).where(
        runs.c.state.in_(ENDED), runs.c.variant == LIVE
    )
    if pipeline is not None:
        query = query.where(runs.c.pipeline == pipeline)
    ranked = query.subquery()
    chosen = sa.select(ranked.c.run_id).where(ranked.c.age == 1).order_by(ranked.c.pipeline, ranked.c.interval_start)
    with database.reading() as connection:
        return list(connection.execute(chosen).scalars())


def count_refusals(database: Database, run_id: str) -> list[RefusalCount]:
    """Count the rows of a run's quarantine by stage and reasons, most frequent first."""
    count = sa.func.count()
    query = (
        sa.select(quarantine.c.stage, quarantine.c.reasons, count)
        .where(quarantine.c.run_id == run_id)
        .group_by(quarantine.c.stage, quarantine.c.reasons)
        .order_by(count.desc())
    )
    with database.reading() as connection:
        found = connection.execute(query).all()
    return [RefusalCount(stage, tuple(json.loads(reasons)), int(rows)) for stage, reasons, rows in found]


def count_reasons(database: Database, run_ids: Sequence[str]) -> list[ReasonCount]:
    """Count the rows of these runs by pipeline, stage and single reason, most frequent first."""
    names = ("pipeline", "stage", "reasons", "state")
    columns = [quarantine.c[name] for name in names]
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    with database.reading() as connection:
        for begin in range(0, len(run_ids), 500):
            mine = quarantine.c.run_id.in_(run_ids[begin : begin + 500])
            query = sa.select(*columns, sa.func.count()).where(mine).group_by(*columns)
            for pipeline, stage, reasons, state, rows in connection.execute(query):
                for reason in json.loads(reasons):
                    counts.setdefault((pipeline, stage, reason), Counter())[state] += int(rows)
    found = [ReasonCount(*what, entry["held"], entry["released"]) for what, entry in counts.items()]
    return sorted(found, key=lambda c: (c.pipeline, -(c.held + c.released), c.stage, c.reason))


_PLACE = (quarantine.c.partition, quarantine.c.number)
_OWN = ("run_id", "partition", "number", "pipeline", "stage", "source", "key", "reasons", "row", "state", "digest")


def _select() -> sa.Select[Any]:
    again = quarantine.alias("again")
    refused_again = sa.exists().where(
        again.c.run_id == releases.c.settled_by_run,
        again.c.source == quarantine.c.source,
        again.c.key == quarantine.c.key,
    )
    mine = sa.and_(
        releases.c.pipeline == quarantine.c.pipeline,
        releases.c.interval_key == runs.c.interval_key,
        releases.c.digest == quarantine.c.digest,
    )
    joined = quarantine.join(runs, runs.c.run_id == quarantine.c.run_id).outerjoin(releases, mine)
    return sa.select(
        *(quarantine.c[name] for name in _OWN),
        runs.c.interval_key,
        runs.c.interval_start,
        runs.c.interval_end,
        releases.c.settled_by_run,
        refused_again.label("refused_again"),
    ).select_from(joined)


def _fetch(database: Database, query: sa.Select[Any]) -> list[QuarantinedRow]:
    with database.reading() as connection:
        return [_read(dict(row)) for row in connection.execute(query).mappings()]


def _read(row: dict[str, Any]) -> QuarantinedRow:
    row["reasons"] = tuple(json.loads(row["reasons"]))
    row["refused_again"] = bool(row["refused_again"])
    # A row from before digests were stored: its stored row is the judged one, except in the features' stage.
    row["digest"] = row["digest"] or digest_row(row["stage"], row["source"], row["key"], row["row"])
    return QuarantinedRow(**row)
