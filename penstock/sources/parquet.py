"""Read Parquet files with DuckDB: number their rows, and convert columns whose declared type is another one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from penstock.database.types import MAX_DIGITS
from penstock.errors import FolderColumn, InexactColumn
from penstock.run_types import Partition
from penstock.sources.column_types import NUMBER, ColumnType, declared_types, family, identifier, quoted
from penstock.sources.folder_columns import FolderColumns, folder_kind
from penstock.spec.sources import FilesSource

POSITION = "_position"
"""The position of a row among the rows of all files, in the order of the files' names."""
_PARQUET = "read_parquet({files}, union_by_name=true, hive_partitioning=false, filename='_file')"


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
    folders: FolderColumns,
    partition: Partition | None,
) -> ParquetFiles:
    """Decide how Parquet files are read.

    Args:
        exact: columns that must not lose a digit.
        folders: the columns that the files' folders give.
        partition: the only one that will be read.

    Raises:
        InexactColumn: a file has a decimal of more than 38 digits, which DuckDB would round.
        FolderColumn: a file has another value than its folder.
    """
    listed = "[" + ", ".join(quoted(f) for f in files) + "]"
    reader = _PARQUET.format(files=listed)
    declared = declared_types(source.declared_columns)
    by_file = _Folders(files, folders, declared)
    if _has_column(connection, listed, "file_row_number"):
        numbered = _number_by_reading(connection, reader, by_file)
    else:
        numbered = _number_by_footer(connection, reader, listed, partition, by_file)
    if folders.values:
        numbered = _add_folders(connection, numbered, by_file, is_checked=partition is None)
    conversions = find_conversions(connection, f"({numbered})", declared)
    _refuse_wide_decimals(connection, listed, {*exact} - {*conversions})
    return ParquetFiles(numbered, conversions)


@dataclass(frozen=True)
class _Folders:
    """The values that folders give, by file."""

    files: Sequence[str]
    columns: FolderColumns
    declared: Mapping[str, ColumnType]

    @property
    def names(self) -> dict[str, str]:
        """By column: the name that its values have in the table of files."""
        return {column: f"_folder_{number}" for number, column in enumerate(self.columns.values)}

    def kind(self, column: str) -> str:
        """Return the SQL type of a column that no file has."""
        stored = {"int": "BIGINT", "date": "DATE"}
        kind = folder_kind(self.columns.values[column], column)
        return "VARCHAR" if column in self.declared else stored.get(kind.kind, "VARCHAR")

    def write_values(self, file: str) -> str:
        """Return the SQL columns with the values of one file's folders."""
        number = list(self.files).index(file)
        values = ((name, self.columns.values[column][number]) for column, name in self.names.items())
        return "".join(f", cast({'null' if v is None else quoted(v)} as VARCHAR) as {name}" for name, v in values)

    def make_table(self, connection: sa.Connection, firsts: Mapping[str, int]) -> None:
        """Make the table of files, with their values.

        Args:
            firsts: by file, the position of its first row.
        """
        typed = "".join(f", {name} VARCHAR" for name in self.names.values())
        by_file = zip(self.files, *self.columns.values.values(), strict=True)
        listed = [(file, ", ".join(["null" if v is None else quoted(v) for v in values])) for file, *values in by_file]
        rows = ", ".join(
            f"({quoted(file)}, {firsts.get(file, 0)}{f', {values}' if values else ''})" for file, values in listed
        )
        connection.exec_driver_sql(f"create temp table source_files (_file VARCHAR, _first_of_file BIGINT{typed})")
        connection.exec_driver_sql(f"insert into source_files values {rows}")  # noqa: S608 # texts, quoted


def _add_folders(connection: sa.Connection, numbered: str, folders: _Folders, *, is_checked: bool) -> str:
    """Give the values of folders their columns. A column that files have too must have the same values, and stays.

    Raises:
        FolderColumn: a file has another value than its folder.
    """
    names = folders.names
    own = {str(row[0]).casefold(): (str(row[0]), row[1]) for row in connection.exec_driver_sql(f"describe {numbered}")}
    added, replaced = [], []
    for column, name in names.items():
        if column.casefold() not in own:
            added.append(f", cast({name} as {folders.kind(column)}) as {identifier(column)}")
            continue
        written, kind = own[column.casefold()]
        value, given = identifier(written), f"try_cast({name} as {kind})"
        if is_checked:
            differs = f"{value} is not null and {value} is distinct from {given}"
            _refuse_differing(connection, written, f"({numbered}) where {differs}")
        replaced.append(f"coalesce({value}, {given}) as {value}")  # a file without the column has its folder's value
    changed = f" replace ({', '.join(replaced)})" if replaced else ""
    return f"select * exclude ({', '.join(names.values())}){changed}{''.join(added)} from ({numbered})"  # noqa: S608 # names, quoted


