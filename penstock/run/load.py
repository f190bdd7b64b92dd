"""Load scored rows into the destination's history table, each partition in one transaction.

Publishing moves a pointer in the ledger (`ledger.writer.publish`); the rows stay where they are.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from functools import partial

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import BulkTransaction, bulk_transaction, read
from penstock.database.connections import Database
from penstock.errors import KeyCollision, PartitionMoved, TakenOver
from penstock.ledger.tables import partitions, quarantine, runs, seals, validations
from penstock.ledger.writer import validation_rows
from penstock.privacy.secret_keys import KeyRing
from penstock.resources.usage import PartitionMeter, Spent
from penstock.run.doubled_keys import stored_keys
from penstock.run.fitted_transaction import Tables, fitted_transaction
from penstock.run.history_table import fit_rows, history_name, prepare, require_fit
from penstock.run.keys import halt_on_duplicates
from penstock.run.reasons_table import prepare_reasons
from penstock.run.seal import add_empty_seals, fill_seals
from penstock.run_types import Partition, Receipt, Refusal, ScoredRows, ScoringRun

_COUNTS = ("extracted", "scored", "quarantined", "excluded")


def load_partition(
    database: Database,
    run: ScoringRun,
    partition: Partition,
    scored: ScoredRows,
    seconds: dict[str, float],
    attempts: int,
    meter: PartitionMeter | None = None,
    seal_keys: KeyRing | None = None,
) -> Receipt:
    """Write one partition of a run, once: its rows, refusals, validations and receipt, in one transaction.

    A partition that is loaded already, by a copy of this work or by a try whose COMMIT got no answer, stays as it is:
    the run may have judged it. Of a halted partition only its findings are written.

    Args:
        seal_keys: What the rows are sealed with. None: they are not sealed.

    Raises:
        TakenOver: the run is no longer running; nothing is written.
        KeyCollision: a copy of this partition is written at the same time.
        Halted: another partition of the run has loaded one of the keys.
        PartitionMoved: a copy has loaded other numbers of rows, or other scores than those that get reasons.
    """
    try:
        return _load(database, run, partition, scored, seconds, attempts, meter, seal_keys)
    except KeyCollision:
        _halt_on_loaded_keys(database, run, partition, scored.table)
        raise


def _load(
    database: Database,
    run: ScoringRun,
    partition: Partition,
    scored: ScoredRows,
    seconds: dict[str, float],
    attempts: int,
    meter: PartitionMeter | None,
    seal_keys: KeyRing | None,
) -> Receipt:
    begun = time.perf_counter()
    rows = scored.table if seal_keys is None else add_empty_seals(scored.table)
    prepare_both = partial(_prepare, database, run, scored, rows)
    with fitted_transaction(database, run.pipeline.destination, prepare_both) as (transaction, (history, reasons)):
        if _is_loaded(transaction, run, make_receipt(run, partition, scored, {})):
            if history is not None and scored.reasons is not None:
                _refuse_other_values(transaction, history, run, partition, scored.table)
            return make_receipt(run, partition, scored, *_taken(scored, seconds, begun, meter))
        if history is not None:
            fitted = fit_rows(rows, history)
            assert fitted is not None
            if seal_keys is not None:
                fitted, sealed = fill_seals(fitted, run, partition, scored.features.table, seal_keys)
                _append_rows(transaction, seals, [sealed])
            transaction.append(history, _owned(fitted, run.run_id, partition.index))
        if reasons is not None and scored.reasons is not None:
            stated = fit_rows(scored.reasons.stated, reasons)
            assert stated is not None
            transaction.append(reasons, own_rows(stated, run.run_id))
        _append_rows(transaction, quarantine, _refusal_rows(run, partition.index, scored.refusals))
        _append_rows(transaction, validations, validation_rows(run.run_id, scored.validations))
        receipt = make_receipt(run, partition, scored, *_taken(scored, seconds, begun, meter))
        _append_rows(transaction, partitions, [_receipt_row(run, receipt, attempts)])
    return receipt


def _halt_on_loaded_keys(database: Database, run: ScoringRun, partition: Partition, rows: pa.Table) -> None:
    """Compare the keys of a partition with those that other partitions of its run have loaded.

    Raises:
        Halted: they have a key in common.
    """
    key, stored = run.pipeline.key, stored_keys(run)
    mine = rows.select(list(key))
    with database.reading() as connection:
        others = sa.select(partitions.c.partition).where(partitions.c.run_id == run.run_id)
        loaded = sorted(connection.execute(others.where(partitions.c.partition != partition.index)).scalars())
    for index in loaded:  # one after the other, because a run may have more rows than memory
        owned = sa.select(*(stored.c[c] for c in key)).where(stored.c.run_id == run.run_id, stored.c.partition == index)
        try:
            theirs = read(database, owned).cast(mine.schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue  # such values are not equal
        halt_on_duplicates(run, pa.concat_tables([mine, theirs]))


def keep_refusals(database: Database, run: ScoringRun, refusals: Sequence[Refusal]) -> None:
    """Write refused rows of a run that halts before its first partition. Repeating it changes nothing."""
    with bulk_transaction(database) as transaction:
        kept = sa.select(quarantine.c.number).where(quarantine.c.run_id == run.run_id).limit(1)
        if not transaction.execute(kept):
            _append_rows(transaction, quarantine, _refusal_rows(run, 0, tuple(refusals)))


def _prepare(database: Database, run: ScoringRun, scored: ScoredRows, rows: pa.Table, again: bool) -> Tables:
    """Make the tables of the rows and of their reasons ready.

    The first one is None for a halted partition, the second one if there are no reasons to write.

    Args:
        rows: The rows of the history table.
    """
    destination, key, history, reasons = run.pipeline.destination, run.pipeline.key, None, None
    again = again or run.pipeline.is_sandbox  # another process may have ended the sandbox, and dropped its tables
    if not scored.halts and run.champion_run_id is not None:
        history = require_fit(database, destination, key, rows, again=again)
    elif not scored.halts:
        history = prepare(database, destination, key, rows, steps=bool(run.steps), again=again)
    if scored.reasons is not None and scored.reasons.stated.num_rows:
        reasons = prepare_reasons(database, destination, key, scored.reasons.stated, again=again)
    return history, reasons


def _taken(
    scored: ScoredRows, seconds: dict[str, float], begun: float, meter: PartitionMeter | None
) -> tuple[dict[str, float], Spent | None]:
    """Return the seconds of all steps, with loading, and what the partition cost."""
    spent = meter.read(0 if scored.halts else scored.table.nbytes) if meter else None
    return seconds | {"load": time.perf_counter() - begun}, spent


def _is_loaded(transaction: BulkTransaction, run: ScoringRun, receipt: Receipt) -> bool:
    """Return whether the partition is loaded. Of two copies at once, the later one retries and finds it."""
    index = receipt.partition.index
    mine = (partitions.c.run_id == runs.c.run_id) & (partitions.c.partition == index)
    query = sa.select(runs.c.state, *(partitions.c[f"rows_{name}"] for name in _COUNTS))
    found = transaction.execute(query.select_from(runs.outerjoin(partitions, mine)).where(runs.c.run_id == run.run_id))
    state, *counts = found[0] if found else ("unknown",)
    if state != "running":
        raise TakenOver(run.run_id, state)
    if counts[0] is None:
        return False
    if counts != [getattr(receipt, name) for name in _COUNTS]:
        raise PartitionMoved(run.label, receipt.partition.label)
    return True


def _refuse_other_values(
    transaction: BulkTransaction, history: sa.Table, run: ScoringRun, partition: Partition, rows: pa.Table
) -> None:
    """Compare the numbers of the loaded rows with those of this copy, for reasons are made of its rows.

    Raises:
        PartitionMoved: they are not the same.
    """
    names = [field.name for field in rows.schema if pa.types.is_floating(field.type)]
    mine = (history.c.run_id == run.run_id, history.c.partition == partition.index)
    loaded = transaction.execute(sa.select(*(history.c[name] for name in names)).where(*mine))
    given = zip(*(rows[name].to_pylist() for name in names), strict=True)
    if Counter(map(_write_numbers, loaded)) != Counter(map(_write_numbers, given)):
        raise PartitionMoved(run.label, partition.label)


def _write_numbers(row: tuple[float | Decimal | None, ...]) -> str:
    return repr([value if value is None else float(value) for value in row])


def make_receipt(
    run: ScoringRun, partition: Partition, scored: ScoredRows, seconds: dict[str, float], spent: Spent | None = None
) -> Receipt:
    """Sum up what a partition did. Refused rows of other sources do not count."""
    pipeline = run.pipeline
    refused = [r for r in scored.refusals if r.stage not in pipeline.sources or r.stage == pipeline.primary]
    own = [r.stage for r in refused]
    return Receipt(
        partition=partition,
        extracted=scored.features.extracted,
        scored=0 if scored.halts else scored.table.num_rows,
        quarantined=len(own),
        excluded=scored.features.excluded,
        refused_at_source=own.count(pipeline.primary),
        validations=scored.validations,
        halts=scored.halts,
        seconds={step: round(took, 4) for step, took in seconds.items()},
        spent=spent,
        score_quantiles=scored.quantiles,
        audit=scored.audit,
        columns=scored.columns,
        chosen=scored.reasons.chosen if scored.reasons else None,
        profile=scored.profile,
        slices=scored.slices,
        first_reason="; ".join(reason.text for reason in refused[0].reasons) if refused else "",
    )


def count_rows(database: Database, run: ScoringRun) -> int:
    """Count a run's rows in the history table."""
    destination = run.pipeline.destination
    name = history_name(destination.table, destination.schema_)
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(name.name, schema=destination.schema_):
            return 0
        query = sa.select(sa.func.count()).select_from(name).where(name.c.run_id == run.run_id)
        return int(connection.execute(query).scalar_one())


