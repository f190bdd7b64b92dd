"""Read objects in ranges. Each range is bound to the state that the object was seen in."""

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from penstock.errors import ObjectChanged, StoreRefused, StoreUnavailable
from penstock.object_stores.access import ENVIRONMENT, StoreAccess, locate, open_store
from penstock.object_stores.store_errors import translated_store_errors
from penstock.object_urls import ObjectUrl, is_remote
from penstock.run_types import FileState

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

BLOCK_BYTES = 4 << 20
"""Bytes that sequential reading fetches at once."""
_MOST_BYTES = 16 << 20
"""Bytes of one request. Larger reads are several requests, so that each is done within the limit of time."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_state(url: str, access: StoreAccess = ENVIRONMENT) -> FileState:
    """Return the present state of an object.

    Raises:
        ObjectNotFound: there is none.
        StoreRefused: the store refuses the request, or does not say by what a replaced object is seen.
        StoreUnavailable: the store does not answer.
    """
    location = locate(url)
    store = open_store(location, access)
    import obstore

    with translated_store_errors(location):
        return state_of(location, obstore.head(store, location.key))


def state_of(location: ObjectUrl, meta: "ObjectMeta") -> FileState:
    """Return the state of an object as its store describes it."""
    etag = quoted_etag(meta["e_tag"])
    written = (meta["last_modified"] - _EPOCH) // timedelta(microseconds=1) * 1000
    if not etag and written <= 0:
        reason = "the server gives neither ETag nor Last-Modified, so a replaced file would not be seen"
        raise StoreRefused(str(location), reason, "Download the file, or put it into an object store.")
    return FileState(str(location), meta["size"], written, etag, "", 0)


def quoted_etag(etag: str | None) -> str:
    """Return an ETag as requests take it. Azure's lists give it without quotes."""
    return f'"{etag}"' if etag and not etag.startswith(('"', "W/")) else etag or ""


def open_file(state: FileState, access: StoreAccess = ENVIRONMENT, block_bytes: int = BLOCK_BYTES) -> BinaryIO:
    """Open a file or an object for reading. An object is read in ranges, each from the state that is given.

    Args:
        block_bytes: the bytes that are fetched at least.

    Raises:
        ObjectChanged: the object was replaced. Raised by reading.
        ObjectNotFound: it was removed. Raised by reading.
        StoreUnavailable: the store does not answer. Raised by reading.
    """
    if not is_remote(state.path):
        return Path(state.path).open("rb")
    return cast(BinaryIO, io.BufferedReader(_RemoteFile(state, access), buffer_size=block_bytes))


def read_bytes(url: str, access: StoreAccess = ENVIRONMENT) -> bytes:
    """Read an object whole.

    Raises:
        ObjectNotFound: there is none.
        StoreUnavailable: the store does not answer.
    """
    with open_file(read_state(url, access), access) as file:
        return file.read()


@dataclass(frozen=True)
class StoredObject:
    """An object in one state. It opens as a `Path` does."""

    state: FileState
    access: StoreAccess = ENVIRONMENT

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open the object for reading. See `open_file`."""
        return open_file(self.state, self.access)

    def __str__(self) -> str:
        return self.state.path


class _RemoteFile(io.RawIOBase):
    """An object in one state, as a file."""

    def __init__(self, state: FileState, access: StoreAccess) -> None:
        self._state = state
        self._location = locate(state.path)
        self._store = open_store(self._location, access)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._state.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._position + min(len(view), _MOST_BYTES), self._state.size)
        if end <= self._position:
            return 0
        data = self._fetch(self._position, end)
        view[: len(data)] = data
        self._position = end
        return len(data)

    def readall(self) -> bytes:
        parts = []
        while self._position < self._state.size:
            end = min(self._position + _MOST_BYTES, self._state.size)
            parts.append(bytes(self._fetch(self._position, end)))
            self._position = end
        return b"".join(parts)

    def _fetch(self, start: int, end: int) -> memoryview:
        import obstore

        options: GetOptions = {"range": (start, end)}
        if self._state.digest.startswith('"'):  # a weak ETag never matches
            options["if_match"] = self._state.digest
        with translated_store_errors(self._location):
            answer = obstore.get(self._store, self._location.key, options=options)
            found = state_of(self._location, answer.meta)
            self._refuse_another(found)
            data = memoryview(answer.bytes())
        if len(data) != end - start:
            reason = f"{len(data):,} bytes came instead of {end - start:,}"
            raise StoreUnavailable(self._state.path, reason)
        return data

    def _refuse_another(self, found: FileState) -> None:
        """Compare what the answer says of the object. A server may not know `If-Match`."""
        then = self._state
        if found.size != then.size:
            raise ObjectChanged(then.path, f"has {found.size:,} bytes instead of {then.size:,}")
        if found.digest != then.digest or (not then.digest and found.written_ns != then.written_ns):
            raise ObjectChanged(then.path, "was replaced")
