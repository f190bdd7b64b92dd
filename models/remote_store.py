"""A model store in an object store: the manifest is written last, and every write states its condition."""

import glob
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

from penstock.errors import (
    ModelRefused,
    ObjectChanged,
    ObjectNotFound,
    SettingsError,
    StoreRefused,
    StoreUnavailable,
)
from penstock.models.manifest import MANIFEST_FILE
from penstock.object_stores import (
    StoreAccess,
    list_files,
    locate,
    open_file,
    read_state,
    read_whole,
    write_bytes,
)

_PROBE = ".conditional-writes"
_NO_ETAG = '"0"'
_NOT_IMPLEMENTED = " 501"
_MOST_CHANGES = 100
"""Attempts of one update. Each that fails means that another one succeeded."""
_NO_CONDITIONS = (
    "it does not keep the condition of a write, so of two registrations at once one could overwrite the other"
)
_USE_ANOTHER = (
    "Use a store with conditional writes (`If-None-Match`, `If-Match`), or register into a folder and copy it there."
)


@dataclass(frozen=True)
class RemoteStore:
    """Objects below a URL. There are no links in an object store."""

    location: str
    access: StoreAccess

    @property
    def is_listable(self) -> bool:
        """Whether it is in an object store, and not on a web server."""
        return not locate(self.location).is_web

    def check_writable(self) -> None:
        """Raise an error for a web server, and for a store without conditional writes."""
        if not self.is_listable:
            raise SettingsError(
                f"the model store {self.location} is a web server, and models are only read from it",
                "Set PENSTOCK_MODEL_STORE to the store that the server shows, and register there.",
            )
        _check_conditions(self.location, self.access)

    def versions(self, model: str | None = None) -> Iterator[tuple[str, str]]:
        return ((name, version) for name, version, file in self._files(model) if file == MANIFEST_FILE)

    def numbers(self, model: str) -> Iterator[str]:
        return iter({version for _, version, _ in self._files(model)})

    def unfinished(self) -> Iterator[str]:
        files = list(self._files())
        whole = {(name, version) for name, version, file in files if file == MANIFEST_FILE}
        left = {(name, version) for name, version, _ in files} - whole
        return (f"{self.location}/{name}/{version}" for name, version in sorted(left))

    def read(self, model: str, path: str, limit: int) -> bytes:
        url = f"{self.location}/{path}"
        for _ in range(_MOST_CHANGES):
            try:
                state = read_state(url, self.access)
                if state.size > limit:
                    what = f"{url} has {state.size:,} bytes. At most {limit:,} are read."
                    raise ModelRefused(model, f"{what} Register the model file again.")
                with open_file(state, self.access) as file:
                    return file.read()
            except ObjectNotFound as error:
                raise FileNotFoundError(str(error)) from None
            except ObjectChanged:
                continue  # an alias was moved
        raise ObjectChanged(url, f"was replaced {_MOST_CHANGES} times while it was read")

    @contextmanager
    def draft(self, model: str, file: str, content: bytes) -> Iterator["_DraftObject"]:
        """Write nothing yet: the number of the version is part of the name."""
        yield _DraftObject(self, model, file, content)

    def update(self, model: str, path: str, limit: int, change: Callable[[bytes | None], bytes | None]) -> None:
        url = f"{self.location}/{path}"
        for _ in range(_MOST_CHANGES):
            try:
                content, state = read_whole(url, limit, self.access)
                changed, etag = change(content), state.digest
            except ObjectNotFound:
                changed, etag = change(None), None
            if changed is None:
                return
            try:
                write_bytes(url, changed, if_absent=etag is None, if_match=etag, access=self.access)
            except (ObjectChanged, ObjectNotFound):
                continue  # or the store did it, and its answer was lost: the content shows it
            return
        raise ObjectChanged(url, f"was replaced {_MOST_CHANGES} times while it was to be changed")

    def create(self, path: str, content: bytes) -> bool:
        """Write a file that does not exist yet. Return `False` if there is another one in its place."""
        url = f"{self.location}/{path}"
        try:
            write_bytes(url, content, if_absent=True, access=self.access)
        except ObjectChanged:
            # A request that was repeated after its answer was lost finds its own object.
            return read_state(url, self.access).size == len(content) and self.read(path, path, len(content)) == content
        return True

    def _files(self, model: str | None = None) -> Iterator[tuple[str, str, str]]:
        """Return model, version and name of each file of a version."""
        if not self.is_listable:
            raise SettingsError(
                f"the model store {self.location} is a web server, which does not list its models",
                "Name a model with its version or alias, as in `churn@champion`.",
            )
        start = f"{self.location}/"
        for state in list_files(glob.escape(start + (f"{model}/" if model else "")) + "**", self.access):
            parts = state.path.removeprefix(start).split("/")
            if len(parts) == 3:
                yield parts[0], parts[1], parts[2]


@dataclass(frozen=True)
class _DraftObject:
    store: RemoteStore
    model: str
    file: str
    content: bytes

    def publish(self, version: str, manifest: bytes) -> bool:
        """Write the model file, which takes the number, and then the manifest, which makes the version."""
        folder = f"{self.model}/{version}"
        return self.store.create(f"{folder}/{self.file}", self.content) and self.store.create(
            f"{folder}/{MANIFEST_FILE}", manifest
        )


@lru_cache(maxsize=64)
def _check_conditions(location: str, access: StoreAccess) -> None:
    """Try both conditions on an object of their own. Some servers accept and ignore them.

    Raises:
        StoreRefused: the store writes in spite of a condition that does not hold, or does not know conditions.
    """
    url = f"{location}/{_PROBE}"
    lacking = StoreRefused(location, _NO_CONDITIONS, _USE_ANOTHER)
    create = partial(write_bytes, url, b"", if_absent=True, access=access)
    try:
        _is_kept(create)  # from now on there is one
        if not _is_kept(create) or not _is_kept(partial(write_bytes, url, b"", if_match=_NO_ETAG, access=access)):
            raise lacking
    except (StoreRefused, StoreUnavailable) as error:
        raise lacking if _NOT_IMPLEMENTED in error.reason else error from None


def _is_kept(write: Callable[[], object]) -> bool:
    """Whether the store refuses a write whose condition does not hold."""
    try:
        write()
    except ObjectChanged:
        return True
    return False
