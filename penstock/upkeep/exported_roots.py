"""Export the roots of sealed runs, and compare an export with the ledger."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import SettingsError
from penstock.ledger.migrations import has_ledger
from penstock.ledger.reader import fetch_runs, select_runs
from penstock.ledger.tables import runs
from penstock.upkeep.check_seals import SealFinding
from penstock.upkeep.sealed_rows import Fault


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


def find_exported(
    database: Database, pipeline: str, exported: Sequence[SealedRun]
) -> Iterator[tuple[SealedRun, str | None]]:
    """Yield the exported runs that are of a pipeline, or were so, each with its root in the ledger.

    The root is None if the ledger has lost the run.
    """
    now: dict[str, tuple[str, str]] = {}
    if has_ledger(database):
        columns = (runs.c.run_id, runs.c.pipeline, runs.c.seal_root)
        with database.reading() as connection:
            found = connection.execute(sa.select(*columns).where(runs.c.seal_root.is_not(None)))
            now = {run_id: (name, root) for run_id, name, root in found}
    for run in exported:
        name, root = now.get(run.run_id, (None, None))
        if pipeline in (run.pipeline, name):
            yield run, root


def compare_roots(found: Iterable[tuple[SealedRun, str | None]]) -> Iterator[SealFinding]:
    """Yield the exported runs that the ledger has lost, or has with another root.

    Args:
        found: as `find_exported` returns them.
    """
    for run, root in found:
        if root != run.root:
            yield describe_exported(run, "run gone" if root is None else "other root")


def describe_exported(run: SealedRun, fault: Fault) -> SealFinding:
    """Return a finding about an exported run."""
    return SealFinding(run.run_id, run.interval_key, run.variant, fault, None, run.rows or 0, ())
