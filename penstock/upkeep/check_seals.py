"""Check the seals of runs: find rows that were altered, removed or added since they were scored."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import RunNotFound, SealKeyUnknown, SettingsError
from penstock.labels.key_text import write_keys
from penstock.ledger.migrations import has_ledger
from penstock.ledger.reader import RunRecord, fetch_runs, find_run, select_runs
from penstock.ledger.tables import erased_seals, runs, seals
from penstock.privacy.masking import MaskingPolicy
from penstock.privacy.secret_keys import KeyRing
from penstock.spec.parts import SANDBOX
from penstock.upkeep.sealed_rows import Fault, PartitionFault, compare_root, find_faults, find_rows, sealer_for

SHOWN = 20
"""Most keys that a finding names."""
CHECKED = ("published", "audited", "superseded", "withdrawn", "halted")
"""States of runs whose rows readers see, or may see."""
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
    """The first ones, private ones as hashes. Of a removed row only if it is found elsewhere."""


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
    older: int = 0
    """Runs without seals that are older than the first sealed one, or of sandboxes."""
    findings: list[SealFinding] = field(default_factory=list)


@dataclass(frozen=True)
class SealCheck:
    """A check of one pipeline's runs."""

    database: Database
    pipeline: str
    key: tuple[str, ...]
    keys: KeyRing
    masking: MaskingPolicy
    candidates: Candidates

    def check(self, run_prefix: str = "") -> SealReport:
        """Check all runs, or one. Nothing is written.

        Raises:
            SealKeyUnknown: rows are sealed under a key that is not set. No row was read.
            RunNotFound: no run has that ID.
        """
        if not has_ledger(self.database):
            if run_prefix:
                raise RunNotFound(run_prefix)
            return SealReport()
        mine = select_runs().where(runs.c.pipeline == self.pipeline, runs.c.state.in_(CHECKED))
        found = fetch_runs(self.database, mine.order_by(runs.c.started_at))
        if run_prefix:
            wanted = find_run(self.database, run_prefix).run_id
            found = [run for run in found if run.run_id == wanted]
        self._require_keys([run for run in found if run.seal_root])
        first = self._read_first()
        report = SealReport()
        for run in found:
            self._check_run(run, report, first)
        return report

    def _read_first(self) -> Any:
        """Return when the first sealed run of the pipeline began. What a sandbox tries does not count."""
        mine = (runs.c.pipeline == self.pipeline, sa.not_(runs.c.variant.startswith(SANDBOX)))
        query = sa.select(sa.func.min(runs.c.started_at)).where(*mine, runs.c.seal_root.is_not(None))
        with self.database.reading() as connection:
            return connection.execute(query).scalar()

    def _require_keys(self, sealed: Sequence[RunRecord]) -> None:
        named = {str(run.seal_root).partition(".")[0] for run in sealed}
        query = sa.select(seals.c.key_id).distinct().join(runs, runs.c.run_id == seals.c.run_id)
        with self.database.reading() as connection:
            ids = [run.run_id for run in sealed]
            for at in range(0, len(ids), 500):
                named.update(connection.execute(query.where(runs.c.run_id.in_(ids[at : at + 500]))).scalars())
        if unknown := tuple(sorted(name for name in named if self.keys.find(name) is None)):
            raise SealKeyUnknown(f"`{self.pipeline}`", unknown, self.keys.ids)

    def _check_run(self, run: RunRecord, report: SealReport, first: Any) -> None:
        if run.state in MAY_BE_PRUNED and (run.rows_pruned_at or (run.seal_root and not self._has_seals(run))):
            report.pruned += run.seal_root is not None
        elif run.seal_root is None:
            if run.state == "halted" or not run.rows_scored:
                return
            if first is None or run.started_at < first or run.variant.startswith(SANDBOX):
                report.older += 1
            else:
                report.findings.append(self._describe(run, PartitionFault(None, "not sealed", run.rows_scored)))
        else:
            report.runs += 1
            report.rows += run.rows_scored or 0
            report.erased += self._count_erased(run)
            # Twice, since a row may be erased or pruned between two reads of the first time.
            if self._find(run):
                report.findings += [self._describe(run, fault) for fault in self._find(run)]

    def _has_seals(self, run: RunRecord) -> bool:
        """Whether the run's partitions have their seals. A prune removes them before the rows."""
        with self.database.reading() as connection:
            return bool(connection.execute(sa.select(sa.exists().where(seals.c.run_id == run.run_id))).scalar())

    def _find(self, run: RunRecord) -> list[PartitionFault]:
        rows = find_rows(self.database, run)
        if rows is None:  # an empty interval has no partition, so its run may have made no table
            gone = [PartitionFault(None, "rows gone", run.rows_scored or 0)] if self._has_seals(run) else []
            return [*gone, *compare_root(self.database, run, self.keys)]
        return list(find_faults(self.database, run, rows, self.keys))

    def _count_erased(self, run: RunRecord) -> int:
        query = sa.select(sa.func.count()).select_from(erased_seals).where(erased_seals.c.run_id == run.run_id)
        with self.database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def _describe(self, run: RunRecord, fault: PartitionFault) -> SealFinding:
        named = self._find_removed(run, fault) if fault.tags else [] if fault.keys is None else self._write(fault.keys)
        where = (run.run_id, run.interval_key, run.variant)
        return SealFinding(*where, fault.fault, fault.partition, fault.rows, tuple(named[:SHOWN]))

    def _find_removed(self, run: RunRecord, fault: PartitionFault) -> list[str]:
        """Look for the keys of removed rows wherever else they may be."""
        left, named = set(fault.tags), []
        sealer = sealer_for(run, self.keys, self._key_of(run, fault))
        for rows in self.candidates(run):
            keys = rows.select(list(self.key))
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
        return [text for text in write_keys(keys, self.key, self.masking) if text is not None]


@dataclass(frozen=True)
class SealedRun:
    """A run and its root, as they are exported."""

    pipeline: str
    run_id: str
    interval_key: str
    variant: str
    state: str
    rows: int | None
    root: str


def read_sealed_runs(database: Database, pipeline: str) -> list[SealedRun]:
    """Return the sealed runs of a pipeline, the oldest first."""
    if not has_ledger(database):
        return []
    mine = (runs.c.pipeline == pipeline, runs.c.seal_root.is_not(None))
    return [
        SealedRun(
            run.pipeline, run.run_id, run.interval_key, run.variant, run.state, run.rows_scored, str(run.seal_root)
        )
        for run in fetch_runs(database, select_runs().where(*mine).order_by(runs.c.started_at))
    ]


def read_export(file: Path) -> list[SealedRun]:
    """Read what `penstock ledger seals --json` wrote.

    Raises:
        SettingsError: the file is something else.
    """
    try:
        return [SealedRun(**each) for each in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, TypeError):
        raise SettingsError(
            f"{file} is not a list of sealed runs", "Name a file that `penstock ledger seals --json` wrote."
        ) from None


def compare_roots(database: Database, pipeline: str, exported: Sequence[SealedRun]) -> Iterator[SealFinding]:
    """Yield the exported runs of a pipeline that the ledger has lost, or has with another root."""
    now = {run.run_id: run.root for run in read_sealed_runs(database, pipeline)}
    for run in exported:
        if run.pipeline == pipeline and now.get(run.run_id) != run.root:
            fault: Fault = "other root" if run.run_id in now else "run gone"
            yield SealFinding(run.run_id, run.interval_key, run.variant, fault, None, run.rows or 0, ())
