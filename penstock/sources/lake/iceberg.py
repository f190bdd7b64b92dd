"""Read an Apache Iceberg table at one version, with the library `pyiceberg`.

The catalog is a table in a SQL database. It says which file has the table's metadata. That file never changes, and has
the schema and the snapshot, so a version is the place of its file.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.database.connections import Connect, Database
from penstock.errors import MissingLakeTable, SettingsError
from penstock.run_types import TableVersion
from penstock.sources.lake.stores import iceberg_properties
from penstock.sources.lake.table import TimeRange, translated
from penstock.spec.sources import IcebergSource

if TYPE_CHECKING:
    from pyiceberg.table import DataScan, StaticTable

CATALOG = "iceberg_tables"
"""The table of a SQL catalog, as the JDBC catalog of Iceberg has it too."""


@dataclass(frozen=True)
class OpenIceberg:
    """An Iceberg table at one version."""

    source: str
    version: TableVersion
    table: "StaticTable"
    errors: tuple[type[Exception], ...]

    @cached_property
    def schema(self) -> pa.Schema:
        with translated(self.source, self.version, self.version.table, self.errors):
            return self.table.schema().as_arrow()

    def list_files(self, rows: TimeRange | None) -> list[str]:
        with translated(self.source, self.version, self.version.table, self.errors):
            return [_mark(task) for task in self._scan(rows).plan_files()]

    def list_places(self) -> list[str]:
        with translated(self.source, self.version, self.version.table, self.errors):
            files = [f for task in self._scan(None).plan_files() for f in (task.file, *task.delete_files)]
            return [self.version.location, *(file.file_path for file in files)]

    def scan(self, rows: TimeRange | None) -> pa.RecordBatchReader:
        with translated(self.source, self.version, self.version.table, self.errors):
            return self._scan(rows).to_arrow_batch_reader()

    def count_nulls(self, column: str) -> int:
        from pyiceberg.expressions import IsNull, Reference

        with translated(self.source, self.version, self.version.table, self.errors):
            found = self.table.scan(IsNull(term=Reference(column)), (column,)).to_arrow_batch_reader()
            return sum(batch.num_rows for batch in found)

    def _scan(self, rows: TimeRange | None) -> "DataScan":
        from pyiceberg.expressions import AlwaysTrue, And, GreaterThanOrEqual, LessThan, Reference
        from pyiceberg.expressions.literals import literal

        if rows is None:
            return self.table.scan(row_filter=AlwaysTrue())
        term = Reference(rows.column)
        first = GreaterThanOrEqual(term=term, value=literal(rows.first))
        return self.table.scan(row_filter=And(first, LessThan(term=term, value=literal(rows.last))))


def open_iceberg(source: str, spec: IcebergSource, connect: Connect, version: TableVersion | None) -> OpenIceberg:
    """Open an Iceberg table.

    Args:
        version: the one to read. None: the newest, which the catalog names.

    Raises:
        SettingsError: the library is not installed, or several catalogs have the table.
        MissingLakeTable: there is no table.
        VersionGone: the version is gone.
        UnreadableTable: the metadata cannot be read.
    """
    try:
        from pyiceberg.exceptions import NotInstalledError, ResolveError, ValidationError, ValidationException
        from pyiceberg.table import StaticTable
    except ModuleNotFoundError:
        raise SettingsError(
            f"source `{source}` is an Iceberg table, and the library `pyiceberg` is not installed",
            "Install Penstock's extra `iceberg`.",
        ) from None
    location = _find_metadata(source, spec, connect(spec.connection)) if version is None else version.location
    errors = (NotInstalledError, ResolveError, ValidationError, ValidationException)
    with translated(source, version, spec.table, errors, opens=True):
        table = StaticTable.from_metadata(location, iceberg_properties())
        snapshot = table.current_snapshot()
    found = TableVersion("iceberg", spec.table, str(snapshot.snapshot_id) if snapshot else "", location)
    return OpenIceberg(source, found, table, errors)


def _find_metadata(source: str, spec: IcebergSource, catalog: Database) -> str:
    """Look up the file of the newest metadata in the catalog."""
    catalog.require_file()
    place = f"Iceberg table `{spec.table}` in the catalog of `{catalog.name}`"
    names = ("catalog_name", "table_namespace", "table_name", "metadata_location")
    tables = sa.table(CATALOG, *(sa.column(name, sa.Text) for name in names))
    with catalog.reading() as connection:
        if not sa.inspect(connection).has_table(CATALOG):
            raise MissingLakeTable(source, f"{place}: the database has no table `{CATALOG}`")
        rows = connection.execute(sa.select(*(tables.c[name] for name in names))).all()
    mine = [(each, f"{namespace}.{name}", file) for each, namespace, name, file in rows]
    found = {
        each: file
        for each, name, file in mine
        if name == spec.table and file is not None and spec.catalog in (None, each)
    }
    if not found:
        raise MissingLakeTable(source, place, tuple(sorted({name for _, name, _ in mine})), spec.table)
    if len(found) > 1:
        raise SettingsError(
            f"source `{source}`: the catalogs {', '.join(f'`{name}`' for name in sorted(found))} in `{catalog.name}` "
            f"each have a table `{spec.table}`",
            "Name one of them in `catalog:` of the source.",
        )
    [file] = found.values()
    return str(file)


def _mark(task: Any) -> str:
    """Return a data file with the files that delete rows of it."""
    deletes = sorted(f"{d.file_path}@{getattr(d, 'content_offset', None) or 0}" for d in task.delete_files)
    return " without ".join([task.file.file_path, *deletes])
