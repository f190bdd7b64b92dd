"""Objects by URL, in S3, Google Cloud Storage, Azure Blob Storage and on web servers. See docs/adr/0025."""

from penstock.object_stores.access import ENVIRONMENT, StoreAccess
from penstock.object_stores.listing import list_files
from penstock.object_stores.reading import open_file, read_bytes, read_state
from penstock.object_stores.urls import is_remote
from penstock.object_stores.writing import write_bytes

__all__ = [
    "ENVIRONMENT",
    "StoreAccess",
    "is_remote",
    "list_files",
    "open_file",
    "read_bytes",
    "read_state",
    "write_bytes",
]
