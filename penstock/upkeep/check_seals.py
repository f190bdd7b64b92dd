"""Check the seals of runs: find rows that were altered, removed or added since they were scored."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import RunNotFound, SealKeyUnknown
from penstock.labels.key_text import write_keys
from penstock.ledger.migrations import has_ledger
from penstock.ledger.reader import RunRecord, fetch_runs, find_run, select_runs
from penstock.ledger.tables import erased_seals, runs, seals
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.secret_keys import KeyRing
from penstock.spec.parts import SANDBOX
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.sealed_rows import (
    SHOWN,
    Fault,
    PartitionFault,
    compare_root,
    describe_rows,
    find_faults,
    sealer_for,
)
from penstock.upkeep.sealed_tables import FoundTables, RunRows, count_rows, list_tables, place_of

CHECKED = ("published", "audited", "superseded", "withdrawn", "halted")
"""States of runs whose rows readers see, or may see."""
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError)
"""What a text that is no time or no JSON of its column raises."""
MAY_BE_PRUNED = ("superseded", "withdrawn", "halted")
Candidates = Callable[[RunRecord], Iterator[pa.Table]]
"""Yields rows whose keys a run may have scored."""


@dataclass(frozen=True)
class SealFinding:
    """Something that does not fit the seals of one run."""

    run_id: str
    interval_key: str
    variant: str
    fault: Fault
    partition: int | None
    rows: int
    keys: tuple[str, ...]
    """The first ones, private ones as hashes. Of a removed row only if it is found elsewhere. None of others' runs."""
    table: str = ""
    """Where the rows are, if it is not the run's own table."""
    key_ids: tuple[str, ...] = ()
    """The keys that are not set, of a run that could not be checked."""


@dataclass(frozen=True)
class UnsealedRun:
    """A run without seals that may be from before the pipeline sealed its rows."""

    run_id: str
    interval_key: str
    variant: str


