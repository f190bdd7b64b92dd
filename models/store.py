"""What the model store needs of the place that its files are in: a folder, or a bucket of an object store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from penstock.models.local_store import LocalStore
from penstock.models.remote_store import RemoteStore
from penstock.object_stores import StoreAccess, is_remote, locate


class DraftVersion(Protocol):
    """A model file that waits for the number of its version."""

    def publish(self, version: str, manifest: bytes) -> bool:
        """Make the version, whole. Return `False` if its number is taken by now."""


class ModelStore(Protocol):
    """Files of models. A path is relative to the store, as in `churn/7/manifest.json`."""

    @property
    def location(self) -> str:
        """The folder or the URL, as messages show it."""

    @property
    def is_listable(self) -> bool:
        """Whether the models can be listed. A web server has no list."""

    def check_writable(self) -> None:
        """Raise an error if no version can be added safely."""

    def versions(self, model: str | None = None) -> Iterator[tuple[str, str]]:
        """Return model and version for each folder that has a manifest, of one model or of all."""

    def numbers(self, model: str) -> Iterator[str]:
        """Return the version folders of a model, those without a manifest included."""

    def unfinished(self) -> Iterator[str]:
        """Return what interrupted registrations left, which is no version."""

    def read(self, model: str, path: str, limit: int) -> bytes:
        """Read a file of the store, and no more than `limit` bytes.

        Raises:
            ModelRefused: it is larger, or leads out of the store.
            FileNotFoundError: it does not exist.
        """

    def draft(self, model: str, file: str, content: bytes) -> AbstractContextManager[DraftVersion]:
        """Prepare a version with this model file."""

    def update(self, model: str, path: str, limit: int, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace a file by what `change` makes of its present content. Of two updates at once, none is lost.

        `change` may be called again, with the content that another process wrote. It returns `None` to write nothing.
        """


def open_model_store(location: str, access: StoreAccess) -> ModelStore:
    """Return the store in a folder or at a URL."""
    if is_remote(location):
        return RemoteStore(str(locate(location)).rstrip("/"), access)
    return LocalStore(location)
