"""Map obstore's errors to Penstock's. No text of obstore is shown, because it may contain a secret."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import ObjectChanged, ObjectNotFound, StoreRefused, StoreUnavailable
from penstock.object_urls import ObjectUrl

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_BUSY = ("408", "425", "429")
_REMEDIES = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role.",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account.",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or give the machine an identity.",
}
_NO_LOGIN = "Penstock does not log in to a web server. Download the file, or put it into an object store."
_NO_CREDENTIALS = re.compile(
    r"169\.254\.|metadata\.google|/computeMetadata|/metadata/identity|[Cc]redential|/latest/api/token|oauth2|GCE_METADATA"
)


@contextmanager
def translated_store_errors(location: ObjectUrl) -> Iterator[None]:
    """Translate obstore's errors of a block.

    Raises:
        ObjectNotFound: no object has this key, or no bucket has this name.
        ObjectChanged: the object is not in the state that a request requires.
        StoreRefused: the store refuses the request: no access, no such bucket.
        StoreUnavailable: the store does not answer, or its answer is cut. Retried.
    """
    from obstore import exceptions

    try:
        yield
    except (exceptions.BaseError, FileNotFoundError, PermissionError, OSError, TimeoutError) as error:
        raise _translate(location, error) from None


def _translate(location: ObjectUrl, error: Exception) -> Exception:
    from obstore import exceptions

    url, text = str(location), str(error)
    status = found[1] if (found := _STATUS.search(text)) else ""
    code = found[1] if (found := _CODE.search(text)) else ""
    answer = f"it answers {status} {code}".rstrip() if status else "it does not answer"
    if isinstance(error, exceptions.InvalidPathError):
        reason = "a key there has an empty part, one of dots, or a control character, and such objects are not read"
        return StoreRefused(url, reason, "Move that object to another folder, or copy the others.")
    if code in ("NoSuchBucket", "ContainerNotFound"):
        kind = "container" if location.scheme == "az" else "bucket"
        return StoreRefused(url, f"there is no {kind} `{location.store}`", "Correct its name, or the endpoint.")
    if isinstance(error, FileNotFoundError | exceptions.NotFoundError) and status in ("", "404", "410"):
        return ObjectNotFound(url)
    if isinstance(error, exceptions.AlreadyExistsError):
        return ObjectChanged(url, "exists already")
    if isinstance(error, exceptions.PreconditionError | exceptions.NotModifiedError):
        return ObjectChanged(url, "was replaced")
    if status in ("401", "403") or isinstance(
        error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
    ):
        return StoreRefused(url, f"access is denied: {answer}", _remedy(location))
    if _NO_CREDENTIALS.search(text):
        return StoreRefused(url, "there are no credentials", _remedy(location))
    if "Content-Length" in text or ("Range" in text and not status):
        reason = "the server gives no length of the file, or no part of it"
        return StoreRefused(url, reason, "Download the file, or put it into an object store.")
    if status and not status.startswith("5") and status not in _BUSY:
        return StoreRefused(url, answer, "Check the URL, the endpoint and the region.")
    return StoreUnavailable(url, answer if status else "it does not answer, or its answer is cut")


def _remedy(location: ObjectUrl) -> str:
    """Say how the store is given credentials."""
    if location.is_web:
        return _NO_LOGIN
    return f"{_REMEDIES[location.scheme]} See docs/object-stores.md."
