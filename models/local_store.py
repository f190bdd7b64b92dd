"""A model store in a folder: versions are renamed into place, aliases change under a lock, links are refused."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from penstock.durable_files import lock_file, replace_durably, sync_folder, write_durably
from penstock.models.manifest import MANIFEST_FILE
from penstock.models.store_files import read_inside, refuse_links

_INCOMING = ".incoming-"


@dataclass(frozen=True)
class LocalStore:
    """A folder."""

    location: str
    is_listable = True

    @property
    def _folder(self) -> Path:
        return Path(self.location)

    def check_writable(self) -> None:
        """Every folder will do."""

    def versions(self, model: str | None = None) -> Iterator[tuple[str, str]]:
        for name in [model] if model else [path.name for path in _entries(self._folder)]:
            for number in self.numbers(name):
                path = self._folder / name / number
                if not path.is_symlink() and (path / MANIFEST_FILE).is_file():
                    yield name, number

    def numbers(self, model: str) -> Iterator[str]:
        folder = self._folder / model
        if not folder.is_symlink():
            yield from (path.name for path in _entries(folder))

    def unfinished(self) -> Iterator[str]:
        for folder in _entries(self._folder):
            yield from (str(path) for path in _entries(folder) if path.name.startswith(_INCOMING))

    def read(self, model: str, path: str, limit: int) -> bytes:
        name, *parts = path.split("/")
        if (self._folder / name).is_symlink():
            raise FileNotFoundError(path)
        for count in range(1, len(parts)):
            refuse_links(model, self._folder.joinpath(name, *parts[:count]))
        return read_inside(model, self._folder / path, limit)

    @contextmanager
    def draft(self, model: str, file: str, content: bytes) -> Iterator["_DraftFolder"]:
        """Build the version in a hidden folder."""
        folder = self._folder / model
        refuse_links(model, folder)
        folder.mkdir(parents=True, exist_ok=True)
        incoming = folder / f"{_INCOMING}{uuid4().hex}"
        incoming.mkdir()
        try:
            write_durably(incoming / file, content)
            yield _DraftFolder(incoming)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def update(self, model: str, path: str, limit: int, change: Callable[[bytes | None], bytes | None]) -> None:
        lock = self._folder / model / ".lock"
        refuse_links(model, lock)
        with lock_file(lock):
            try:
                present = self.read(model, path, limit)
            except FileNotFoundError:
                present = None
            changed = change(present)
            if changed is not None:
                replace_durably(self._folder / path, changed)


@dataclass(frozen=True)
class _DraftFolder:
    incoming: Path

    def publish(self, version: str, manifest: bytes) -> bool:
        """Rename the hidden folder."""
        (self.incoming / MANIFEST_FILE).unlink(missing_ok=True)
        write_durably(self.incoming / MANIFEST_FILE, manifest)
        sync_folder(self.incoming)
        folder = self.incoming.parent
        try:
            self.incoming.rename(folder / version)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            return False
        sync_folder(folder)
        return True


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
