"""Tables, files and folders that cannot be read as the spec says."""

from dataclasses import dataclass

from penstock.errors.base import TerminalError, nearest


class SourceError(TerminalError):
    """A source cannot be read as the spec declares it.

    Cause: one of the classes below.
    Remedy: correct the source or its part of the spec.
    """


@dataclass(eq=False)
class MissingTable(SourceError):
    """A table or view of a source does not exist.

    Cause: a wrong name, a wrong schema, or a connection to another database.
    Remedy: write the table in `table:` and `schema:` as the database spells it.
    """

    connection: str
    table: str
    known: tuple[str, ...]

    def message(self) -> str:
        return (
            f"connection `{self.connection}` has no table or view `{self.table}`.{nearest(self.table, self.known)} "
            "Write the table in the source's `table:` (and `schema:`) as the database spells it."
        )


@dataclass(eq=False)
class MissingColumns(SourceError):
    """A source or a query lacks columns that the spec names.

    Cause: a column was renamed or removed, or the spec has a typing error.
    Remedy: correct the spec or the source.
    """

    where: str
    columns: tuple[str, ...]
    known: tuple[str, ...]

    def message(self) -> str:
        names = ", ".join(f"`{c}`" for c in self.columns)
        return f"{self.where} lacks {names}.{nearest(self.columns[0], self.known)} Correct the spec or the source."


@dataclass(eq=False)
class AmbiguousColumns(SourceError):
    """A source has two columns of one name.

    Cause: a query such as `select u.*, t.*`, or names that differ only in upper and lower case.
    Remedy: select the columns by name, and give each a name of its own.
    """

    where: str
    columns: tuple[str, ...]

    def message(self) -> str:
        names = ", ".join(f"`{c}`" for c in self.columns)
        return (
            f"{self.where} has more than one column of a name: {names} (upper and lower case are the same). "
            "Select the columns in a `query:` by name, and give each a name of its own, as in `t.id as order_id`."
        )


@dataclass(eq=False)
class NoFiles(SourceError):
    """No file matches the path of a source.

    Cause: a wrong path or glob, another working folder, or a file that has not arrived.
    Remedy: check the path. Relative paths start at the folder where Penstock runs.
    """

    source: str
    path: str

    def message(self) -> str:
        relative = "" if "://" in self.path else " Relative paths start at the folder where penstock runs."
        return f"source `{self.source}`: no file matches `{self.path}`. Check the path and its glob.{relative}"


@dataclass(eq=False)
class OutsideRoots(SourceError):
    """A path leads out of the folders that may be read.

    Cause: the path, or a link in it, ends outside of `PENSTOCK_ROOTS`. Nothing was read.
    Remedy: correct the path, or add its folder to `PENSTOCK_ROOTS`.
    """

    source: str
    path: str
    leads_to: str
    roots: tuple[str, ...]

    def message(self) -> str:
        roots = ", ".join(f"`{root}`" for root in self.roots) or "no folder"
        return (
            f"source `{self.source}`: `{self.path}` leads to {self.leads_to}, outside of {roots}. "
            "Nothing was read. Correct the path, or add its folder to PENSTOCK_ROOTS."
        )


@dataclass(eq=False)
class BrokenFile(SourceError):
    """A file of a source cannot be read.

    Cause: the file is truncated, corrupt or of another format. No row of it was used.
    Remedy: replace the file, or move it out of the source's path, then run again.
    """

    source: str
    file: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.file} cannot be read: {self.reason}. "
            "No row of it was used. Replace the file, or move it out of the source's path, then run again."
        )


@dataclass(eq=False)
class BrokenArchive(BrokenFile):
    """A compressed file of a source cannot be unpacked.

    Cause: the archive is cut, corrupt, too large, or still being written. No row of it was used.
    Remedy: replace the file, or move it out of the source's path. A log source reads its other files meanwhile.
    """


@dataclass(eq=False)
class FilesChanged(SourceError):
    """Files of a source changed while a run read them.

    Cause: a file was renamed, replaced, extended or removed after the run was planned.
    Remedy: none at first: the flow reads the interval again once. Write files under another name, and rename them
        into the folder when they are complete.
    """

    source: str
    changes: tuple[str, ...]

    def message(self) -> str:
        shown = "; ".join(self.changes[:3])
        more = f"; and {len(self.changes) - 3} more" if len(self.changes) > 3 else ""
        return (
            f"source `{self.source}`: files changed after the run was planned: {shown}{more}. Rows of two states of "
            "the files cannot be combined, so nothing was published. Run again to read the interval from the start. "
            "Write files under another name, and rename them into the folder when they are complete."
        )


@dataclass(eq=False)
class FolderColumn(SourceError):
    """A column that folders named `key=value` give cannot be used.

    Cause: a file has a column of that name with another value, a path has the key twice, or the column is private.
    Remedy: correct the file or its folder, or rename one of the two.
    """

    source: str
    column: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: the column `{self.column}`, which folders named `key=value` give, {self.reason}."
        )


