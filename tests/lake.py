"""Tables in a lake that tests write with the formats' own libraries."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyroaring import BitMap64

Kind = Literal["delta", "iceberg"]
KINDS: tuple[Kind, ...] = ("delta", "iceberg")


@dataclass(frozen=True)
class DeltaLake:
    """A Delta table in a folder."""

    folder: Path
    partition_by: str | None = None

    def source(self, **more: Any) -> dict[str, Any]:
        return {"kind": "delta", "path": str(self.folder), "key": ["payment_id"]} | more

    @property
    def table(self) -> DeltaTable:
        return DeltaTable(self.folder)

    @property
    def version(self) -> str:
        return str(self.table.version())

    def append(self, rows: pa.Table) -> None:
        write_deltalake(self.folder, rows, mode="append", partition_by=self.partition_by, schema_mode="merge")

    def overwrite(self, rows: pa.Table) -> None:
        write_deltalake(self.folder, rows, mode="overwrite", schema_mode="overwrite")

    def delete(self, condition: str) -> None:
        self.table.delete(condition)

    def update(self, column: str, value: float, condition: str) -> None:
        self.table.update(updates={column: str(value)}, predicate=condition)

    def compact(self) -> None:
        self.table.optimize.compact()

    def drop_old_files(self) -> None:
        """Remove what only older versions need, as a VACUUM without retention does."""
        self.table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


@dataclass(frozen=True)
class IcebergLake:
    """An Iceberg table in a SQL catalog."""

    folder: Path
    url: str
    name: str = "shop.payments"
    catalog_name: str = "lake"
    partition_by: str | None = None

    def source(self, **more: Any) -> dict[str, Any]:
        return {"kind": "iceberg", "connection": "catalog", "table": self.name, "key": ["payment_id"]} | more

    @cached_property
    def catalog(self) -> SqlCatalog:
        return SqlCatalog(
            self.catalog_name,
            uri=self.url.replace("postgresql://", "postgresql+psycopg://"),
            warehouse=self.folder.as_uri(),
        )

    @property
    def table(self) -> Any:
        return self.catalog.load_table(self.name)

    @property
    def version(self) -> str:
        return str(self.table.current_snapshot().snapshot_id)

    def append(self, rows: pa.Table) -> None:
        catalog = self.catalog
        catalog.create_namespace_if_not_exists(self.name.split(".")[0])
        if not catalog.table_exists(self.name):
            table = catalog.create_table(self.name, rows.schema)
            if self.partition_by is not None:
                with table.update_spec() as spec:
                    spec.add_identity(self.partition_by)
        table = catalog.load_table(self.name)
        if set(rows.column_names) - set(table.schema().column_names):
            with table.update_schema() as change:
                change.union_by_name(rows.schema)
        table.append(rows)

    def overwrite(self, rows: pa.Table) -> None:
        table = self.table
        with table.update_schema(allow_incompatible_changes=True) as change:
            for column in set(table.schema().column_names) - set(rows.column_names):
                change.delete_column(column)
            change.union_by_name(rows.schema)
        table.overwrite(rows)

    def delete(self, condition: str) -> None:
        self.table.delete(condition)

    def update(self, column: str, value: float, condition: str) -> None:
        table = self.table
        rows = table.scan(condition).to_arrow()
        changed = rows.set_column(rows.column_names.index(column), column, pa.array([value] * rows.num_rows))
        table.overwrite(changed.cast(rows.schema), overwrite_filter=condition)

    def compact(self) -> None:
        """Write all rows into one file."""
        table = self.table
        table.overwrite(table.scan().to_arrow().combine_chunks())

    def drop_old_files(self) -> None:
        """Remove what only older snapshots need, as `expire_snapshots` of an engine does."""
        table = self.table
        kept = {task.file.file_path for task in table.scan().plan_files()}
        for file in (self.folder / self.name.replace(".", "/") / "data").rglob("*.parquet"):
            if file.as_uri() not in kept:
                file.unlink()


Lake = DeltaLake | IcebergLake


def delete_by_vector(folder: Path, rows: Sequence[int], file: str) -> None:
    """Delete rows of a data file of a Delta table with a deletion vector, as Spark does.

    Args:
        rows: their numbers in the file.
        file: the file below the folder.
    """
    log = sorted((folder / "_delta_log").glob("*.json"))
    actions = [json.loads(line) for commit in log for line in commit.read_text().splitlines()]
    add = next(action["add"] for action in reversed(actions) if action.get("add", {}).get("path") == file)
    bitmap = struct.pack("<I", 1681511377) + BitMap64(rows).serialize()
    vector = {
        "storageType": "i",
        "pathOrInlineDv": _z85(bitmap),
        "sizeInBytes": len(bitmap),
        "cardinality": len(rows),
    }
    remove = {"path": file, "deletionTimestamp": 1, "dataChange": True, "partitionValues": add["partitionValues"]}
    commit(folder, {"commitInfo": {"timestamp": 1}}, {"remove": remove}, {"add": add | {"deletionVector": vector}})


def commit(folder: Path, *actions: dict[str, Any]) -> None:
    """Write the next version of a Delta table."""
    log = folder / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    number = len(list(log.glob("*.json")))
    (log / f"{number:020}.json").write_text("\n".join(json.dumps(action) for action in actions))


def delta_column(name: str, kind: Any, physical: str = "", number: int = 0) -> dict[str, Any]:
    """Return a column of a Delta schema.

    Args:
        physical: its name in the data files, for a table with column mapping.
    """
    mapped = {"delta.columnMapping.physicalName": physical, "delta.columnMapping.id": number} if physical else {}
    return {"name": name, "type": kind, "nullable": True, "metadata": mapped}


def make_delta(
    folder: Path,
    columns: Sequence[dict[str, Any]],
    files: Sequence[str],
    features: Sequence[str] = (),
    configuration: dict[str, str] | None = None,
) -> None:
    """Write the first version of a Delta table over Parquet files, as another engine writes it."""
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7} | {
        key: list(features) for key in ("readerFeatures", "writerFeatures")
    }
    metadata = {
        "id": "of-a-test",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": list(columns)}),
        "partitionColumns": [],
        "configuration": configuration or {},
        "createdTime": 1,
    }
    adds = [
        {"add": {"path": file, "partitionValues": {}, "size": (folder / file).stat().st_size, "modificationTime": 1,
                 "dataChange": True}}
        for file in files
    ]  # fmt: skip
    commit(folder, {"protocol": protocol}, {"metaData": metadata}, *adds)


_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def _z85(content: bytes) -> str:
    content += b"\0" * (-len(content) % 4)
    text = ""
    for (value,) in struct.iter_unpack(">I", content):
        text += "".join(_Z85[value // 85**power % 85] for power in range(4, -1, -1))
    return text