@dataclass
class SealReport:
    """What a check of seals has seen."""

    runs: int = 0
    """Sealed runs whose rows were checked."""
    rows: int = 0
    erased: int = 0
    """Rows that `penstock forget` removed."""
    pruned: int = 0
    """Sealed runs whose rows `penstock prune` removed."""
    older: list[UnsealedRun] = field(default_factory=list)
    """Runs that have rows without seals, and began before the first sealed one, or are of sandboxes."""
    findings: list[SealFinding] = field(default_factory=list)

    def add(self, other: "SealReport") -> None:
        """Add what was seen of another run."""
        for name in ("runs", "rows", "erased", "pruned"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.older += other.older
        self.findings += other.findings


@dataclass(frozen=True)
class SealCheck:
    """A check of one pipeline's runs."""

    database: Database
    pipeline: Pipeline
    keys: KeyRing
    masking: MaskingPolicy
    candidates: Candidates

    def check(self, run_prefix: str = "") -> SealReport:
        """Check all runs, or one. Nothing is written.

        Raises:
            SealKeyUnknown: the rows of the named run are sealed under a key that is not set. No row was read.
            RunNotFound: no run has that ID.
        """
        if not has_ledger(self.database):
            if run_prefix:
                raise RunNotFound(run_prefix)
            return SealReport()
        wanted = find_run(self.database, run_prefix).run_id if run_prefix else ""
        with self.database.reading() as connection:
            tables = list_tables(connection, self.pipeline)
            counted = list(count_rows(connection, tables, self.pipeline.name, wanted))
        found, unreadable = self._read_runs(tables, counted)
        sealed = [run for run in found if run.seal_root is not None and (self.pipeline.seal or self._is_mine(run))]
        began = min((run.started_at for run in sealed if not run.variant.startswith(SANDBOX)), default=None)
        place = _Tables(tables, began, bool(self.pipeline.seal or sealed))
        report = SealReport()
        if place.is_sealed:
            report.findings += [_describe_unknown(each, tables) for each in counted if not each.known]
            report.findings += [
                SealFinding(run_id, "", "", "run unreadable", None, 0, ())
                for run_id in unreadable
                if run_id == (wanted or run_id)
            ]
            report.findings += [
                SealFinding("", "", "", "other form", None, 0, (), name) for name in tables.strange if not wanted
            ]
        for run in found:
            if run.run_id == (wanted or run.run_id):
                if wanted and (missing := self._find_missing_keys(run)):
                    raise SealKeyUnknown(f"run {run.run_id[:8]}", missing, self.keys.ids)
                report.add(self._check_run(run, place, [each for each in counted if each.run_id == run.run_id]))
        return report

    def _read_runs(self, tables: FoundTables, counted: Sequence[RunRows]) -> tuple[list[RunRecord], list[str]]:
        """Return the runs of the pipeline, and all others that name its tables or have rows there, the oldest first.

        The second list has the IDs of those that cannot be read.
        """
        mine = sa.or_(runs.c.pipeline == self.pipeline.name, runs.c.destination.in_(tables.own))
        found, unreadable = _fetch_readable(self.database, mine)
        known = {*(run.run_id for run in found), *unreadable}
        others = list(dict.fromkeys(each.run_id for each in counted if each.known and each.run_id not in known))
        for at in range(0, len(others), 500):
            more, spoilt = _fetch_readable(self.database, runs.c.run_id.in_(others[at : at + 500]))
            found, unreadable = [*found, *more], [*unreadable, *spoilt]
        return sorted(found, key=lambda run: (run.started_at, run.run_id)), unreadable

    def _check_run(self, run: RunRecord, tables: "_Tables", counted: Sequence[RunRows]) -> SealReport:
        """Check a run, and check it again before a fault is reported: it may be erased or pruned meanwhile."""
        report = self._judge(run, tables, counted)
        if not report.findings:
            return report
        with self.database.reading() as connection:
            counted = list(count_rows(connection, tables.found, self.pipeline.name, run.run_id))
        again = fetch_runs(self.database, select_runs().where(runs.c.run_id == run.run_id, runs.c.state.in_(CHECKED)))
        return self._judge(again[0], tables, counted) if again else SealReport()

    def _judge(self, run: RunRecord, tables: "_Tables", counted: Sequence[RunRows]) -> SealReport:
        with self.database.reading() as connection:
            home = place_of(connection, run)
        rows = {each.place: each.rows for each in counted if each.run_id == run.run_id}
        report = SealReport()
        if tables.is_sealed:
            report.findings += [
                self._describe(run, PartitionFault(None, "added", number, table=tables.found.by_place[place].name))
                for place, number in rows.items()
                if place != home
            ]
        here = rows.get(home, 0)
        if run.state in MAY_BE_PRUNED and self._is_pruned(run, here):
            report.pruned += run.seal_root is not None
        elif run.seal_root is None:
            self._judge_unsealed(run, tables, here, report)
        elif missing := self._find_missing_keys(run):
            report.findings.append(self._describe(run, PartitionFault(None, "key not set", here, key_ids=missing)))
        else:
            report.runs, report.rows, report.erased = 1, here, self._count_erased(run)
            report.findings += [
                self._describe(run, fault) for fault in self._find(run, tables.found.by_place.get(home))
            ]
        return report

    def _is_pruned(self, run: RunRecord, rows: int) -> bool:
        """Whether a run was pruned, or is being pruned: its seals are removed before its rows."""
        return bool(run.rows_pruned_at and not rows) or (run.seal_root is not None and not self._has_seals(run))

    def _judge_unsealed(self, run: RunRecord, tables: "_Tables", rows: int, report: SealReport) -> None:
        if run.state == "halted" or not rows:
            return
        if tables.first is None or run.started_at < tables.first or run.variant.startswith(SANDBOX):
            report.older.append(UnsealedRun(run.run_id, run.interval_key, run.variant))
        else:
            report.findings.append(self._describe(run, PartitionFault(None, "not sealed", rows)))

    def _find_missing_keys(self, run: RunRecord) -> tuple[str, ...]:
        """Return the IDs of the keys of a sealed run that are not set."""
        if run.seal_root is None:
            return ()
        query = sa.select(seals.c.key_id).distinct().where(seals.c.run_id == run.run_id)
        with self.database.reading() as connection:
            named = {str(run.seal_root).partition(".")[0], *map(str, connection.execute(query).scalars())}
        return tuple(sorted(key_id for key_id in named if self.keys.find(key_id) is None))

    def _has_seals(self, run: RunRecord) -> bool:
        """Whether the run's partitions have their seals."""
        with self.database.reading() as connection:
            return bool(connection.execute(sa.select(sa.exists().where(seals.c.run_id == run.run_id))).scalar())

    def _find(self, run: RunRecord, table: sa.TableClause | None) -> list[PartitionFault]:
        if table is None:  # an empty interval has no partition, so its run may have made no table
            gone = [PartitionFault(None, "rows gone", run.rows_scored or 0)] if self._has_seals(run) else []
            return [*gone, *compare_root(self.database, run, self.keys)]
        return list(find_faults(self.database, run, describe_rows(self.database, table), self.keys))

    def _count_erased(self, run: RunRecord) -> int:
        query = sa.select(sa.func.count()).select_from(erased_seals).where(erased_seals.c.run_id == run.run_id)
        with self.database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def _describe(self, run: RunRecord, fault: PartitionFault) -> SealFinding:
        shown = tuple(self._name_rows(run, fault)[:SHOWN]) if self._is_mine(run) else ()
        where = (run.run_id, run.interval_key, run.variant)
        return SealFinding(*where, fault.fault, fault.partition, fault.rows, shown, fault.table, fault.key_ids)

    def _is_mine(self, run: RunRecord) -> bool:
        """Whether a run is of the pipeline. Which keys of others are private is not known here."""
        return run.pipeline == self.pipeline.name

    def _name_rows(self, run: RunRecord, fault: PartitionFault) -> list[str]:
        if fault.tags:
            return self._find_removed(run, fault)
        return [] if fault.keys is None else self._write(fault.keys)

    def _find_removed(self, run: RunRecord, fault: PartitionFault) -> list[str]:
        """Look for the keys of removed rows wherever else they may be."""
        left, named = set(fault.tags), []
        sealer = sealer_for(run, self.keys, self._key_of(run, fault))
        for rows in self.candidates(run):
            keys = rows.select(list(self.pipeline.key))
            tags = sealer.tag_keys(keys)
            named += self._write(keys.filter(pa.array([tag in left for tag in tags], pa.bool_())))
            left.difference_update(tags)
            if not left:
                break
        return named

    def _key_of(self, run: RunRecord, fault: PartitionFault) -> str:
        mine = (seals.c.run_id == run.run_id, seals.c.partition == fault.partition)
        with self.database.reading() as connection:
            return str(connection.execute(sa.select(seals.c.key_id).where(*mine)).scalar_one())

    def _write(self, keys: pa.Table) -> list[str]:
        return [text for text in write_keys(keys, keys.column_names, self.masking) if text is not None]


@dataclass(frozen=True)
class _Tables:
    """The tables of a pipeline."""

    found: FoundTables
    first: Any
    """When the first sealed run of them began. What a sandbox tries does not count."""
    is_sealed: bool
    """Whether the pipeline seals its rows, or did."""


def _fetch_readable(database: Database, which: sa.ColumnElement[bool]) -> tuple[list[RunRecord], list[str]]:
    """Return runs, and the IDs of those that cannot be read, for who writes to the ledger can write any text."""
    query = select_runs().where(runs.c.state.in_(CHECKED), which)
    with suppress(*_UNREADABLE):
        return fetch_runs(database, query), []
    with database.reading() as connection:
        ids = connection.execute(sa.select(runs.c.run_id).where(runs.c.state.in_(CHECKED), which)).scalars().all()
    found: dict[str, RunRecord] = {}
    for run_id in ids:
        with suppress(*_UNREADABLE):
            found |= {run.run_id: run for run in fetch_runs(database, query.where(runs.c.run_id == run_id))}
    return list(found.values()), [run_id for run_id in ids if run_id not in found]


def _describe_unknown(rows: RunRows, tables: FoundTables) -> SealFinding:
    return SealFinding(rows.run_id, "", "", "run unknown", None, rows.rows, (), tables.by_place[rows.place].name)
