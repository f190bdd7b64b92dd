"""Read one file that a person gives, such as reference rows, as a source of files would read it."""

import glob
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pyarrow import parquet

from penstock.errors import BrokenFile
from penstock.sources.files import POSITION, files_relation
from penstock.spec.pipeline import ROW_ID, FilesSource

_FORMATS: dict[str, Literal["parquet", "csv", "json"]] = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".json": "json",
    ".jsonl": "json", ".ndjson": "json",
}  # fmt: skip
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
        UnfitValue: a value does not fit the type of its column.
    """
    format_ = _format_of(path)
    if format_ is None:
        raise BrokenFile(what, str(path), "its name ends neither in .parquet, .csv nor .json")
    if format_ == "parquet":
        try:
            return parquet.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise BrokenFile(what, str(path), str(error).splitlines()[0].rstrip(".")) from None
    source = FilesSource(kind="files", path=glob.escape(str(path)), format=format_)
    with files_relation(what, source, None, [path]) as relation:
        rows = relation.read(None).sort_by(POSITION)
    return rows.drop_columns([name for name in (POSITION, ROW_ID) if name in rows.column_names])


def _format_of(path: Path) -> Literal["parquet", "csv", "json"] | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return _FORMATS.get(suffixes[-1]) if suffixes else None
