"""Stage the rows of a table in a lake as Parquet: once a run, for all of its partitions.

The rows are sorted by the key, then by all columns. So each try gives every row the same position, whatever order the
library reads the files in, and on another machine too.
"""

import json
import shutil
import uuid
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from penstock.errors import AmbiguousColumns
from penstock.interval import DataInterval
from penstock.run_types import TableVersion
from penstock.sources.column_types import identifier, quoted
from penstock.sources.lake.table import LakeTable, time_range, translated
from penstock.sources.parquet import POSITION
from penstock.spec.parts import twin_names

if TYPE_CHECKING:
    import duckdb

_VERSION = 1
"""Goes up when the same rows are staged in another way."""
_GROUP_ROWS = 20_480
_PLACE = ("_file", "_row_of_file", POSITION)
_SPILL = "spill"


@dataclass(frozen=True)
class StagingRequest:
    """What to stage: everything that the staged rows depend on."""

    source: str
    version: TableVersion
    key: tuple[str, ...]
    time: str | None
    """The event time column."""
    interval: DataInterval | None

    @property
    def digest(self) -> str:
        interval = self.interval.key if self.interval and self.time else None
        facts = [_VERSION, asdict(self.version), self.key, self.time, interval]
        return sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()[:32]

    def target(self, folder: Path) -> Path:
        """Return the file of the staged rows."""
        return folder / f"{self.source}-{self.digest}.parquet"


def stage_table(request: StagingRequest, table: LakeTable, folder: Path, limit: int | None = None) -> Path:
    """Return the Parquet file with the staged rows. It is made if the folder lacks it.

    Args:
        folder: that of the run. It is made if it does not exist.
        limit: stage any so many rows. For a folder that is not that of a run.

    Raises:
        VersionGone: a file of the version does not exist any more.
        UnreadableTable: the rows cannot be read.
        AmbiguousColumns: two columns have one name.
    """
    target = request.target(folder)
    if target.exists():
        return target
    if twins := twin_names([*table.schema.names, *_PLACE]):
        raise AmbiguousColumns(f"source `{request.source}`", twins)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = folder / f".{request.source}-{uuid.uuid4().hex}"
    part.mkdir(mode=0o700)
    try:
        _write(request, table, part, limit)
        (part / target.name).replace(target)  # at once, whether or not another process has staged the same
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _write(request: StagingRequest, table: LakeTable, part: Path, limit: int | None) -> None:
    import duckdb  # not above: a flow run begins without it

    errors: tuple[type[Exception], ...] = (duckdb.Error, *table.errors)
    with translated(request.source, request.version, request.version.table, errors), duckdb.connect() as connection:
        _copy_rows(connection, request, table, part, limit)


def _copy_rows(
    connection: "duckdb.DuckDBPyConnection", request: StagingRequest, table: LakeTable, part: Path, limit: int | None
) -> None:
    wanted = time_range(table.schema, request.time, request.interval)
    rows = table.scan(wanted) if limit is None else _first_rows(table.scan(wanted), limit)
    names = table.schema.names
    along = [name for name in (*request.key, *names) if name in names]
    order = ", ".join(f"{identifier(name)} nulls last" for name in dict.fromkeys(along))
    place = f"{quoted(request.version.text)} as _file, row_number() over () - 1 as _row_of_file"
    ordered = f"select * from lake_rows order by {order}"  # noqa: S608 # names, quoted
    numbered = f"select *, {place}, row_number() over () as {POSITION} from ({ordered})"  # noqa: S608 # names, quoted
    connection.execute("SET TimeZone='UTC'")
    connection.execute(f"SET temp_directory={quoted(str(part / _SPILL))}")
    connection.register("lake_rows", rows)
    file = quoted(str(part / request.target(part).name))
    connection.execute(f"copy ({numbered}) to {file} (format parquet, row_group_size {_GROUP_ROWS})")


def _first_rows(rows: pa.RecordBatchReader, limit: int) -> pa.Table:
    batches, left = [], limit
    while left > 0:
        try:
            batch = rows.read_next_batch()
        except StopIteration:
            break
        batches.append(batch.slice(0, left))
        left -= batches[-1].num_rows
    return pa.Table.from_batches(batches, rows.schema)
