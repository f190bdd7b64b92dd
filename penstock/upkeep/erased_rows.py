"""Keep the seals of rows that are erased, so that those of the other rows can still be checked."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.types import arrow_type
from penstock.errors import SealKeyUnknown
from penstock.ledger.reader import read_runs, select_runs
from penstock.ledger.tables import erased_seals, runs
from penstock.privacy.secret_keys import KeyRing
from penstock.run.history_table import stored_columns
from penstock.seals.row_text import Kind, kind_of
from penstock.seals.sealer import RowSeal, read_seal
from penstock.spec.column_names import SEAL
from penstock.upkeep.sealed_rows import plain_id, sealer_for

OpenKeys = Callable[[], KeyRing]
"""Reads the keys of seals. Called only if a row is sealed."""


def keep_seals(
    connection: sa.Connection,
    table: sa.Table,
    key: Sequence[str],
    where: Sequence[sa.ColumnElement[bool]],
    open_keys: OpenKeys,
) -> None:
    """Record the seals of history rows that the transaction is about to delete.

    Args:
        where: The rows.

    Raises:
        SettingsError: a row is sealed, and no key is set.
        SealKeyUnknown: a row is sealed under another key.
    """
    if SEAL not in table.c:
        return
    raw = [sa.type_coerce(table.c[name], sa.types.NullType()).label(f"k{at}") for at, name in enumerate(key)]
    query = sa.select(table.c.run_id, table.c.partition, table.c[SEAL], *raw).where(*where)
    by_run: dict[str, list[tuple[int, RowSeal, tuple[Any, ...]]]] = defaultdict(list)
    for run_id, partition, text, *values in connection.execute(query):
        if (seal := read_seal(text)) is not None:
            by_run[plain_id(run_id)].append((partition, seal, tuple(values)))
    if not by_run:
        return
    keys, kinds = open_keys(), _read_kinds(connection, table, key)
    unknown = {seal.key_id for rows in by_run.values() for _, seal, _ in rows if keys.find(seal.key_id) is None}
    if unknown:
        raise SealKeyUnknown(f"`{table.name}`", tuple(sorted(unknown)), keys.ids)
    for run in read_runs(connection, select_runs().where(runs.c.run_id.in_(by_run))):
        for partition, seal, found in by_run[run.run_id]:
            sealer = sealer_for(run, keys, seal.key_id)
            [tag] = sealer.tag_keys(pa.table({name: [value] for name, value in zip(key, found, strict=True)}), kinds)
            proof = sealer.prove_erasure(partition, seal.digest, tag)
            row = {"run_id": run.run_id, "partition": partition, "seal": seal.digest, "tag": tag, "proof": proof}
            connection.execute(erased_seals.insert().values(**row))


def _read_kinds(connection: sa.Connection, table: sa.Table, key: Sequence[str]) -> dict[str, Kind]:
    columns = {str(column.name): column for column in stored_columns(connection, table)}
    return {name: kind_of(arrow_type(columns[name].type)) for name in key}
