"""Small objects that several processes write: created once, or replaced if none has replaced them since."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.errors import StoreRefused
from penstock.object_stores.access import ENVIRONMENT, StoreAccess, locate, open_store
from penstock.object_stores.store_errors import translated_store_errors

if TYPE_CHECKING:
    from obstore import UpdateVersion


@dataclass(frozen=True)
class VersionedContent:
    """The content of an object, and by what a replaced one is known."""

    content: bytes = field(repr=False)
    version: "UpdateVersion"


def read_versioned(url: str, limit: int, access: StoreAccess = ENVIRONMENT) -> VersionedContent:
    """Read an object whole, by one request, with the version that `replace_object` takes.

    Raises:
        ObjectNotFound: there is none.
        StoreRefused: it has more than `limit` bytes, or the store refuses the request.
        StoreUnavailable: the store does not answer.
    """
    location = locate(url)
    store = open_store(location, access)
    import obstore

    with translated_store_errors(location):
        answer = obstore.get(store, location.key)
        if answer.meta["size"] > limit:
            raise StoreRefused(
                url, f"it has {answer.meta['size']:,} bytes, and at most {limit:,} are read", "Restore it."
            )
        version: Any = {name: answer.meta.get(name) for name in ("e_tag", "version") if answer.meta.get(name)}
        return VersionedContent(bytes(answer.bytes()), version)


def create_object(url: str, content: bytes, access: StoreAccess = ENVIRONMENT) -> None:
    """Write an object if there is none with this URL. Readers see it whole or not at all.

    Raises:
        ObjectChanged: there is one. Nothing was written.
        StoreRefused: the store refuses the request.
        StoreUnavailable: the store does not answer. Whether the object was written is not known.
    """
    _put(url, content, "create", access)


def replace_object(url: str, content: bytes, version: "UpdateVersion", access: StoreAccess = ENVIRONMENT) -> None:
    """Replace an object if it still has this version. Readers see the old content or the new one.

    Raises:
        ObjectChanged: it has another version, or was removed. Nothing was written.
        StoreRefused: the store refuses the request.
        StoreUnavailable: the store does not answer. Whether the object was written is not known.
    """
    _put(url, content, version, access)


def _put(url: str, content: bytes, mode: Any, access: StoreAccess) -> None:
    location = locate(url)
    store = open_store(location, access)
    import obstore

    with translated_store_errors(location):
        obstore.put(store, location.key, content, mode=mode)
