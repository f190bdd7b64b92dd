"""Hand-made runs to compare: rows that are written straight into a history table and its ledger."""

import itertools
import resource
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import bulk_transaction
from penstock.database.connections import Database, open_database
from penstock.interval import DataInterval
from penstock.ledger.migrations import migrate
from penstock.ledger.paired_runs import PairedRuns, RunPair, Side
from penstock.ledger.reader import RunRecord, find_run
from penstock.ledger.tables import runs
from penstock.privacy.masking import NO_MASKING
from penstock.report.flips import write_flips
from penstock.report.paired_figures import compare_decision, compare_score
from penstock.report.paired_rows import PairedRows
from penstock.run.history_table import fit_rows, prepare
from penstock.settings import Settings
from penstock.spec.pipeline_fields import Destination

PIPELINE = "hand-made"
START = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def write_run(database: Database, rows: pa.Table, day: int, key: tuple[str, ...], table: str) -> RunRecord:
    """Write the rows of a published run of one day."""
    migrate(database)
    run_id = f"{next(_numbers):032x}"
    interval = DataInterval(START + timedelta(days=day), START + timedelta(days=day + 1))
    values = dict.fromkeys(("reason", "model_name", "model_digest", "spec_fingerprint", "lease_token"), "x")
    values |= {"lease_owner": "x", "destination_table": table, "destination": _destination(database, table)}
    values |= {"run_id": run_id, "pipeline": PIPELINE, "interval_key": interval.key, "variant": f"v{run_id[-6:]}"}
    values |= {"state": "published", "model_version": "1"}
    times = {"interval_start": interval.start, "interval_end": interval.end, "lease_until": START}
    times |= {"started_at": START, "finished_at": START, "published_at": START}
    with database.writing() as connection:
        connection.execute(runs.insert().values(**values, **times, rows_scored=rows.num_rows))
    append_rows(database, rows, run_id, key, table)
    return find_run(database, run_id)


def append_rows(database: Database, rows: pa.Table, run_id: str, key: tuple[str, ...], table: str) -> None:
    """Append rows to the history table of a run."""
    history = prepare(database, Destination(table=table), key, rows)
    fitted = fit_rows(rows, history)
    assert fitted is not None
    count = len(rows)
    owned = fitted.add_column(0, "partition", pa.repeat(pa.scalar(0, pa.int32()), count))
    owned = owned.add_column(0, "run_id", pa.repeat(pa.scalar(run_id, pa.string()), count))
    with bulk_transaction(database) as transaction:
        transaction.append(history, owned)


def join_runs(
    database: Database,
    *pairs: tuple[RunRecord, RunRecord],
    left_out: tuple[str, ...] = (),
    groups: dict[str, tuple[str, ...]] | None = None,
) -> PairedRows:
    """Join the rows of pairs of runs."""
    made = tuple(RunPair(a, b) for a, b in pairs)
    sides = Side("a", tuple(pair.a for pair in made)), Side("b", tuple(pair.b for pair in made))
    return PairedRows(database, PIPELINE, PairedRuns(*sides, made, (), (), ()), left_out, groups or {})


def _destination(database: Database, table: str) -> str:
    with database.reading() as connection:
        schema: Any = sa.inspect(connection).default_schema_name
        return f"{schema}.{table}"


def open_warehouse(url: str) -> Database:
    connections: Any = {"warehouse": url}
    return open_database(Settings(_env_file=None, connections=connections), "warehouse")


def compare_all(url: str, run_a: str, run_b: str, flips: Path) -> None:
    """Compute all figures of two runs and write their flips. Print how many megabytes the peak of memory has grown."""
    database = open_warehouse(url)
    pair = find_run(database, run_a), find_run(database, run_b)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = join_runs(database, pair)
    both = sum(each.both for each in rows.pairs)
    flipped = [compare_decision(rows, column).flips for column in rows.columns.decisions]
    scored = [compare_score(rows, column).rows for column in rows.columns.scores]
    written = write_flips(rows, NO_MASKING, flips)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    sys.stdout.write(" ".join(map(str, (both, *scored, *flipped, written, grown // 1024))))


if __name__ == "__main__":
    compare_all(*sys.argv[1:4], Path(sys.argv[4]))