@dataclass(eq=False)
class MissingLakeTable(SourceError):
    """A Delta or Iceberg table does not exist.

    Cause: a wrong path or name, another working folder, or a catalog in another database.
    Remedy: write the folder that has `_delta_log` in `path:`, or the namespace and name that the catalog has in
        `table:`.
    """

    source: str
    place: str
    """Where the table was looked for."""
    known: tuple[str, ...] = ()
    """Tables of an Iceberg catalog, if the name may be a typing error."""
    table: str = ""

    def message(self) -> str:
        return (
            f"source `{self.source}`: there is no {self.place}.{nearest(self.table, self.known)} Relative paths start "
            "at the folder where penstock runs. `path:` of a Delta table is the folder that has `_delta_log`, and "
            "`table:` of an Iceberg table is namespace and name as its catalog has them."
        )


@dataclass(eq=False)
class UnreadableTable(SourceError):
    """A Delta or Iceberg table has something that cannot be read right.

    Cause: a feature of the format that the library does not read, such as Iceberg's equality deletes or Delta's type
        widening, or a damaged file. No row of the table was used.
    Remedy: rewrite the table without the feature with the engine that writes it (for example by compaction), or read it
        through an engine, as a `kind: sql` source.
    """

    source: str
    table: str
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.table} cannot be read: {self.reason}. No row of it was used. Rewrite the "
            "table without it, for example by compaction, or read it through an engine as a `kind: sql` source."
        )


@dataclass(eq=False)
class VersionGone(SourceError):
    """The version of a table that a run was planned with is gone.

    Cause: VACUUM, `expire_snapshots` or a clean-up of old metadata removed its files while the run read them.
    Remedy: none at first: the flow reads the interval again once, from the newest version. Keep old versions for longer
        than a run takes.
    """

    source: str
    version: str
    """The version, with its table."""
    reason: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: {self.version} is gone: {self.reason}. Rows of two versions cannot be combined, "
            "so nothing was published. Run again to read the newest version from the start. Keep old versions for "
            "longer than a run takes, when you VACUUM a Delta table or expire snapshots of an Iceberg table."
        )


@dataclass(eq=False)
class SourceChanged(SourceError):
    """Rows of a source changed while a run read them in several partitions.

    Cause: a database whose connections cannot share a snapshot (MariaDB, MySQL): its partitions read different moments,
        and the fingerprint after the last one differs from the one before the first.
    Remedy: none at first: the flow reads the interval again once. Let the interval end before it is read (`delay:`),
        raise `partition_rows` until one partition reads it, or read from a replica that stands still.
    """

    source: str
    connection: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: rows of `{self.connection}` changed while the run read them in several "
            "partitions, and its connections cannot share a snapshot. Nothing was published. Run again to read the "
            "interval from the start. If it happens again, read it later (`delay:`), raise `partition_rows` until one "
            "partition reads the interval, or read from a replica that stands still."
        )


@dataclass(eq=False)
class GroupFailed(SourceError):
    """The lines of a log cannot be grouped.

    Cause: an expression in `group.columns` names a column that the lines do not have, or does not fit its type.
    Remedy: correct the expression.
    """

    source: str
    reason: str

    def message(self) -> str:
        return f"source `{self.source}`: its lines cannot be grouped: {self.reason}. Correct `group` in the spec."


@dataclass(eq=False)
class LinesPruned(SourceError):
    """Landed log lines that the interval needs have been pruned.

    Cause: the interval is older than `retention.log_lines`.
    Remedy: keep the published scores, or score a later range. Raise `log_lines` to keep lines longer.
    """

    source: str
    begin: str
    pruned_before: str

    def message(self) -> str:
        return (
            f"source `{self.source}`: the interval needs lines from {self.begin} on, but lines before "
            f"{self.pruned_before} have been pruned. Keep the scores that the history table has for it, or start "
            "later. Raise `log_lines` in `retention:` to keep lines longer."
        )


@dataclass(eq=False)
class QueryFailed(SourceError):
    """A database refused a statement.

    Cause: a mistake in a query of the spec, or a table that has changed.
    Remedy: follow the message: correct the query or the table, or look at the ledger with `penstock doctor`.
    """

    connection: str
    reason: str
    remedy: str = "Correct the query or the table."

    def message(self) -> str:
        return f"connection `{self.connection}` refused a statement: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class FilesFailed(QueryFailed):
    """The rows of a source's files cannot be read.

    Cause: the files changed, or are of another kind than the spec says.
    Remedy: correct the files, or the source in the spec.
    """

    remedy: str = "Correct the files, or what the spec says of them."

    def message(self) -> str:
        return f"source `{self.connection}`: its files cannot be read: {self.reason}. {self.remedy}"
