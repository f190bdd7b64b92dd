"""Judge the rows of a source's text files that cannot be read."""

from collections.abc import Container

import pyarrow.parquet as pq

from penstock.errors import MalformedRows
from penstock.privacy.masking import HIDDEN
from penstock.sources.text.staging import Staged


def raise_malformed(source: str, staged: Staged, limit: float, private: Container[str] = ()) -> None:
    """Raise MalformedRows if more than a share of the files' rows cannot be read.

    Args:
        private: columns whose values no error shows, in lower case. The path of a document may be one.
    """
    rows = staged.rows + staged.refused
    if staged.refused <= limit * rows:
        return
    [first] = next(pq.ParquetFile(staged.refused_file).iter_batches(batch_size=1)).to_pylist()
    if first["reason"] is None:
        facts = {"column": first["column_name"], "value": first["value"], "kind": first["kind"]}
    else:
        facts = {}
    file = HIDDEN if not first["line"] and "path" in private else first["file"]
    raise MalformedRows(source, staged.refused, rows, limit, file, first["line"], first["reason"] or "", **facts)
