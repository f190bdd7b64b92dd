"""List the objects that match a pattern. Only the folder before the first wildcard is listed, never the whole bucket.

Wildcards mean what they mean in local paths: `*`, `?` and `[…]` stay within a folder, `**` is any number of folders,
and names that begin with a dot must be named with their dot.
"""

import fnmatch
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from penstock.errors import ObjectNotFound, StoreRefused, StoreUnavailable
from penstock.object_stores.access import ENVIRONMENT, StoreAccess, locate, open_store
from penstock.object_stores.reading import read_state, state_of
from penstock.object_stores.store_errors import translated_store_errors
from penstock.object_urls import ObjectUrl
from penstock.run_types import FileState

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_WILDCARD = re.compile(r"[*?\[]")


def list_files(pattern: str, access: StoreAccess = ENVIRONMENT) -> list[FileState]:
    """Return the objects that match a pattern, sorted by URL. None is left out, however many there are.

    Raises:
        StoreRefused: the store refuses the request, as for a bucket that does not exist.
        StoreUnavailable: the store does not answer.
        SettingsError: no store has such a URL, as one of a web server with a wildcard.
    """
    location = locate(pattern)
    if not location.is_pattern:
        return _find_one(location, access)
    try:
        found = _list_matches(location, access)
    except StoreUnavailable:  # obstore does not ask again for a list that was cut
        found = _list_matches(location, access)
    if not found:
        _require_store(location, access)
    there = [state for state in found if state.size or _find_one(locate(state.path), access)]
    return sorted({state.path: state for state in there}.values(), key=lambda state: state.path)


def _list_matches(location: ObjectUrl, access: StoreAccess) -> list[FileState]:
    store = open_store(location, access)
    with translated_store_errors(location):
        return [state_of(location.at(meta["path"]), meta) for meta in _match(store, "", location.key.split("/"))]


def _require_store(location: ObjectUrl, access: StoreAccess) -> None:
    """Refuse a server that answers every request, as a page for logging in does. Its lists would all be empty.

    Raises:
        StoreRefused: its answer to a probe shows that it is no store.
    """
    unwritten = location.at(f"{location.key.partition('*')[0].rpartition('/')[0]}/{uuid.uuid4().hex}".lstrip("/"))
    with suppress(ObjectNotFound):
        read_state(str(unwritten), access)
        reason = "it answers as no object store does"
        raise StoreRefused(str(location), reason, "Correct the endpoint.")


def _find_one(location: ObjectUrl, access: StoreAccess) -> list[FileState]:
    name = location.key.rpartition("/")[2]
    if not name:
        return []
    try:
        return [read_state(str(location), access)]
    except ObjectNotFound:
        if not location.is_web:
            _require_bucket(location, access)
        return []


def _require_bucket(location: ObjectUrl, access: StoreAccess) -> None:
    """Refuse a bucket that does not exist. The answer for one object does not tell it from a missing object."""
    import obstore

    with translated_store_errors(location):
        next(iter(obstore.list(open_store(location, access), location.key, chunk_size=1)), None)


def _match(store: "ObjectStore", folder: str, pattern: list[str]) -> Iterator["ObjectMeta"]:
    """Return the objects below a folder that match the rest of a pattern. A level without wildcard is not listed."""
    import obstore

    fixed = next(n for n, part in enumerate(pattern) if _WILDCARD.search(part) or n == len(pattern) - 1)
    folder, pattern = "/".join(filter(None, [folder, *pattern[:fixed]])), pattern[fixed:]
    if "**" in pattern:
        listed = [meta for some in obstore.list(store, folder or None) for meta in some]
        start = len(folder) + 1 if folder else 0
        yield from (meta for meta in _without_markers(listed) if _matches(meta["path"][start:].split("/"), pattern))
        return
    level = obstore.list_with_delimiter(store, folder or None)
    if len(pattern) == 1:
        named = (meta for meta in level["objects"] if _matches_part(meta["path"].rpartition("/")[2], pattern[0]))
        yield from _without_markers(named, level["common_prefixes"])
        return
    for prefix in level["common_prefixes"]:
        if _matches_part(prefix.rstrip("/").rpartition("/")[2], pattern[0]):
            yield from _match(store, prefix.rstrip("/"), pattern[1:])


def matches_pattern(path: str, pattern: str) -> bool:
    """Whether a path or a URL matches a pattern, by the rules of local paths."""
    return _matches(path.split("/"), pattern.split("/"))


def _without_markers(listed: Iterable["ObjectMeta"], folders: Iterable[str] = ()) -> list["ObjectMeta"]:
    """Leave out the empty objects that some tools write to show a folder with objects in it."""
    metas = list(listed)
    known = {folder.rstrip("/") for folder in folders}
    for meta in metas:
        parts = meta["path"].split("/")
        known |= {"/".join(parts[:n]) for n in range(1, len(parts))}
    return [m for m in metas if m["size"] or (not m["path"].endswith("/") and m["path"] not in known)]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a key match those of a pattern."""
    if not pattern:
        return not parts
    first, *rest = pattern
    if first != "**":
        return bool(parts) and _matches_part(parts[0], first) and _matches(parts[1:], rest)
    if not rest:
        return bool(parts) and not any(part.startswith(".") for part in parts)
    for skipped in range(len(parts)):
        if _matches(parts[skipped:], rest):
            return True
        if parts[skipped].startswith("."):
            return False
    return False


def _matches_part(part: str, pattern: str) -> bool:
    """Whether one name matches one level of a pattern. A name with a leading dot needs the dot in the pattern."""
    return part.startswith(".") <= pattern.startswith(".") and fnmatch.fnmatchcase(part, pattern)