def _refuse_differing(connection: sa.Connection, column: str, differing: str) -> None:
    first = f"select _file, _row_of_file from {differing} order by {POSITION} limit 1"  # noqa: S608 # names, quoted
    if (row := connection.exec_driver_sql(first).first()) is not None:
        reason = f"is in the files too, and row {int(row[1]) + 1:,} of {row[0]} has another value than its folder"
        raise FolderColumn("", column, f"{reason}. Correct the file or the folder")


def find_conversions(
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


def _number_by_reading(connection: sa.Connection, reader: str, folders: _Folders) -> str:
    positions = f"select *, row_number() over () as {POSITION} from {reader}"  # noqa: S608 # paths, quoted
    number = f"{POSITION} - min({POSITION}) over (partition by _file)"
    numbered = f"select *, {number} as _row_of_file from ({positions})"  # noqa: S608 # paths, quoted
    if not folders.names:
        return numbered
    folders.make_table(connection, {})
    return f"select * exclude (_first_of_file) from ({numbered}) join source_files using (_file) order by {POSITION}"  # noqa: S608 # paths, quoted


def _number_by_footer(
    connection: sa.Connection, reader: str, files: str, partition: Partition | None, folders: _Folders
) -> str:
    """Number the rows with the row counts in the footers, so that a slice is read without the rows before it."""
    footers = f"select file_name, num_rows from parquet_file_metadata({files}) order by file_name"  # noqa: S608 # paths, quoted
    firsts, first = {}, 1
    for file, rows in connection.exec_driver_sql(footers).all():
        firsts[str(file)] = range(first, first + rows)
        first += rows
    touched, slice_ = _footer_slice(firsts, partition) if partition else (firsts, "")
    rows_read = f"(select * from {reader.removesuffix(')')}, file_row_number=true){slice_})"  # noqa: S608 # paths, quoted
    if len(touched) == 1:  # a join would compare the file's name for each row
        [(file, positions)] = touched.items()
        first_of_file, extra = str(positions.start), folders.write_values(file)
    else:
        folders.make_table(connection, {file: positions.start for file, positions in firsts.items()})
        rows_read, first_of_file, extra = f"{rows_read} join source_files using (_file)", "_first_of_file", ""
    excluded = "file_row_number" if len(touched) == 1 else "_first_of_file, file_row_number"
    return (
        f"select * exclude ({excluded}){extra}, {first_of_file} + file_row_number as {POSITION}, "  # noqa: S608 # paths, quoted
        f"file_row_number as _row_of_file from {rows_read}"
    )


def _has_column(connection: sa.Connection, files: str, name: str) -> bool:
    """Whether a Parquet file has a column with the name of DuckDB's own row number column."""
    asked = f"select count(*) from parquet_schema({files}) where name ilike '{name}'"  # noqa: S608 # paths, quoted
    return bool(connection.exec_driver_sql(asked).scalar())


def _footer_slice(files: Mapping[str, range], partition: Partition) -> tuple[dict[str, range], str]:
    """Return the files of a partition, and the SQL filter for them, and for the rows if it is one file."""
    everything = sum(map(len, files.values())) + 1
    low, high = (
        bound if isinstance(bound, int) else default
        for bound, default in ((partition.lower, 1), (partition.upper, everything))
    )
    touched = {file: rows for file, rows in files.items() if rows.start < high and rows.stop > low}
    if len(touched) != 1:
        return touched, f" where _file in ({', '.join(map(quoted, touched))})" if touched else ""
    [(file, rows)] = touched.items()
    own = f"file_row_number between {low - rows.start} and {high - 1 - rows.start}"
    return touched, f" where _file = {quoted(file)} and {own}"
