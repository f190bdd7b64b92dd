"""Deliveries to other systems that cannot be made."""

from dataclasses import dataclass
from datetime import datetime

from penstock.errors.base import TerminalError, TransientError, UsageError, nearest


@dataclass(eq=False)
class NoTarget(UsageError):
    """The spec has no such target.

    Cause: `deliver:` is missing, or has no entry of this name.
    Remedy: add the target to `deliver:`, or name one of those that are there. See docs/delivery.md.
    """

    pipeline: str
    target: str
    """Empty: the spec has none at all."""
    known: tuple[str, ...]

    def message(self) -> str:
        if not self.target:
            return f"`{self.pipeline}` delivers to no other system. Add `deliver:` to its spec."
        return f"`{self.pipeline}` has no target `{self.target}` in `deliver`.{nearest(self.target, self.known)}"


@dataclass(eq=False)
class NotLive(UsageError):
    """The run is not the live one of its interval, so it is not delivered.

    Cause: the run was replaced, withdrawn or never published. A target gets what readers see.
    Remedy: name the live run of the interval, or publish this one again.
    """

    run_id: str
    state: str

    def message(self) -> str:
        return (
            f"run {self.run_id[:8]} is {self.state}, and a target gets the live run of an interval. "
            "Look for it with `penstock runs`."
        )


@dataclass(eq=False)
class TargetBusy(TransientError):
    """Another process delivers to the target.

    Cause: the target's lease is held by it. If it died, the lease ends within a few minutes.
    Remedy: none, for the other process delivers what is live by now, or the next run does. Or deliver again later.
    """

    target: str
    until: datetime | None
    """None: it has given the target back at this moment."""

    def message(self) -> str:
        lasts = "" if self.until is None else f"; its lease lasts until {self.until:%Y-%m-%d %H:%M:%S} UTC"
        return f"another process delivers to `{self.target}`{lasts}. Deliver again later, or leave it to the next run."


@dataclass(eq=False)
class TargetMoved(TerminalError):
    """A target in the spec has another place than its rows.

    Cause: its `kind`, `path`, `connection`, `table` or `schema` has changed, and it has rows at the former place.
    Nobody would replace or remove them there any more.
    Remedy: give the target another name, which begins without rows, and remove the rows at the former place by hand. Or
    put back what has changed.
    """

    pipeline: str
    target: str

    def message(self) -> str:
        return (
            f"`{self.target}` in `deliver` of `{self.pipeline}` has rows at another place than the spec says. "
            "Give it another name, and remove the rows at the former place by hand, or put back its `kind`, `path`, "
            "`connection`, `table` or `schema`."
        )


@dataclass(eq=False)
class DeliveryTakenOver(TerminalError):
    """This process may deliver no more to the target.

    Cause: it was silent for longer than its lease, and another process has taken the target.
    Remedy: none. The other process goes on from what was acknowledged.
    """

    target: str

    def message(self) -> str:
        return f"another process has taken over the deliveries to `{self.target}`. It goes on with them."


@dataclass(eq=False)
class AddressRefused(TerminalError):
    """The address of a receiver is not one that rows may be sent to.

    Cause: it is no `https` address, or its host is on this machine or in a private network.
    Remedy: correct the address. For a receiver in a network that you trust, write `private_address: true`.
    """

    target: str
    reason: str

    def message(self) -> str:
        return (
            f"`{self.target}` is not delivered to: {self.reason}. Correct its `url`, or write `private_address: true` "
            "if you trust the network."
        )


@dataclass(eq=False)
class KeyNotDeliverable(TerminalError):
    """A row has a key that cannot be written as JSON.

    Cause: a column of the key is an infinite or undefined number, and JSON has none.
    Remedy: leave the rows out at the source, or out of the delivery with `where`.
    """

    target: str
    column: str

    def message(self) -> str:
        return (
            f"`{self.target}` cannot get a row whose key column `{self.column}` is no finite number, because JSON has "
            "none. Leave such rows out at the source, or with `where`."
        )


@dataclass(eq=False)
class MergeRefused(TerminalError):
    """Scores cannot be merged into a table as they are. Nothing was changed there.

    Cause: a column is missing, has a type that would change the values, or may not be NULL; a key is in more than one
        row; or a newer delivery of the interval was merged before.
    Remedy: follow the message: change the table, or `on` and `set` of the target. See docs/delivery.md.
    """

    target: str
    table: str
    reason: str
    remedy: str

    def message(self) -> str:
        return f"`{self.target}` cannot be merged into `{self.table}`: {self.reason}. {self.remedy.rstrip('.')}."


@dataclass(eq=False)
class ColumnNotDeliverable(TerminalError):
    """A column has a value that its type in the target's files or table cannot hold.

    Cause: a number has more than 10 digits after the point, or more than 28 before it, and its column declares none.
    Or a value is not of the type of its column.
    Remedy: round or cast it in the features query, or leave the column out with `columns`.
    """

    target: str
    column: str
    kind: str

    def message(self) -> str:
        return (
            f"`{self.target}` cannot get the column `{self.column}`, because one of its values is no {self.kind}. "
            "Round or cast it in the features query, or leave the column out with `columns`."
        )


@dataclass(eq=False)
class PlaceRefused(TerminalError):
    """A folder or an object store does not take the rows of a target.

    Cause: the disk is full, the right to write is missing, the bucket does not exist, or the store does not answer.
    Remedy: correct `path` or `connection`, make room, or give the right to write there. The next run tries again.
    """

    target: str
    reason: str
    passing: bool
    """Whether the same may succeed later."""

    def message(self) -> str:
        return f"`{self.target}` cannot be written: {self.reason}. Correct its place, or the right to write there."


@dataclass(eq=False)
class PointerRefused(TerminalError):
    """A pointer, or a Delta table, is not this target's to move.

    Cause: it belongs to another pipeline or target, or to another ledger, or it has a delivery that the ledger does not
    know: another ledger writes to the same place, or the ledger was restored from an older copy or made anew.
    Remedy: give each target of each ledger a place of its own. After a restore, give the target another name and place,
    or remove what is refused and deliver its runs with `--again`.
    """

    target: str
    pointer: str
    reason: str

    def message(self) -> str:
        return (
            f"`{self.target}` does not move `{self.pointer}`: {self.reason}. "
            "Give each target of each ledger a place of its own. If the ledger was restored from an older copy or made "
            "anew, give the target another name and place, or remove what is there and deliver its runs again with "
            "`penstock deliver run RUN_ID --again`."
        )


@dataclass(eq=False)
class DeliveryFailed(TerminalError):
    """Targets did not get all live rows.

    Cause: a receiver did not answer, or refused a batch. What was published stays published.
    Remedy: read the reply. The next run delivers what is missing, and so does `penstock deliver run`.
    """

    pipeline: str
    failures: tuple[str, ...]
    """One for each target."""

    def message(self) -> str:
        return (
            f"`{self.pipeline}` is not delivered everywhere: {'; '.join(self.failures).removesuffix('.')}. "
            "The next run tries again, and so does `penstock deliver run`."
        )
