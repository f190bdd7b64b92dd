"""Compare the rows of one sealed run with their seals, a partition at a time."""

import hmac
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Database
from penstock.database.types import arrow_type
from penstock.interval import iso
from penstock.ledger.reader import RunRecord
from penstock.ledger.tables import seals
from penstock.privacy.row_key import RowKey
from penstock.privacy.secret_keys import KeyRing
from penstock.run.history_table import reflect_history, stored_columns
from penstock.run_types import deciding_model
from penstock.seals.row_text import Kind, kind_of, write_rows
from penstock.seals.sealer import PartitionSeal, Sealer, describe_models, read_digest, read_seal, without_own
from penstock.seals.stored import ErasedSeal, read_erased, read_roots, read_seal_of
from penstock.spec.column_names import SEAL
from penstock.upkeep.stored_rows import match_key

SHOWN = 20
"""Most keys that a finding names."""
Fault = Literal[
    "altered",
    "added",
    "removed",
    "restored",
    "seals changed",
    "erasure forged",
    "not sealed",
    "key not set",
    "run unknown",
    "run unreadable",
    "rows gone",
    "other form",
    "other root",
    "run gone",
    "pipeline gone",
]


@dataclass(frozen=True)
class PartitionFault:
    """Rows of one kind that do not fit their partition's seals."""

    partition: int | None
    """None: the run as a whole."""
    fault: Fault
    rows: int
    keys: pa.Table | None = None
    """The keys of the rows, as far as they are known."""
    tags: frozenset[str] = frozenset()
    """Of removed rows: the tags of their keys."""
    table: str = ""
    """Where they are, if it is not the run's own table."""
    key_ids: tuple[str, ...] = ()
    """The keys of seals that are not set."""


@dataclass(frozen=True)
class StoredRows:
    """The history table of a run, as the database has it."""

    table: sa.Table
    kinds: dict[str, Kind]
    """By column that a seal covers."""
    key: list[str]
    has_seals: bool


def describe_rows(database: Database, name: sa.TableClause) -> StoredRows:
    """Return a history table as the database has it."""
    with database.reading() as connection:
        table = reflect_history(connection, name.name, name.schema)
        columns = {str(column.name): column for column in stored_columns(connection, table)}
    kinds = {name: kind_of(arrow_type(columns[name].type)) for name in without_own(columns)}
    return StoredRows(table, kinds, [name for name in kinds if not columns[name].nullable], SEAL in columns)


def plain_id(run_id: object) -> str:
    """Return a run's ID as the ledger writes it."""
    return run_id.hex if isinstance(run_id, uuid.UUID) else str(run_id).replace("-", "")


def sealer_for(run: RunRecord, keys: KeyRing, key_id: str) -> Sealer:
    """Return the sealer of a stored run. The key is one of those that were checked to be there."""
    key = keys.find(key_id)
    assert key is not None
    return Sealer(key, run.run_id, describe_models(run.pins), run.interval_key)


def compare_root(database: Database, run: RunRecord, keys: KeyRing) -> Iterator[PartitionFault]:
    """Yield a fault if the run's root is not that of its partitions and of what the views show of the run."""
    with database.reading() as connection:
        roots = read_roots(connection, run.run_id)
    root = str(run.seal_root)
    sealer = sealer_for(run, keys, root.partition(".")[0])
    # The first version did not cover the place. Without the key nobody can make such a root of another one.
    possible = [sealer.seal_run(roots, place) for place in ((run.destination or "", run.destination_table), None)]
    holds = [hmac.compare_digest(each.encode(), root.encode()) for each in possible]
    if not any(holds) or not _shows_what_is_sealed(run):
        yield PartitionFault(None, "seals changed", 0)


def _shows_what_is_sealed(run: RunRecord) -> bool:
    """Whether the columns that the views show of a run agree with those that its root covers."""
    start, end, pin = run.interval_start, run.interval_end, deciding_model(run.pins)
    shown = "snapshot" if start is None and end is None else f"{start and iso(start)}/{end and iso(end)}"
    model = (run.model_name, run.model_version, run.model_digest)
    return shown == run.interval_key and (pin.name, pin.version, pin.digest) == model


def find_faults(database: Database, run: RunRecord, rows: StoredRows, keys: KeyRing) -> Iterator[PartitionFault]:
    """Yield what does not fit the seals of a run whose keys are known. Memory is bounded by its largest partition."""
    with database.reading() as connection:
        sealed = [each.partition for each in read_roots(connection, run.run_id)]
    yield from compare_root(database, run, keys)
    for partition in sealed:
        yield from _compare_partition(database, run, rows, keys, partition)
    yield from _find_beyond(database, run, rows)


def _find_beyond(database: Database, run: RunRecord, rows: StoredRows) -> Iterator[PartitionFault]:
    """Yield a fault if the run has rows that are of none of its sealed partitions."""
    partition = rows.table.c.partition
    sealed = sa.select(seals.c.partition).where(seals.c.run_id == run.run_id)
    where = (rows.table.c.run_id == run.run_id, sa.or_(partition.is_(None), partition.not_in(sealed)))
    with database.reading() as connection:
        number = int(connection.execute(sa.select(sa.func.count()).select_from(rows.table).where(*where)).scalar_one())
    if number:
        some = read_rows(database, rows, *where, limit=SHOWN)
        yield PartitionFault(None, "added", number, some.select(rows.key))


