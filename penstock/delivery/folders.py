"""Where a target of files is: a local folder, or a folder of an object store."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from penstock.durable_files import lock_file, replace_durably, sync_folder
from penstock.errors import ObjectChanged, ObjectNotFound, StoreRefused
from penstock.object_stores import (
    ENVIRONMENT,
    StoreAccess,
    delete,
    is_remote,
    list_files,
    read_whole,
    upload,
    write_bytes,
)

MOST_POINTER_BYTES = 1 << 20
_TRIES = 5
"""How often a pointer is read again that another process has just moved."""
_LOCK = ".lock"

Decide = Callable[[bytes | None], bytes | None]
"""Returns the new content of a pointer from the present one. None: it stays."""


@dataclass(frozen=True)
class FoundFile:
    """A file below the folder of a target."""

    key: str
    """Its path below the folder."""
    written_at: datetime


class Folder(ABC):
    """A folder, with files by their path below it."""

    @abstractmethod
    def check(self) -> None:
        """Look whether files can be written. Nothing is written.

        Raises:
            OSError, StoreRefused, StoreUnavailable: they cannot.
        """

    @abstractmethod
    def writing(self, key: str) -> AbstractContextManager[Path]:
        """Give a file to write to, and put it in its place whole. If the block raises, nothing is there."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Return the content of a small file. None: there is none."""

    @abstractmethod
    def change(self, key: str, decide: Decide) -> None:
        """Replace a small file at once, by what it has. No other process comes between the two."""

    @abstractmethod
    def list(self) -> Iterator[FoundFile]:
        """Yield all files below the folder."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove a file. One that is not there is no error."""


@dataclass(frozen=True)
class LocalFolder(Folder):
    """A folder of this machine."""

    root: Path

    def check(self) -> None:
        there = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        if not there.is_dir():
            raise NotADirectoryError(20, os.strerror(20), str(there))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13), str(there))

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        path = self._place(key)
        draft = path.with_name(f".{path.name}-{uuid4().hex}")
        try:
            yield draft
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)

    def read(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.is_file() else None

    def change(self, key: str, decide: Decide) -> None:
        path = self._place(key)
        with lock_file(path.parent / _LOCK):
            content = decide(self.read(key))
            if content is not None:
                replace_durably(path, content)

    def list(self) -> Iterator[FoundFile]:
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield FoundFile(path.relative_to(self.root).as_posix(), written)

    def remove(self, key: str) -> None:
        path = self.root / key
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root:
                return
            try:
                folder.rmdir()
            except OSError:  # it has other files
                return

    def _place(self, key: str) -> Path:
        """Make the folders of a file, and wait until they are on disk."""
        path = self.root / key
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)
        return path


@dataclass(frozen=True)
class RemoteFolder(Folder):
    """A folder of an object store."""

    root: str
    access: StoreAccess = ENVIRONMENT

    def check(self) -> None:
        list_files(f"{self.root}/*", self.access)

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="penstock-") as folder:
            path = Path(folder) / "file"
            yield path
            upload(self._url(key), path, self.access)

    def read(self, key: str) -> bytes | None:
        return self._read(key)[0]

    def change(self, key: str, decide: Decide) -> None:
        for attempt in range(_TRIES):
            present, etag = self._read(key)
            content = decide(present)
            if content is None:
                return
            try:
                absent = present is None
                write_bytes(self._url(key), content, if_absent=absent, if_match=etag or None, access=self.access)
            except ObjectChanged:
                if attempt == _TRIES - 1:
                    raise
            else:
                return

    def list(self) -> Iterator[FoundFile]:
        for state in list_files(f"{self.root}/**/*", self.access):
            written = datetime.fromtimestamp(state.written_ns / 1e9, UTC)
            yield FoundFile(state.path.removeprefix(f"{self.root}/"), written)

    def remove(self, key: str) -> None:
        delete(self._url(key), self.access)

    def _read(self, key: str) -> tuple[bytes | None, str]:
        """Return the content of an object and its ETag, by which a write finds out whether it was replaced."""
        try:
            content, state = read_whole(self._url(key), MOST_POINTER_BYTES, self.access)
        except ObjectNotFound:
            return None, ""
        if not state.digest:
            raise StoreRefused(self._url(key), "the store gives no ETag", "Use a store that has conditional writes.")
        return content, state.digest

    def _url(self, key: str) -> str:
        return f"{self.root}/{key}"


def open_folder(root: str, access: StoreAccess) -> Folder:
    """Return a folder by its path or URL."""
    return RemoteFolder(root, access) if is_remote(root) else LocalFolder(Path(root).absolute())
