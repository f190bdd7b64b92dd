"""Options with which the libraries of lakes open an object store, from the same variables as object stores."""

import os
import re

_REMOTE = re.compile(r"^(?!file:)[A-Za-z][A-Za-z0-9+.-]+://")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


def is_remote(place: str) -> bool:
    """Whether a place is the URL of an object. Iceberg writes `file:` before local paths."""
    return _REMOTE.match(place) is not None


def delta_options(location: str) -> dict[str, str]:
    """Return the options for deltalake, which reads all others from the environment by itself."""
    is_plain = is_remote(location) and _first(_ENDPOINTS).startswith("http://")
    return {"allow_http": "true"} if is_plain else {}


def iceberg_properties() -> dict[str, str]:
    """Return the properties for pyiceberg. Its files are read by Arrow, which finds credentials by itself."""
    found = {"s3.endpoint": _first(_ENDPOINTS), "s3.region": _first(_REGIONS)}
    return {name: value for name, value in found.items() if value}


def _first(names: tuple[str, ...]) -> str:
    """Return the first of the variables that is set. Empty: none is."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")
