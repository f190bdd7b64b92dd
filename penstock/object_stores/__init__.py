"""Objects by URL, in S3, Google Cloud Storage, Azure Blob Storage and on web servers. See docs/adr/0025."""

from penstock.object_stores.access import ENVIRONMENT, StoreAccess, locate, parse_access
from penstock.object_stores.listing import list_files, matches_pattern
from penstock.object_stores.reading import StoredObject, open_file, read_bytes, read_state, read_whole
from penstock.object_stores.writing import delete, upload, write_bytes
from penstock.object_urls import is_remote

__all__ = [
    "ENVIRONMENT",
    "StoreAccess",
    "StoredObject",
    "delete",
    "is_remote",
    "list_files",
    "locate",
    "matches_pattern",
    "open_file",
    "parse_access",
    "read_bytes",
    "read_state",
    "read_whole",
    "upload",
    "write_bytes",
]
