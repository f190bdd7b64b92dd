"""Read a Delta Lake table at one version, with the library `deltalake`."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from penstock.errors import MissingLakeTable, SettingsError, UnreadableTable
from penstock.run_types import TableVersion
from penstock.sources.lake.stores import delta_options, is_remote
from penstock.sources.lake.table import TimeRange, translated

if TYPE_CHECKING:
    from deltalake import DeltaTable

_DELETIONS = "deletionVectors"
_KNOWN = frozenset(
    {
        *(_DELETIONS, "columnMapping", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"),
        *("variantType", "variantType-preview"),
    }
)
"""Reader features that are read right. A column of the type `variant` is refused on its own."""
_MAPPING = "delta.columnMapping.mode"


@dataclass(frozen=True)
class OpenDelta:
    """A Delta table at one version."""

    source: str
    version: TableVersion
    table: "DeltaTable"
    schema: pa.Schema
    errors: tuple[type[Exception], ...]

    def list_files(self, rows: TimeRange | None) -> list[str]:
        with translated(self.source, self.version, self.version.table, self.errors):
            files = self.table.file_uris(file_pruning_predicate=rows.sql if rows else None)
            deleted = self._deletions()
        marks = [(file.removeprefix("file://"), self._below(file)) for file in files]
        return [f"{below} without {deleted[file]}" if file in deleted else below for file, below in marks]

    def list_places(self) -> list[str]:
        with translated(self.source, self.version, self.version.table, self.errors):
            return [self.table.table_uri, *self.table.file_uris()]

    def scan(self, rows: TimeRange | None) -> pa.RecordBatchReader:
        with translated(self.source, self.version, self.version.table, self.errors):
            return pa.RecordBatchReader.from_stream(self.table.scan(predicate=rows.sql if rows else None))

    def count_nulls(self, column: str) -> int:
        name = '"' + column.replace('"', '""') + '"'
        with translated(self.source, self.version, self.version.table, self.errors):
            found = pa.RecordBatchReader.from_stream(self.table.scan([column], f"{name} is null"))
            return sum(batch.num_rows for batch in found)

    def _below(self, file: str) -> str:
        """Return a file's path below the folder of the table."""
        return file.removeprefix("file://").removeprefix(self.table.table_uri.removeprefix("file://")).lstrip("/")

    def _deletions(self) -> dict[str, str]:
        """Return by data file a digest of the rows that are deleted from it."""
        if _DELETIONS not in (self.table.protocol().reader_features or ()):
            return {}
        found: dict[str, str] = {}
        for batch in pa.RecordBatchReader.from_stream(self.table.deletion_vectors()):
            for row in batch.to_pylist():
                digest = hashlib.sha256(bytes(row["selection_vector"])).hexdigest()[:16]
                found[row["filepath"].removeprefix("file://")] = digest
        return found


def open_delta(source: str, path: str, version: TableVersion | None) -> OpenDelta:
    """Open a Delta table.

    Args:
        version: the one to read. None: the newest.

    Raises:
        SettingsError: the library is not installed.
        MissingLakeTable: there is no table.
        VersionGone: the version is gone.
        UnreadableTable: the table has a feature that is not read.
    """
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ModuleNotFoundError:
        raise SettingsError(
            f"source `{source}` is a Delta table, and the library `deltalake` is not installed",
            "Install Penstock's extra `delta`.",
        ) from None
    location = path if is_remote(path) else str(Path(path).absolute())
    options = delta_options(location)
    with translated(source, version, path, (DeltaError,), opens=True):
        if version is None and not DeltaTable.is_deltatable(location, options):
            raise MissingLakeTable(source, f"Delta table at `{path}`")
        table = DeltaTable(location, None if version is None else int(version.version), options)
    opened = TableVersion("delta", path, str(table.version()), location)
    with translated(source, opened, path, (DeltaError,)):
        _refuse_unread(source, opened, table)
        schema = pa.schema(table.schema().to_arrow())  # type: ignore[arg-type] # it has Arrow's C interface
    return OpenDelta(source, opened, table, schema, (DeltaError,))


def _refuse_unread(source: str, version: TableVersion, table: "DeltaTable") -> None:
    features = sorted(set(table.protocol().reader_features or ()) - _KNOWN)
    if features:
        raise UnreadableTable(
            source, version.text, f"it has the reader feature {', '.join(f'`{f}`' for f in features)}"
        )
    if table.metadata().configuration.get(_MAPPING) == "id":
        reason = f"its columns are found by number (`{_MAPPING}` is `id`), which the library does not do"
        raise UnreadableTable(source, version.text, reason)
    variants = [name for name, kind in _fields(json.loads(table.schema().to_json())) if kind == "variant"]
    if variants:
        raise UnreadableTable(source, version.text, f"the column `{variants[0]}` has the type `variant`")


def _fields(kind: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the names and types of all columns, with what is nested in them."""
    if not isinstance(kind, dict):
        yield name, kind
        return
    for field in kind.get("fields", ()):
        yield from _fields(field["type"], f"{name}.{field['name']}" if name else field["name"])
    for part in ("elementType", "keyType", "valueType"):
        if part in kind:
            yield from _fields(kind[part], name)
