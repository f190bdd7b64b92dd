"""Check that a source exists, with the columns that the spec names, without reading rows."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.database.connections import Connector
    from penstock.interval import DataInterval
    from penstock.spec.pipeline import Pipeline
    from penstock.spec.sources import FilesSource


def inspect_source(pipeline: "Pipeline", name: str, interval: "DataInterval | None", connect: "Connector") -> str:
    """Find a source's table, query or files. Return a description of what was found.

    Raises:
        SourceError: something is missing; the error names it.
    """
    from penstock.errors import NoFiles
    from penstock.run.extract import source_horizon
    from penstock.sources import open_lake
    from penstock.sources.file_paths import matching_files, may_lack_documents, store_access
    from penstock.sources.folder_columns import folder_columns
    from penstock.sources.sql import sql_relation
    from penstock.spec.sources import DeltaSource, IcebergSource, LogSource, SqlSource

    source = pipeline.sources[name]
    if isinstance(source, SqlSource):
        time = pipeline.interval.column if name == pipeline.primary and pipeline.interval else None
        partition_by = pipeline.partition_by if name == pipeline.primary else None
        relation = sql_relation(name, source, connect(source.connection), time, interval, partition_by)
        relation.check_columns()
        if name == pipeline.primary:
            source_horizon(pipeline, connect)
        where = f"table `{source.table}`" if source.table else "query"
        return f"{where} of `{source.connection}`, {plural(len(relation.rows.c), 'column')}"
    if isinstance(source, DeltaSource | IcebergSource):
        version = open_lake(pipeline, name, source, connect).read_version()
        return f"{'Delta' if version.kind == 'delta' else 'Iceberg'} table, {version.text}"
    if isinstance(source, LogSource):
        return _inspect_log(pipeline, name, source.path, connect)
    if "{" in source.path and pipeline.empty == "publish":
        return f"files by interval, {source.path}"  # an interval without a file is allowed
    access = store_access(source, connect)
    try:
        found = matching_files(name, source, interval, connect.allowed_roots, zone=pipeline.timezone, access=access)
    except NoFiles:
        if name == pipeline.primary or not may_lack_documents(source):
            raise
        found = []
    matched = f"{plural(len(found), 'file matches', 'files match')} {source.path}"
    if source.is_documents:
        return f"{matched}; {_describe_time(source)}"
    paths = [str(file) if isinstance(file, Path) else file.path for file in found]
    return matched + _describe_folders(source, folder_columns(name, paths, pipeline.private_columns).values)


def _describe_folders(source: "FilesSource", given: "Mapping[str, Sequence[str | None]]") -> str:
    """Say which columns the folders of files give, with their types."""
    from penstock.sources.folder_columns import folder_kind

    declared = {column: each.type for column, each in source.declared_columns.items()}
    kinds = [f"`{c}` ({declared.get(c) or folder_kind(values, c).kind})" for c, values in given.items()]
    return f"; their folders give {', '.join(kinds)}" if kinds else ""


def _describe_time(source: "FilesSource") -> str:
    """Say where the time of documents comes from, because a copied file has the time of the copy."""
    if source.documents.time is not None:
        return "`time` is what `documents: {time: …}` finds in the path"
    if source.is_named_by_interval:
        return "`time` is the start of the interval in the path"
    return "`time` is that of the file, which is the time of the copy if it was copied"


def _inspect_log(pipeline: "Pipeline", name: str, path: str, connect: "Connector") -> str:
    """Find the files of a log. After lines were landed, the path may match nothing."""
    import sqlalchemy as sa

    from penstock.errors import NoFiles
    from penstock.ledger.migrations import has_ledger
    from penstock.ledger.tables import log_files
    from penstock.sources.logs.files import find_files
    from penstock.sources.logs.set_aside import is_read, list_set_aside

    database = connect(pipeline.destination.connection)
    with suppress(NoFiles):
        files = find_files(name, path, connect.allowed_roots)
        found = f"{plural(len(files), 'file matches', 'files match')} {path}"
        aside = list_set_aside(database, pipeline.name, name) if has_ledger(database) else ()
        named = "; ".join(f"{file.path} ({file.reason})" for file in aside[:3])
        return f"{found}; the last run set {len(aside)} aside: {named}" if aside else found
    if not has_ledger(database):
        raise NoFiles(name, path)
    landed = sa.select(log_files.c.file_id).where(
        log_files.c.pipeline == pipeline.name, log_files.c.source == name, is_read()
    )
    with database.reading() as connection:
        if connection.execute(landed.limit(1)).first() is None:
            raise NoFiles(name, path)
    return f"no file matches {path} now; earlier landed lines are read"
