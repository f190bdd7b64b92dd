"""What a driver's message means, and what helps. The first entry that matches counts."""

import re
from dataclasses import dataclass

from penstock.errors import AccessDenied, DatabaseUnavailable, DatabaseUnusable, QueryFailed

Kind = type[AccessDenied] | type[DatabaseUnavailable] | type[DatabaseUnusable] | type[QueryFailed]

LEDGER_STATEMENT = (
    "This is a statement of Penstock on its ledger. `penstock doctor` says what is wrong with the ledger."
)


@dataclass(frozen=True)
class Fault:
    """A kind of fault, by the words of the drivers."""

    words: str
    """A regular expression."""
    kind: Kind
    remedy: str
    """`{url}` stands for the variable with the connection's URL."""


FAULTS = (
    # files of SQLite and DuckDB
    Fault(
        r"file is not a database|not a valid DuckDB database file",
        DatabaseUnusable,
        "The path leads to a file of another kind. Correct the path in {url}, or restore the file from a backup.",
    ),
    Fault(
        r"disk image is malformed|[Cc]orrupt database file|computed checksum",
        DatabaseUnusable,
        "The file is damaged. Restore it from a backup.",
    ),
    Fault(
        r"database file with (storage )?version number|Try opening the file with a newer version",
        DatabaseUnusable,
        "Install the DuckDB version that wrote the file, or export its tables with that version and import them.",
    ),
    Fault(r"Is a directory", DatabaseUnusable, "The path leads to a folder. Correct it in {url}."),
    Fault(r"Not a directory", DatabaseUnusable, "The path leads through a file. Correct it in {url}."),
    Fault(
        r"attempt to write a readonly database|Cannot open file .*(Permission denied|Read-only file system)",
        DatabaseUnusable,
        "Let this user read and write the file and its folder, or correct the path in {url}.",
    ),
    Fault(
        r"unable to open database file",
        DatabaseUnavailable,
        "Check that the path in {url} leads to a file, and that this user may read and write it and its folder.",
    ),
    Fault(
        r"Out of Memory Error",
        DatabaseUnusable,
        "DuckDB has reached its memory limit. Raise it in {url}, as in `?memory_limit=4GB`, or cut smaller partitions "
        "with `partition_rows`.",
    ),
    # servers
    Fault(
        r"[Tt]oo many connections|too many clients|remaining connection slots",
        DatabaseUnavailable,
        "Run fewer partitions and flow runs at once, or raise the limit of the server, the database or the role.",
    ),
    Fault(
        r"failed to resolve host|could not translate host name|Name or service not known",
        DatabaseUnavailable,
        "Correct the host in {url}, or check the name resolution of this machine.",
    ),
    Fault(
        r"on socket .* failed: (No such file|Connection refused)",
        DatabaseUnavailable,
        "Check that the server runs on this machine, or set its host in {url}.",
    ),
    Fault(
        r"server does not support SSL|certificate verify failed|root certificate file|invalid sslmode"
        r"|does not match host name|certificate file .* does not exist",
        DatabaseUnusable,
        "Set `sslmode`, `sslrootcert` and `sslcert` in {url} as the server needs them.",
    ),
    Fault(
        r"database .* does not exist|Unknown database",
        AccessDenied,
        "Correct the database's name in {url}, or create the database.",
    ),
    Fault(
        r"password authentication failed|no password supplied|role .* does not exist|Access denied for user",
        AccessDenied,
        "Correct user and password in {url}.",
    ),
    Fault(
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        AccessDenied,
        "Let the server's pg_hba.conf take this user from this machine, or correct {url}.",
    ),
    Fault(
        r"in a read-only transaction",
        DatabaseUnusable,
        "The server is a standby or set to read-only. Name the primary server in {url}.",
    ),
    Fault(r"schema .* does not exist", QueryFailed, "Correct `schema` in the spec, or create the schema."),
    Fault(
        r"no such table: (\w+\.)?penstock_|(relation \"|Table with name )(\w+\.)?penstock_\w+\"? does not exist",
        QueryFailed,
        "A table of the ledger is missing. Restore the database from a backup, or correct {url}.",
    ),
)


def find_fault(reason: str) -> Fault | None:
    """Return the fault that a driver's message describes."""
    return next((fault for fault in FAULTS if re.search(fault.words, reason)), None)
