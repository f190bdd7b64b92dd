"""Which columns of a source the scoring of requests takes."""

import re
from collections.abc import Mapping

import pyarrow as pa

from penstock.errors import ServeRefused
from penstock.run.schema_contract import used_columns
from penstock.serving.request_rows import SourceColumns
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import ROW_ID, SqlSource

_TAKES_ALL = re.compile(
    r"(^|[\s,(.])\*\s*(,|\)|$|\b(from|exclude|replace|rename)\b)|(^|\()\s*from\b|\b(columns|pivot|unpivot|natural)\b",
    re.IGNORECASE,
)
"""What may stand for columns that a query does not name."""
_COUNTS = re.compile(r"\bcount\s*\(\s*\*\s*\)", re.IGNORECASE)


def choose_columns(
    pipeline: Pipeline, name: str, types: Mapping[str, pa.DataType], needed: tuple[str, ...]
) -> SourceColumns:
    """Return the columns of a source that requests bring.

    Columns that nothing uses are left out, unless the features query may take all of them: then they may be sent.

    Args:
        needed: columns that models, conditions and decisions take.
    """
    source = pipeline.sources[name]
    if isinstance(source, SqlSource) and source.updated_column:  # it tells runs what has changed, and requests nothing
        source = source.model_copy(update={"updated_column": None})
    bare = pipeline.model_copy(update={"interval": None, "sources": {**pipeline.sources, name: source}})
    used = used_columns(bare, name, set(types), needed)
    missing = [c for c in source.key if name == pipeline.primary and c not in types]
    if missing:
        raise ServeRefused(f"`{name}` has no column `{missing[0]}`", "Correct `key` in the spec.")
    takes_all = pipeline.features is None or _TAKES_ALL.search(_COUNTS.sub("", pipeline.features))
    wanted = types if takes_all else {c: types[c] for c in types if c in used}
    # The row ID of landed lines is the key of their own rows only.
    required = used if name == pipeline.primary else used - {ROW_ID}
    return SourceColumns(name, dict(wanted), frozenset(required))
