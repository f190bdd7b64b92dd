"""Read one file that a person gives, such as reference rows, as a source of files would read it."""

import glob
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from pyarrow import parquet
from sqlalchemy.pool import StaticPool

from penstock.database.connections import Connector, Database
from penstock.errors import BrokenFile
from penstock.sources import open_source
from penstock.sources.folder_columns import folder_columns
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import ROW_ID

_FORMATS: dict[str, Literal["parquet", "csv", "json"]] = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".json": "json",
    ".jsonl": "json", ".ndjson": "json",
}  # fmt: skip
_SOURCE = "rows"
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def is_rows_file(name: str) -> bool:
    """Return whether a name ends as that of a file of rows does."""
    return _format_of(Path(name)) is not None


def read_given_file(what: str, path: Path) -> pa.Table:
    """Read all rows of a Parquet, CSV or JSON-lines file, which may be compressed.

    CSV and JSON files are read as a source without any setting reads them. Parquet files keep their dictionaries, which
    are the categories of pandas.

    Args:
        what: the name of the rows in messages.

    Raises:
        BrokenFile: the file is of another format, or damaged.
        AmbiguousDate: dates of a column can be read in several ways.
        MalformedRows: a row cannot be read.
    """
    format_ = _format_of(path)
    if format_ is None:
        raise BrokenFile(what, str(path), "its name ends neither in .parquet, .csv nor .json")
    if format_ == "parquet":
        try:
            return parquet.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise BrokenFile(what, str(path), str(error).splitlines()[0].rstrip(".")) from None
    if "{" in str(path):
        raise BrokenFile(what, str(path), "its path has a brace, which begins a time in the path of a source")
    source = {
        "kind": "files",
        "path": glob.escape(str(path)),
        "format": format_,
        "max_malformed": 0,  # a row that is left out would move all rows after it
    }
    pipeline = Pipeline.model_validate(
        {
            "name": "given-file",
            "sources": {_SOURCE: source},
            "model": "none@1",
            "destination": {"connection": "none", "table": "none"},
        }
    )
    empty = Database("none", sa.create_engine("duckdb:///:memory:", poolclass=StaticPool))
    try:
        rows = open_source(pipeline, _SOURCE, Connector(lambda _: empty, ())).read(None)
    finally:
        empty.engine.dispose()
    numbers: Any = pc.replace_substring_regex(rows.column(ROW_ID), "^.*:", "")
    folders = [column for column in folder_columns(what, [str(path)]).values if column in rows.column_names]
    return rows.drop_columns([ROW_ID, *folders]).take(pc.sort_indices(numbers.cast(pa.int64())))


def _format_of(path: Path) -> Literal["parquet", "csv", "json"] | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return _FORMATS.get(suffixes[-1]) if suffixes else None
