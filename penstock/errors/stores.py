"""Databases and object stores that refuse, or that have lost what they had."""

from dataclasses import dataclass

from penstock.errors.base import TerminalError
from penstock.errors.transient import ON_STANDBY


@dataclass(eq=False)
class AccessDenied(TerminalError):
    """A database refused the user.

    Cause: a wrong user, password or database name, or a missing grant.
    Remedy: correct the URL of the connection, or have the grant added.
    """

    connection: str
    reason: str
    remedy: str = "Have the missing grant added to the user."

    def message(self) -> str:
        return f"connection `{self.connection}` was refused: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class StoreRefused(TerminalError):
    """An object store refuses a request.

    Cause: no credentials, no permission, a bucket that does not exist, or a server that lacks what safe reading needs.
    Remedy: set the store's credentials, or correct the URL, the endpoint or the region. See docs/object-stores.md.
    """

    url: str
    reason: str
    remedy: str

    def message(self) -> str:
        return f"{self.url} cannot be used: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class ObjectNotFound(TerminalError):
    """There is no object with this URL.

    Cause: a wrong URL, or the object was removed.
    Remedy: correct the URL.
    """

    url: str

    def message(self) -> str:
        return f"there is no object {self.url}. Correct the URL."


@dataclass(eq=False)
class ObjectChanged(TerminalError):
    """An object is not in the state that a request requires.

    Cause: another process wrote or removed the object in between.
    Remedy: run again.
    """

    url: str
    change: str

    def message(self) -> str:
        return f"{self.url} {self.change}. Another process wrote it. Run again."


@dataclass(eq=False)
class DatabaseUnusable(TerminalError):
    """A database is there, or should be, and cannot be used as it is.

    Cause: its file is missing, damaged, a folder, of a newer version or not to be read or written; or the server and
        the URL do not agree on encryption.
    Remedy: follow the message. It depends on what is wrong.
    """

    connection: str
    reason: str
    remedy: str

    def message(self) -> str:
        return f"connection `{self.connection}` cannot be used: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class LedgerLost(TerminalError):
    """The ledger that the project had is gone, or is another one.

    Cause: a volume that is not mounted, a wrong `PENSTOCK_HOME`, a deleted or emptied database, or the URL of another
        one. Nothing was read or written.
    Remedy: bring the ledger back, or correct the URL. If a new ledger is meant: `penstock ledger accept`.
    """

    connection: str
    reason: str
    """What is in its place."""
    before: str
    """The ledger that is known."""

    @property
    def remedy(self) -> str:
        """The ways out."""
        return (
            "Mount the volume, restore the database, or correct PENSTOCK_HOME or "
            f"PENSTOCK_CONNECTIONS__{self.connection.upper()}. If it is meant, run `penstock ledger accept`."
        )

    def message(self) -> str:
        return (
            f"connection `{self.connection}` has lost its ledger: {self.reason}. This project had {self.before}. With "
            "a new one, a run would land all log lines and publish the whole history again, so nothing was done. "
            + self.remedy
        )


@dataclass(eq=False)
class SnapshotLost(TerminalError):
    """The database snapshot of a run is gone.

    Cause: the session that held it has ended: a server restart, a switch to another server, a lost connection, an
        administrator, or a standby that had to replay changes.
    Remedy: none at first: the flow reads the interval again once. If it fails again, run again later. For a standby,
        set `hot_standby_feedback`.
    """

    connection: str
    conflict: bool = False
    """Whether a standby ended the session because of changes that it had to replay."""

    def message(self) -> str:
        why, remedy = (
            ("the standby ended the session that held it, to replay changes of the primary server", f" {ON_STANDBY}")
            if self.conflict
            else (
                "the session that held it has ended (a server restart, a switch to another server, a lost connection "
                "or an administrator)",
                "",
            )
        )
        return (
            f"connection `{self.connection}`: the snapshot that all partitions read is gone, because {why}. "
            "Partitions of two snapshots cannot be combined, so nothing was published. "
            f"Run again to read the interval from the start.{remedy}"
        )
