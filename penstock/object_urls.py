"""URLs of objects: take them apart, and refuse those that no store has or that contain a secret.

The key of `s3://`, `gs://` and `az://` stands as it is. That of `https://` is percent-encoded, as web addresses are.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

SCHEMES = ("s3", "gs", "az", "https", "http")
_OTHER_NAMES = {"gcs": "gs", "s3a": "s3", "s3n": "s3", "abfs": "az", "abfss": "az", "wasb": "az", "wasbs": "az"}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<store>[^/]*)/?(?P<key>.*)", re.DOTALL)
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class ObjectUrl:
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
    def is_pattern(self) -> bool:
        """Whether it has a wildcard."""
        return not self.is_web and _WILDCARD.search(self.key) is not None

    @property
    def is_irregular(self) -> bool:
        """Whether a part of the key is empty, `.` or `..`, which obstore does not read."""
        *folders, name = self.key.split("/")
        return any(part in ("", ".", "..") for part in folders) or name in (".", "..")

    def at(self, key: str) -> "ObjectUrl":
        """Return the URL of another object of the store."""
        return ObjectUrl(self.scheme, self.store, key)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.store}/{quote(self.key) if self.is_web else self.key}"


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return _URL.match(path) is not None


def parse_url(url: str) -> ObjectUrl:
    """Take a URL apart.

    Raises:
        ValueError: no store has such a URL, or it may contain a secret. The message does not show it.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"`{url}` is not the URL of an object; write it as in `s3://bucket/folder/file.parquet`")
    scheme, store, key = found["scheme"].lower(), found["store"], found["key"]
    if scheme not in SCHEMES:
        other = _OTHER_NAMES.get(scheme)
        advice = f"`{other}://bucket/…`" if other else f"one of {', '.join(f'`{s}://`' for s in SCHEMES)}"
        raise ValueError(f"`{scheme}://` is not read; write {advice}")
    if "@" in store:
        raise ValueError(
            f"a `{scheme}://` URL contains a user or a password; leave it out, and set it in the environment "
            "(docs/object-stores.md)"
        )
    if not store:
        raise ValueError(f"a `{scheme}://` URL names no bucket; write it as in `{scheme}://bucket/folder/file.parquet`")
    if scheme in ("http", "https"):
        key = _read_web_key(store, key)
    return ObjectUrl(scheme, store, key)


def _read_web_key(host: str, key: str) -> str:
    if "?" in key or "#" in key:
        raise ValueError(
            f"the URL of a file on {host} has a query or a fragment, and a query may contain a secret; "
            "write the URL without it (in a file's name `?` is %3F, and `#` is %23)"
        )
    if _WILDCARD.search(key):
        raise ValueError(
            f"the URL of a file on {host} has a wildcard, and a web server does not list its files; "
            "write the URL of one file (in a file's name `*` is %2A)"
        )
    return unquote(key)