def read_rows(
    database: Database, rows: StoredRows, *where: sa.ColumnElement[bool], limit: int | None = None
) -> pa.Table:
    """Read rows as the database has them, with their seals."""
    names = [*rows.kinds, *([SEAL] if rows.has_seals else [])]
    # Without types, so that a value which is not of its column's type stays as it is.
    columns: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(name, quote=True)) for name in names]
    found = read(database, sa.select(*columns).select_from(rows.table).where(*where).limit(limit), exact=names)
    return found if rows.has_seals else found.append_column(SEAL, pa.nulls(found.num_rows, pa.string()))


def judge_row(database: Database, run: RunRecord, name: sa.TableClause, row_key: RowKey, keys: KeyRing | None) -> str:
    """Say whether the seal of one row holds. Empty if its run is not sealed.

    Args:
        name: The history table with the row.
        keys: None if no key is set.
    """
    if run.seal_root is None:
        return ""
    if keys is None:
        return "not checked, because PENSTOCK_SEAL_KEY is not set"
    rows = describe_rows(database, name)
    with database.reading() as connection:
        where = (rows.table.c.run_id == run.run_id, *match_key(connection, rows.table, row_key))
        found = connection.execute(sa.select(rows.table.c.partition).where(*where)).scalars().all()
    if len(found) != 1:  # DuckDB's table has no unique key
        return "does not hold: the run has the row more than once" if found else "does not hold: the row is gone"
    [partition] = found
    stored = read_rows(database, rows, *where)
    seal = read_seal(stored[SEAL][0].as_py())
    if seal is not None and keys.find(seal.key_id) is None:
        return f"not checked, because it is under the key {seal.key_id}, which is not set"
    holds = seal is not None and judge_seals(sealer_for(run, keys, seal.key_id), partition, stored, rows)[0]
    return "holds" if holds else "does not hold: the row was changed after it was scored"


def judge_seals(sealer: Sealer, partition: int, stored: pa.Table, rows: StoredRows) -> list[bool]:
    """Say of each row whether its seal is the one that it must have."""
    found = [read_seal(text) for text in stored[SEAL].to_pylist()]
    written = write_rows(stored.select(list(rows.kinds)), rows.kinds)
    wanted = sealer.digest_rows(partition, written, [seal.features if seal else "" for seal in found])
    return [
        seal is not None and seal.key_id == sealer.key.id and hmac.compare_digest(digest, seal.digest)
        for seal, digest in zip(found, wanted, strict=True)
    ]


def _compare_partition(
    database: Database, run: RunRecord, rows: StoredRows, keys: KeyRing, partition: int
) -> Iterator[PartitionFault]:
    here = (rows.table.c.run_id == run.run_id, rows.table.c.partition == partition)
    stored = read_rows(database, rows, *here)
    with database.reading() as connection:
        sealed = read_seal_of(connection, run.run_id, partition)
        erased = [each for each in read_erased(connection, run.run_id) if each.partition == partition]
    if sealed is None:
        return  # pruned meanwhile
    sealer = sealer_for(run, keys, sealed.key_id)
    proven = [each for each in erased if _is_proven(each, run, keys)]
    if len(proven) < len(erased):
        yield PartitionFault(partition, "erasure forged", len(erased) - len(proven))
    yield from _compare_rows(sealer, sealed, stored, rows, proven)


def _is_proven(erased: ErasedSeal, run: RunRecord, keys: KeyRing) -> bool:
    """Whether a holder of a key wrote down the erasure."""
    key_id = erased.proof.partition(".")[0]
    if keys.find(key_id) is None:
        return False
    proof = sealer_for(run, keys, key_id).prove_erasure(erased.partition, erased.seal, erased.tag)
    return hmac.compare_digest(proof, erased.proof)


def _compare_rows(
    sealer: Sealer, sealed: PartitionSeal, stored: pa.Table, rows: StoredRows, erased: Sequence[ErasedSeal]
) -> Iterator[PartitionFault]:
    tags = sealer.tag_keys(stored.select(rows.key), rows.kinds)
    holds = judge_seals(sealer, sealed.partition, stored, rows)
    gone = Counter(each.tag for each in erased)
    left = sealed.list_tags()
    left.subtract(gone)
    found: dict[Fault, list[int]] = {"altered": [], "added": [], "restored": []}
    for place, (tag, sound) in enumerate(zip(tags, holds, strict=True)):
        if left[tag] > 0:
            left[tag] -= 1
            if not sound:
                found["altered"].append(place)
        else:
            found["restored" if tag in gone else "added"].append(place)
    for fault, places in found.items():
        if places:
            yield PartitionFault(sealed.partition, fault, len(places), stored.select(rows.key).take(places))
    removed = +left
    if removed:
        yield PartitionFault(sealed.partition, "removed", removed.total(), tags=frozenset(removed))
    elif not any(found.values()):
        digests = [read_digest(str(text)) for text in stored[SEAL].to_pylist()] + [each.seal for each in erased]
        again = sealer.seal_partition(sealed.partition, digests, [*tags, *gone.elements()])
        if again != sealed:
            yield PartitionFault(sealed.partition, "seals changed", 0)
