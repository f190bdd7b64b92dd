"""Write an object whole, under a condition if one is stated, and delete objects."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import ObjectChanged, ObjectNotFound
from penstock.object_stores.access import ENVIRONMENT, StoreAccess, locate, open_store
from penstock.object_stores.reading import quoted_etag
from penstock.object_stores.store_errors import translated_store_errors
from penstock.object_urls import ObjectUrl

if TYPE_CHECKING:
    from obstore import ObjectMeta


def write_bytes(
    url: str, content: bytes, *, if_absent: bool = False, if_match: str | None = None, access: StoreAccess = ENVIRONMENT
) -> str:
    """Write an object. Readers see the old content or the new one, never a part. Return the new ETag.

    Args:
        if_absent: write only if there is no such object.
        if_match: write only if the object has this ETag.

    Raises:
        ObjectChanged: the condition does not hold. Nothing was written.
        StoreRefused: the store refuses the request.
        StoreUnavailable: the store does not answer. Whether the object was written is not known.
    """
    location = locate(url)
    store = open_store(location, access)
    import obstore

    mode: Any = "create" if if_absent else {"e_tag": if_match} if if_match is not None else "overwrite"
    with translated_store_errors(location):
        if if_match is not None and location.scheme == "gs":
            mode = {"version": _generation(location, obstore.head(store, location.key), if_match)}
        written = obstore.put(store, location.key, content, mode=mode)
    return quoted_etag(written["e_tag"])


def upload(url: str, path: Path, access: StoreAccess = ENVIRONMENT) -> None:
    """Write an object from a file, in parts if it is large. Readers see the old content or the new one, never a part.

    Raises:
        StoreRefused: the store refuses the request.
        StoreUnavailable: the store does not answer. Whether the object was written is not known.
    """
    location = locate(url)
    store = open_store(location, access)
    import obstore

    with translated_store_errors(location):
        obstore.put(store, location.key, path)


def delete(url: str, access: StoreAccess = ENVIRONMENT) -> None:
    """Delete an object. One that is not there is no error.

    Raises:
        StoreRefused: the store refuses the request.
        StoreUnavailable: the store does not answer. Whether the object was deleted is not known.
    """
    location = locate(url)
    store = open_store(location, access)
    import obstore

    with suppress(ObjectNotFound), translated_store_errors(location):
        obstore.delete(store, location.key)


def _generation(location: ObjectUrl, meta: "ObjectMeta", etag: str) -> str | None:
    """Return the generation of an object with this ETag. Google takes it as a condition, and no ETag.

    Raises:
        ObjectChanged: the object has another ETag.
    """
    if quoted_etag(meta["e_tag"]) != etag:
        raise ObjectChanged(str(location), "was replaced")
    return meta["version"]
