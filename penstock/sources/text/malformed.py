"""Judge the rows of a source's text files that cannot be read."""

import pyarrow.parquet as pq

from penstock.errors import MalformedRows
from penstock.sources.text.staging import Staged


def raise_malformed(source: str, staged: Staged, limit: float) -> None:
    """Raise MalformedRows if more than a share of the files' rows cannot be read."""
    rows = staged.rows + staged.refused
    if staged.refused <= limit * rows:
        return
    [first] = next(pq.ParquetFile(staged.refused_file).iter_batches(batch_size=1)).to_pylist()
    if first["reason"] is None:
        facts = {"column": first["column_name"], "value": first["value"], "kind": first["kind"]}
    else:
        facts = {}
    raise MalformedRows(
        source, staged.refused, rows, limit, first["file"], first["line"], first["reason"] or "", **facts
    )
