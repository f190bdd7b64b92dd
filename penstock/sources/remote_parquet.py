"""Let DuckDB read Parquet objects: a file system of the planned objects, each in the state that it was planned with.

DuckDB reads the footers and then the column chunks that a query needs. Each range is one request. DuckDB reports an
error of the file system as its own, so the file system keeps the error and the block raises it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from penstock.database.connections import Database
from penstock.errors import PenstockError
from penstock.object_stores import StoreAccess, is_remote, open_file
from penstock.object_urls import SCHEMES
from penstock.run_types import FileState

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_BLOCK_BYTES = 64 << 10
"""Bytes that a read fetches at least: most footers, and the neighbours of a small column."""


@contextmanager
def planned_objects(database: Database, files: Sequence[FileState], access: StoreAccess) -> Iterator[None]:
    """Let a DuckDB read the objects among a run's files, and nothing else of their stores.

    Raises:
        ObjectChanged: an object was replaced. Raised by reading it, as the next ones.
        ObjectNotFound: an object was removed.
        StoreUnavailable: the store does not answer.
    """
    objects = {state.path: state for state in files if is_remote(state.path)}
    if not objects:
        yield
        return
    errors: list[PenstockError] = []
    with database.engine.connect() as connection:
        duckdb: Any = connection.connection.driver_connection
        duckdb.register_filesystem(_file_system(objects, access, errors))
    try:
        yield
    except PenstockError:
        if errors:
            raise errors[0] from None
        raise


def _file_system(
    objects: dict[str, FileState], access: StoreAccess, errors: list[PenstockError]
) -> "AbstractFileSystem":
    """Make the file system. fsspec is imported here, because most runs read no object."""
    from fsspec import AbstractFileSystem

    class PlannedObjects(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
        protocol = SCHEMES
        cachable = False

        @classmethod
        def _strip_protocol(cls, path: Any) -> Any:
            return path  # a name is the whole URL

        def unstrip_protocol(self, name: str) -> str:
            return name

        def open(self, path: str, mode: str = "rb", **_: object) -> "_Watched":
            return _Watched(open_file(objects[path], access, _BLOCK_BYTES), errors)

        def glob(self, path: str, **_: object) -> list[str]:
            return [path] if path in objects else []

        def exists(self, path: str, **_: object) -> bool:
            return path in objects

        def info(self, path: str, **_: object) -> dict[str, object]:
            return {"name": path, "size": objects[path].size, "type": "file"}

        def modified(self, path: str) -> datetime:
            return datetime.fromtimestamp(objects[path].written_ns / 1e9, UTC)

    return PlannedObjects()


class _Watched:
    """An open object that keeps the error that reading it raised."""

    def __init__(self, file: BinaryIO, errors: list[PenstockError]) -> None:
        self._file, self._errors = file, errors

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except PenstockError as error:
            self._errors.append(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
