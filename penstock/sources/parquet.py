"""Read Parquet files with DuckDB: number their rows, and convert columns whose declared type is another one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.types import MAX_DIGITS
from penstock.errors import InexactColumn
from penstock.run_types import Partition
from penstock.sources.column_types import NUMBER, ColumnType, declared_types, family, quoted
from penstock.spec.pipeline import FilesSource

POSITION = "_position"
"""The position of a row among the rows of all files, in the order of the files' names."""
_PARQUET = "read_parquet({files}, union_by_name=true, filename='_file')"


@dataclass(frozen=True)
class ParquetFiles:
    """How Parquet files are read."""

    numbered: str
    """SQL of the rows with their files, their numbers and their positions."""
    conversions: Mapping[str, ColumnType]


def read_parquet_files(
    connection: sa.Connection,
    source: FilesSource,
    files: Sequence[str],
    exact: Collection[str],
    partition: Partition | None,
) -> ParquetFiles:
    """Decide how Parquet files are read.

    Args:
        exact: columns that must not lose a digit.
        partition: the only one that will be read.

    Raises:
        InexactColumn: a file has a decimal of more than 38 digits, which DuckDB would round.
    """
    listed = "[" + ", ".join(quoted(f) for f in files) + "]"
    reader = _PARQUET.format(files=listed)
    conversions = _find_conversions(connection, reader, declared_types(source.declared_columns))
    _refuse_wide_decimals(connection, listed, {*exact} - {*conversions})
    if _has_column(connection, listed, "file_row_number"):
        return ParquetFiles(_number_by_reading(reader), conversions)
    return ParquetFiles(_number_by_footer(connection, reader, listed, partition), conversions)


def _find_conversions(
    connection: sa.Connection, reader: str, declared: Mapping[str, ColumnType]
) -> dict[str, ColumnType]:
    """Return the declared columns whose type in the files is another one."""
    if not declared:
        return {}
    found = {str(row[0]): str(row[1]) for row in connection.exec_driver_sql(f"describe from {reader}").all()}
    return {c: kind for c, kind in declared.items() if c in found and _differs(kind, found[c])}


def _refuse_wide_decimals(connection: sa.Connection, files: str, exact: Collection[str]) -> None:
    wide = f"select distinct name from parquet_schema({files}) where precision > {MAX_DIGITS} order by name"  # noqa: S608 # paths, quoted
    for name in connection.exec_driver_sql(wide).scalars():
        if name in exact:
            raise InexactColumn(name, f"is a decimal of more than {MAX_DIGITS} digits, which DuckDB rounds")


def _differs(declared: ColumnType, stored: str) -> bool:
    wanted = {"int": NUMBER, "float": NUMBER, "date": "time", "timestamp": "time"}.get(declared.kind, declared.kind)
    return family(stored) != wanted


def _number_by_reading(reader: str) -> str:
    positions = f"select *, row_number() over () as {POSITION} from {reader}"  # noqa: S608 # paths, quoted
    number = f"{POSITION} - min({POSITION}) over (partition by _file)"
    return f"select *, {number} as _row_of_file from ({positions})"  # noqa: S608 # paths, quoted


def _number_by_footer(connection: sa.Connection, reader: str, files: str, partition: Partition | None) -> str:
    """Number the rows with the row counts in the footers, so that a slice is read without the rows before it."""
    footers = f"select file_name, num_rows from parquet_file_metadata({files}) order by file_name"  # noqa: S608 # paths, quoted
    firsts, first = {}, 1
    for file, rows in connection.exec_driver_sql(footers).all():
        firsts[str(file)] = range(first, first + rows)
        first += rows
    values = ", ".join(f"({quoted(file)}, {positions.start})" for file, positions in firsts.items())
    connection.exec_driver_sql(
        f"create table source_files as select * from (values {values}) as t(_file, _first_of_file)"  # noqa: S608 # paths, quoted
    )
    slice_ = _footer_slice(firsts, partition) if partition else ""
    numbered = reader.removesuffix(")") + ", file_row_number=true)"
    return (
        f"select * exclude (_first_of_file, file_row_number), _first_of_file + file_row_number as {POSITION}, "  # noqa: S608 # paths, quoted
        f"file_row_number as _row_of_file from (select * from {numbered}{slice_}) join source_files using (_file)"
    )


def _has_column(connection: sa.Connection, files: str, name: str) -> bool:
    """Whether a Parquet file has a column with the name of DuckDB's own row number column."""
    asked = f"select count(*) from parquet_schema({files}) where name ilike '{name}'"  # noqa: S608 # paths, quoted
    return bool(connection.exec_driver_sql(asked).scalar())


def _footer_slice(files: Mapping[str, range], partition: Partition) -> str:
    """Return the SQL filter for the files of a partition, and for the rows if it is one file."""
    everything = sum(map(len, files.values())) + 1
    low, high = (
        bound if isinstance(bound, int) else default
        for bound, default in ((partition.lower, 1), (partition.upper, everything))
    )
    touched = {file: rows for file, rows in files.items() if rows.start < high and rows.stop > low}
    if len(touched) != 1:
        return f" where _file in ({', '.join(map(quoted, touched))})" if touched else ""
    [(file, rows)] = touched.items()
    return f" where _file = {quoted(file)} and file_row_number between {low - rows.start} and {high - 1 - rows.start}"