def _owned(rows: pa.Table, run_id: str, index: int) -> pa.Table:
    parts = pa.repeat(pa.scalar(index, pa.int32()), rows.num_rows)
    return own_rows(rows.add_column(0, "partition", parts), run_id)


def own_rows(rows: pa.Table, run_id: str) -> pa.Table:
    """Return the rows with the ID of their run as first column."""
    return rows.add_column(0, "run_id", pa.repeat(pa.scalar(run_id, pa.string()), rows.num_rows))


def _append_rows(transaction: BulkTransaction, table: sa.Table, rows: list[dict[str, object]]) -> None:
    if rows:
        transaction.append(table, pa.Table.from_pylist(rows))


def _refusal_rows(run: ScoringRun, index: int, refusals: tuple[Refusal, ...]) -> list[dict[str, object]]:
    return [
        {
            "run_id": run.run_id,
            "partition": index,
            "number": number,
            "pipeline": run.pipeline.name,
            "stage": refusal.stage,
            "source": refusal.source,
            "key": refusal.key,
            "reasons": json.dumps([reason.text for reason in refusal.reasons], ensure_ascii=False),
            "row": refusal.row,
            "state": "held",
            "digest": refusal.digest,
        }
        for number, refusal in enumerate(refusals)
    ]


def _receipt_row(run: ScoringRun, receipt: Receipt, attempts: int) -> dict[str, object]:
    bounds = receipt.partition.bounds
    spent = receipt.spent
    if run.pipeline.key[0].casefold() in run.pipeline.private_columns:
        bounds = None, None
    return {
        "run_id": run.run_id,
        "partition": receipt.partition.index,
        "lower_bound": bounds[0],
        "upper_bound": bounds[1],
        **{f"rows_{name}": getattr(receipt, name) for name in _COUNTS},
        "attempts": attempts,
        "seconds": json.dumps(receipt.seconds),
        "process": spent and spent.process,
        "cpu_seconds": spent and round(spent.cpu_seconds, 3),
        "bytes_read": spent and spent.bytes_read,
        "bytes_written": spent and spent.bytes_written,
        "peak_bytes": spent and spent.peak_bytes,
    }
