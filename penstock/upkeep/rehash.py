"""Write the hashes of private values under the current key, where the values can still be read.

The ledger has no private value, so the values come from the rows that were scored and from the sources. What is no
longer there stays under its key. Each batch is one transaction, so a command that was killed can be repeated.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Connector, Database
from penstock.database.unstorable import to_records
from penstock.errors import PenstockError
from penstock.interval import DataInterval
from penstock.labels.key_text import write_key_forms
from penstock.labels.stored import move_labels
from penstock.ledger.destinations import lock_run
from penstock.ledger.migrations import has_ledger
from penstock.ledger.quarantine import digest_row
from penstock.ledger.reader import RunRecord, find_run
from penstock.ledger.tables import labels, quarantine, releases, runs
from penstock.privacy.key_forms import TypedValue, write_value
from penstock.privacy.masking import HASH, MaskingPolicy
from penstock.run.extract import extract_partition, plan_partitions
from penstock.run_types import ScoringRun, deciding_model
from penstock.sources import fix_versions, open_labels
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.stored_rows import HISTORY, row_tables

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def rehash_pipeline(
    database: Database, pipeline: Pipeline, connect: Connector, masking: MaskingPolicy, now: datetime
) -> dict[str, int]:
    """Write the hashes of a pipeline under the current key. Return how many rows of each table were written.

    A source that cannot be read any more gives no values.
    """
    done: Counter[str] = Counter()
    if not has_ledger(database) or not masking.columns:
        return done
    if masking.hides(pipeline.key):
        for keys in _read_keys(database, pipeline, connect, now):
            forms = write_key_forms(keys, pipeline.key, masking)
            current = {other: each[0] for each in forms for other in each[1:]}
            done[labels.name] += move_labels(database, pipeline.name, current)
    for run_id in _list_runs(database, pipeline.name, masking):
        run = find_run(database, run_id)
        hashes = _hash_sources(pipeline, connect, masking, run)
        done.update(_rewrite_refusals(database, run, hashes))
    return done


def _read_keys(database: Database, pipeline: Pipeline, connect: Connector, now: datetime) -> Iterator[pa.Table]:
    """Yield keys with their values: those of the scored rows, then those of the source of labels."""
    with database.reading() as connection:
        tables = [table for table in row_tables(connection, pipeline) if table.name.endswith(HISTORY)]
        places = [(t, p) for t in tables for p in connection.execute(sa.select(t.c.run_id, t.c.partition).distinct())]
    for table, (run_id, partition) in places:
        columns: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(name, quote=True)) for name in pipeline.key]
        here = (table.c.run_id == run_id, table.c.partition == partition)
        yield read(database, sa.select(*columns).select_from(table).where(*here), exact=pipeline.key)
    if pipeline.labels is not None:
        declared, span = pipeline.labels, DataInterval(_EARLIEST, now)
        with suppress(PenstockError):
            reader = open_labels(pipeline, declared.source, declared.seen_at, connect)
            for slice_ in reader.plan(span, pipeline.partition_rows).partitions:
                yield reader.read(span, slice_).select(list(pipeline.key))


def _list_runs(database: Database, pipeline: str, masking: MaskingPolicy) -> list[str]:
    """Return the runs with refused rows whose hashes are not all under the current key."""
    text = sa.func.replace(quarantine.c.key.concat(quarantine.c.row), f"hash:{masking.key_id}:", "")
    query = sa.select(quarantine.c.run_id).where(quarantine.c.pipeline == pipeline, text.like("%hash:%")).distinct()
    with database.reading() as connection:
        return sorted(connection.execute(query).scalars())


def _hash_sources(pipeline: Pipeline, connect: Connector, masking: MaskingPolicy, record: RunRecord) -> dict[str, str]:
    """Return for each former hash of a private value in the run's sources its current one."""
    hashes: dict[str, str] = {}
    model = deciding_model(record.pins)
    run = ScoringRun(record.run_id, pipeline, record.interval, model, "", record.variant, steps=record.step_models)
    with suppress(PenstockError):
        fixed = fix_versions(pipeline, connect)
        for slice_ in plan_partitions(run, fixed, masking).partitions:
            extracted = extract_partition(run, slice_, fixed)
            for rows in (extracted.primary, *extracted.others.values()):
                private = [c for c in rows.column_names if masking.columns.get(c.casefold()) == "hash"]
                for column in private:
                    values = {row[column] for row in to_records(rows.select([column]))}
                    forms = {form for v in values if v is not None for form in TypedValue(write_value(v)).written}
                    for current, *others in map(masking.possible_hashes, forms):
                        hashes.update(dict.fromkeys(others, current))
    return hashes


def _rewrite_refusals(database: Database, run: RunRecord, hashes: Mapping[str, str]) -> Counter[str]:
    """Write the refused rows of a run, and their releases, with the hashes that are known. One transaction."""
    done: Counter[str] = Counter()
    with database.writing() as connection:
        locked = connection.execute(sa.select(runs).where(runs.c.run_id == run.run_id)).mappings().one()
        lock_run(connection, locked)
        columns = (
            *quarantine.primary_key.columns,
            *(quarantine.c[n] for n in ("stage", "source", "key", "row", "digest")),
        )
        for row in connection.execute(sa.select(*columns).where(quarantine.c.run_id == run.run_id)).mappings().all():
            key, text = (_replace(row[name], hashes) for name in ("key", "row"))
            if (key, text) == (row["key"], row["row"]):
                continue
            values: dict[str, Any] = {"key": key, "row": text}
            if row["digest"] == digest_row(row["stage"], row["source"], row["key"], row["row"]):
                values["digest"] = digest_row(row["stage"], row["source"], key, text)
                done[releases.name] += _move_release(connection, run, row["digest"], key, values["digest"])
            place = [column == row[column.name] for column in quarantine.primary_key.columns]
            connection.execute(sa.update(quarantine).where(*place).values(**values))
            done[quarantine.name] += 1
    return done


def _replace(text: str, hashes: Mapping[str, str]) -> str:
    return HASH.sub(lambda found: hashes.get(found[0], found[0]), text)


def _move_release(connection: sa.Connection, run: RunRecord, digest: str, key: str, to: str) -> int:
    """Give the release of a row its new digest. Return 1 if there is one."""
    mine = (releases.c.pipeline == run.pipeline, releases.c.interval_key == run.interval_key)
    taken = sa.select(releases.c.digest).where(*mine, releases.c.digest == to)
    if connection.execute(taken).first() is not None:
        return 0
    change = sa.update(releases).where(*mine, releases.c.digest == digest).values(key=key, digest=to)
    return int(connection.execute(change).rowcount)
