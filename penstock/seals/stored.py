"""The roots of partitions and runs, and the erased seals, in the ledger."""

from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import SealKeyUnknown
from penstock.ledger.destinations import destination_name
from penstock.ledger.tables import erased_seals, runs, seals
from penstock.privacy.secret_keys import KeyRing
from penstock.run_types import ScoringRun
from penstock.seals.sealer import PartitionSeal, sealer_of


@dataclass(frozen=True)
class ErasedSeal:
    """A row that `penstock forget` removed."""

    partition: int
    seal: str
    """Its digest."""
    tag: str
    proof: str


def read_seal_of(connection: sa.Connection, run_id: str, partition: int) -> PartitionSeal | None:
    """Return the seal of a partition, with its tags. None if it is not sealed."""
    columns = (seals.c.partition, seals.c.key_id, seals.c.rows, seals.c.root, seals.c.tags)
    query = sa.select(*columns).where(seals.c.run_id == run_id, seals.c.partition == partition)
    row = connection.execute(query).first()
    return None if row is None else PartitionSeal(*row)


def read_roots(connection: sa.Connection, run_id: str) -> list[PartitionSeal]:
    """Return the sealed partitions of a run without their tags."""
    partition = sa.cast(seals.c.partition, sa.Integer)  # SQLite takes text there
    columns = (partition, seals.c.key_id, seals.c.rows, seals.c.root, sa.literal(""))
    query = sa.select(*columns).where(seals.c.run_id == run_id).order_by(seals.c.partition)
    return [PartitionSeal(*row) for row in connection.execute(query)]


def read_erased(connection: sa.Connection, run_id: str) -> list[ErasedSeal]:
    """Return the rows of a run that `penstock forget` removed."""
    columns = (erased_seals.c.partition, erased_seals.c.seal, erased_seals.c.tag, erased_seals.c.proof)
    query = sa.select(*columns).where(erased_seals.c.run_id == run_id).order_by(erased_seals.c.seal)
    return [ErasedSeal(*row) for row in connection.execute(query)]


def record_root(database: Database, run: ScoringRun, keys: KeyRing) -> None:
    """Store the root of a run whose partitions are loaded. Repeating it changes nothing."""
    with database.writing() as connection:
        destination = run.pipeline.destination
        place = destination_name(connection, destination), destination.table
        root = sealer_of(keys.current, run).seal_run(read_roots(connection, run.run_id), place)
        ours = (runs.c.run_id == run.run_id, runs.c.state == "running", runs.c.lease_token == run.lease_token)
        connection.execute(sa.update(runs).where(*ours).values(seal_root=root))


def require_newest_key(database: Database, pipeline: str, variant: str, keys: KeyRing) -> None:
    """Check that one of the keys is that of the newest sealed run of a pipeline's variant, if there is one.

    Raises:
        SealKeyUnknown: none of them is.
    """
    mine = (runs.c.pipeline == pipeline, runs.c.variant == variant, runs.c.seal_root.is_not(None))
    query = sa.select(runs.c.seal_root).where(*mine).order_by(runs.c.started_at.desc()).limit(1)
    with database.reading() as connection:
        root = connection.execute(query).scalar()
    if root is not None and keys.find(key_id := str(root).partition(".")[0]) is None:
        raise SealKeyUnknown(f"`{pipeline}`", (key_id,), keys.ids)
