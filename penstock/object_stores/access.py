"""Open a store with the credentials of the environment, or with those of a named connection.

obstore reads the environment as the stores' own tools do: `AWS_…`, `GOOGLE_…` and `AZURE_…`. It is imported when a
store is first opened, because most runs read none.
"""

import json
import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from penstock.errors import SettingsError, StoreRefused
from penstock.object_urls import ObjectUrl, parse_url

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_RETRIES = 8
_RETRY_SECONDS, _CONNECT_SECONDS, _ANSWER_SECONDS = 60, 10, 120
"""A request is repeated for at most a minute. One request takes at most two minutes, its body included."""
_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")
_processes: dict[str, int] = {}
"""The process that opened the first store. A fork has a copy of it."""
_ENDPOINT = re.compile("endpoint|base_url|service_account", re.IGNORECASE)
"""Options that may name an endpoint. Google's is in the key of an account."""
_CLASSES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}


@dataclass(frozen=True)
class StoreAccess:
    """The options that a store is opened with."""

    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """By obstore's names, as in `access_key_id`. What is missing is read from the environment."""


ENVIRONMENT = StoreAccess()
"""All options from the environment."""


def locate(url: str) -> ObjectUrl:
    """Take a URL apart.

    Raises:
        SettingsError: no store has such a URL, or it may contain a secret, or its key is not read.
    """
    try:
        location = parse_url(url)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise SettingsError(what, f"{remedy[:1].upper()}{remedy[1:]}.") from None
    if location.is_irregular:
        what = f"the key of `{location}` has an empty part or one of dots, and such objects are not read"
        raise SettingsError(what, "Correct the path, or copy the object to another key.")
    return location


def parse_access(name: str, text: str) -> StoreAccess:
    """Return the options in the value of a named connection: a JSON object.

    Raises:
        SettingsError: it is none. The message does not show it.
    """
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict) or not all(isinstance(value, str | bool) for value in options.values()):
        raise SettingsError(
            f"connection `{name}` does not have the options of an object store",
            f"Set PENSTOCK_CONNECTIONS__{name.upper()} to a JSON object of texts, as in "
            '`{"access_key_id": "…", "secret_access_key": "…"}`.',
        )
    written = {key: json.dumps(value) if isinstance(value, bool) else value for key, value in options.items()}
    return StoreAccess(tuple(sorted(written.items())))


def open_store(location: ObjectUrl, access: StoreAccess) -> "ObjectStore":
    """Return the store of an object. Stores are shared within this process.

    Raises:
        SettingsError: obstore is not installed, or an option of it cannot be read.
        StoreRefused: the process was forked.
    """
    if _processes.setdefault("first", os.getpid()) != os.getpid():
        reason = "this process was forked from one that had opened a store, and obstore's threads are not in it"
        raise StoreRefused(str(location), reason, "Start processes by `spawn`, as Penstock's runners do.")
    environment = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(_VARIABLES)))
    return _open(location.scheme, location.store, access, environment)


@lru_cache(maxsize=64)
def _open(scheme: str, name: str, access: StoreAccess, environment: tuple[tuple[str, str], ...]) -> "ObjectStore":
    """Open a store. A changed environment opens it anew."""
    try:
        from obstore import exceptions, store
    except ModuleNotFoundError:
        raise SettingsError(
            f"`{scheme}://` needs obstore, which is not installed",
            "Install Penstock's extra: `pip install 'penstock[object-stores]'`.",
        ) from None
    options: dict[str, Any] = dict(access.options)
    shared: dict[str, Any] = {
        "client_options": {
            "allow_http": scheme == "http" or _has_plain_endpoint(options, dict(environment)),
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "timeout": timedelta(seconds=_ANSWER_SECONDS),
        },
        "retry_config": {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
    }
    try:
        if scheme in ("http", "https"):
            return store.HTTPStore.from_url(f"{scheme}://{name}", **shared)
        opened: ObjectStore = getattr(store, _CLASSES[scheme])(name, config=options, **shared)
        return opened
    except (exceptions.BaseError, ValueError, TypeError) as error:
        reason = "an option has a value that it cannot have"
        if isinstance(error, exceptions.UnknownConfigurationKeyError):
            reason = "an option has a name that obstore does not know"
        elif "ccount" in str(error):
            reason = "AZURE_STORAGE_ACCOUNT_NAME is not set"
        raise SettingsError(
            f"`{scheme}://{name}` cannot be opened: {reason}",
            "See docs/object-stores.md for the variables and options.",
        ) from None


def _has_plain_endpoint(options: dict[str, Any], environment: dict[str, str]) -> bool:
    """Whether an endpoint is stated with `http://`, as that of a server in one's own network."""
    given = environment | options
    return any("http://" in str(value) for name, value in given.items() if _ENDPOINT.search(name))
