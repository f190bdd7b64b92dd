"""Say why a folder or a store does not take rows. No text has a value of a row."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.delivery.folders import Folder
from penstock.delivery.target import Reply
from penstock.errors import ObjectChanged, PlaceRefused, StoreRefused, StoreUnavailable

PASSING = frozenset({errno.EAGAIN, errno.EBUSY, errno.EDQUOT, errno.EIO, errno.EINTR, errno.ENOSPC, errno.ETIMEDOUT})
"""Errors of the operating system after which the same write may succeed."""


@contextmanager
def translated_place_errors(target: str) -> Iterator[None]:
    """Translate errors of folders and object stores.

    Raises:
        PlaceRefused: rows cannot be put there, or not now.
    """
    try:
        yield
    except OSError as error:
        text = os.strerror(error.errno) if error.errno else "it cannot be written"
        place = f" ({error.filename})" if error.filename else ""
        raise PlaceRefused(target, f"{text}{place}", error.errno is None or error.errno in PASSING) from None
    except StoreUnavailable as error:
        raise PlaceRefused(target, f"{error.url} cannot be reached: {error.reason}", passing=True) from None
    except StoreRefused as error:
        raise PlaceRefused(target, f"{error.url}: {error.reason}", passing=False) from None
    except ObjectChanged as error:
        raise PlaceRefused(target, f"{error.url} {error.change} meanwhile", passing=True) from None


def reach(target: str, folder: Folder) -> Reply:
    """Look whether files can be written to a folder, and say why not. Nothing is written."""
    try:
        with translated_place_errors(target):
            folder.check()
    except PlaceRefused as error:
        return Reply(False, str(error), again=error.passing)
    return Reply(True, "")


def refused(error: PlaceRefused) -> Reply:
    """Return the reply of a place that did not take rows."""
    return Reply(False, error.reason, again=error.passing)


def other_ledger(made_at: str) -> str:
    """Say that a place has rows of another ledger."""
    return f"another ledger delivers there, which was made at {made_at}"


def other_delivery(sequence: int) -> str:
    """Say that a place has a delivery that the ledger does not know."""
    return f"it has another delivery {sequence} than the ledger"
