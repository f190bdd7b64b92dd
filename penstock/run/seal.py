"""Fill the column of seals in the rows of a partition."""

from typing import Any

import pyarrow as pa

from penstock.privacy.secret_keys import KeyRing
from penstock.run_types import Partition, ScoringRun
from penstock.seals.sealer import read_digest, sealer_of
from penstock.spec.column_names import SEAL


def add_empty_seals(rows: pa.Table) -> pa.Table:
    """Return the rows with the column of seals, without values, so that the history table gets it."""
    return rows.append_column(SEAL, pa.nulls(rows.num_rows, pa.string()))


def fill_seals(
    rows: pa.Table, run: ScoringRun, partition: Partition, features: pa.Table, keys: KeyRing
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the rows with their seals, and the ledger's row of the partition.

    Args:
        rows: The rows in the types of the history table, with an empty column of seals.
        features: The features of the rows, in the same order.
    """
    sealer, values = sealer_of(keys.current, run), rows.drop_columns([SEAL])
    made = sealer.seal_rows(partition.index, values, features)
    tags = sealer.tag_keys(values.select(list(run.pipeline.key)))
    sealed = sealer.seal_partition(partition.index, [read_digest(str(text)) for text in made.to_pylist()], tags)
    return values.append_column(SEAL, made), {"run_id": run.run_id, **vars(sealed)}
