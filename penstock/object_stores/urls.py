"""Take a URL apart: its store, and the key of an object in it.

The key of `s3://`, `gs://` and `az://` stands as it is. That of `https://` is percent-encoded, as web addresses are.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from penstock.errors import SettingsError

SCHEMES = ("s3", "gs", "az", "https", "http")
_OTHER_NAMES = {"gcs": "gs", "s3a": "s3", "s3n": "s3", "abfs": "az", "abfss": "az", "wasb": "az", "wasbs": "az"}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<store>[^/]*)/?(?P<key>.*)", re.DOTALL)


@dataclass(frozen=True)
class Location:
    """Where an object is."""

    scheme: str
    store: str
    """A bucket or container, or the host of a web server with its port."""
    key: str

    @property
    def is_web(self) -> bool:
        """Whether it is on a web server, which cannot list."""
        return self.scheme in ("http", "https")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.store}/{quote(self.key) if self.is_web else self.key}"

    def at(self, key: str) -> "Location":
        """Return the location of another object of the store."""
        return Location(self.scheme, self.store, key)


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return _URL.match(path) is not None


def parse_url(url: str) -> Location:
    """Return the location that a URL names.

    Raises:
        SettingsError: no store has such a URL, or it may contain a secret. The message does not show it.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise SettingsError(f"`{url}` is not the URL of an object", "Write it as in `s3://bucket/folder/file.parquet`.")
    scheme, store, key = found["scheme"].lower(), found["store"], found["key"]
    if scheme not in SCHEMES:
        other = _OTHER_NAMES.get(scheme)
        remedy = f"Write `{other}://bucket/…`." if other else f"Write one of {', '.join(f'`{s}://`' for s in SCHEMES)}."
        raise SettingsError(f"`{scheme}://` is not read", remedy)
    if "@" in store:
        raise SettingsError(
            f"a `{scheme}://` URL contains a user or a password",
            "Leave it out of the URL, and set it in the environment. See docs/object-stores.md.",
        )
    if not store:
        raise SettingsError(f"`{url}` names no bucket", f"Write it as in `{scheme}://bucket/folder/file.parquet`.")
    if scheme in ("http", "https"):
        if "?" in key or "#" in key:
            raise SettingsError(
                f"the URL of a file on {store} has a query or a fragment, and a query may contain a secret",
                "Write the URL without it. In a file's name `?` is %3F, and `#` is %23.",
            )
        key = unquote(key)
    return Location(scheme, store, key)
