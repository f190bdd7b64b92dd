"""Seals that cannot be checked."""

from dataclasses import dataclass

from penstock.errors.base import UsageError


@dataclass(eq=False)
class SealKeyUnknown(UsageError):
    """Rows are sealed under a key that is not set.

    Cause: PENSTOCK_SEAL_KEY is another one than when the rows were scored, or the former key was removed too early.
    Remedy: set PENSTOCK_SEAL_KEY, or PENSTOCK_SEAL_KEY_OLD, to the key with the ID that the message names.
    """

    where: str
    key_ids: tuple[str, ...]
    """Those that the rows name."""
    known: tuple[str, ...]
    """Those of the keys that are set."""

    def message(self) -> str:
        named = " and ".join(self.key_ids)
        return (
            f"{self.where}: rows are sealed under the key {named}, and the keys that are set are "
            f"{' and '.join(self.known)}. Set PENSTOCK_SEAL_KEY to the key of the rows, or PENSTOCK_SEAL_KEY_OLD if it "
            "is the former one. No row was read."
        )
