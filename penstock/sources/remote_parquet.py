"""Let DuckDB read Parquet objects: a file system of the planned objects, each in the state that it was planned with.

DuckDB reads the footers and then the column chunks that a query needs. Each range is one request. DuckDB reports an
error of the file system as its own, so the file system keeps the error and the block raises it.
"""

import io
import threading
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
"""Bytes that a read fetches at least: many footers, and the neighbours of a small column."""
_TRAILER_BYTES = 8
"""After the footer: its length and the name of the format."""
_MOST_END_BYTES = 32 << 20
_Ends = dict[str, bytes]
"""The last bytes of each object, with its footer."""


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

    ends: _Ends = {}

    class PlannedObjects(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
        protocol = SCHEMES
        cachable = False

        @classmethod
        def _strip_protocol(cls, path: Any) -> Any:
            return path  # a name is the whole URL

        def unstrip_protocol(self, name: str) -> str:
            return name

        def open(self, path: str, mode: str = "rb", **_: object) -> "_OpenObject":
            return _OpenObject(objects[path], access, ends, errors)

        def glob(self, path: str, **_: object) -> list[str]:
            return [path] if path in objects else []

        def exists(self, path: str, **_: object) -> bool:
            return path in objects

        def info(self, path: str, **_: object) -> dict[str, object]:
            return {"name": path, "size": objects[path].size, "type": "file"}

        def modified(self, path: str) -> datetime:
            return datetime.fromtimestamp(objects[path].written_ns / 1e9, UTC)

    return PlannedObjects()


class _OpenObject:
    """An open object. Its end is fetched once, because DuckDB reads the footer anew each time that it opens a file.

    Threads of DuckDB share an open file: each goes to a place and reads there, and another may come in between. So each
    thread has a place of its own.
    """

    def __init__(self, state: FileState, access: StoreAccess, ends: _Ends, errors: list[PenstockError]) -> None:
        self._state, self._access, self._ends, self._errors = state, access, ends, errors
        self._files: dict[int, BinaryIO] = {}

    @property
    def _file(self) -> BinaryIO:
        """The file of this thread."""
        thread = threading.get_ident()
        if thread not in self._files:
            self._files[thread] = open_file(self._state, self._access, _BLOCK_BYTES)
        return self._files[thread]

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        for file in list(self._files.values()):
            file.close()

    def read(self, size: int = -1) -> bytes:
        """Read as a file does, and keep the error that it raises."""
        file = self._file
        try:
            start = file.tell()
            stop = self._state.size if size < 0 else min(start + size, self._state.size)
            if stop < self._state.size - _TRAILER_BYTES:
                return file.read(size)
            part = self._read_end(file, start)[: stop - start]
            file.seek(stop)
            return part
        except PenstockError as error:
            self._errors.append(error)
            raise

    def _read_end(self, file: BinaryIO, start: int) -> bytes:
        """Return the bytes from a place to the end."""
        kept = self._ends.get(self._state.path, b"")
        if len(kept) < self._state.size - start:
            file.seek(min(start, max(0, self._state.size - _BLOCK_BYTES)))
            kept = file.read()
            if sum(map(len, list(self._ends.values()))) < _MOST_END_BYTES:
                self._ends[self._state.path] = kept
        return kept[len(kept) - (self._state.size - start) :]
