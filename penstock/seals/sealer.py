"""Seal the rows of a run, and compute what a seal must be.

A row's seal is `key id.features.digest`. `features` is a keyed digest of the feature row. `digest` is an HMAC-SHA256
over the run, its models, the partition, `features` and the stored row. A partition's root is an HMAC over the sorted
digests of its rows and the tags of their keys, so it does not depend on the order of the rows. A run's root is an HMAC
over the roots of its partitions and the place of its rows.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from penstock.privacy.secret_keys import SecretKey
from penstock.run_types import Pins, ScoringRun
from penstock.seals.row_text import Kind, write_rows
from penstock.spec.column_names import OWN_COLUMNS

Place = tuple[str, str]
"""The destination of a run, as the ledger names it, and its table, as the spec names it."""
_FEATURE_BYTES = 16
TAG_DIGITS = 16
_DIGEST_DIGITS = 64


@dataclass(frozen=True)
class PartitionSeal:
    """What the ledger keeps of a sealed partition."""

    partition: int
    key_id: str
    rows: int
    root: str
    tags: str
    """One keyed digest for each key, sorted and joined."""

    def list_tags(self) -> Counter[str]:
        """Return each tag with its number."""
        return Counter(self.tags[at : at + TAG_DIGITS] for at in range(0, len(self.tags), TAG_DIGITS))


@dataclass(frozen=True)
class RowSeal:
    """A row's seal, taken apart."""

    key_id: str
    features: str
    digest: str


def read_seal(text: object) -> RowSeal | None:
    """Take a stored seal apart. None if it is no seal."""
    parts = text.split(".") if isinstance(text, str) else []
    lengths = [2 * _FEATURE_BYTES, _DIGEST_DIGITS]
    return RowSeal(*parts) if [len(part) for part in parts[1:]] == lengths else None


def read_digest(text: str) -> str:
    """Return the digest of a seal that was made just now."""
    return text.rpartition(".")[2]


@dataclass(frozen=True)
class Sealer:
    """Makes the seals of one run under one key."""

    key: SecretKey
    run_id: str
    models: str
    """The versions and digests of all steps."""
    interval: str
    """The key of its interval."""

    def seal_rows(self, partition: int, rows: pa.Table, features: pa.Table) -> "pa.Array[Any]":
        """Return the seal of each row.

        Args:
            rows: Key, outputs, decisions and kept columns, as the history table stores them.
            features: The features of these rows, in the same order.
        """
        shown = self._digest_features(features)
        digests = self.digest_rows(partition, write_rows(rows), shown)
        return pa.array([f"{self.key.id}.{f}.{d}" for f, d in zip(shown, digests, strict=True)], pa.string())

    def _digest_features(self, features: pa.Table) -> list[str]:
        base = self._begin("features")
        return [_finish(base, row)[: 2 * _FEATURE_BYTES] for row in write_rows(features)]

    def digest_rows(self, partition: int, rows: Sequence[bytes], features: Sequence[str]) -> list[str]:
        """Return the digest that each row must have.

        Args:
            rows: Each row as bytes (`row_text`).
            features: The digests of their features.
        """
        base = self._begin("row", self.models, str(partition))
        return [_finish(base, f.encode() + row) for f, row in zip(features, rows, strict=True)]

    def tag_keys(self, keys: pa.Table, kinds: Mapping[str, Kind] | None = None) -> list[str]:
        """Return a keyed digest for each key."""
        base = self._begin("key")
        return [_finish(base, row)[:TAG_DIGITS] for row in write_rows(keys, kinds)]

    def seal_partition(self, partition: int, digests: Iterable[str], tags: Iterable[str]) -> PartitionSeal:
        """Return the seal of a partition, whatever the order of its rows."""
        listed, joined = sorted(digests), "".join(sorted(tags))
        hashed = hashlib.sha256("".join(listed).encode()).hexdigest(), hashlib.sha256(joined.encode()).hexdigest()
        root = _finish(self._begin("partition", str(partition), str(len(listed))), "".join(hashed).encode())
        return PartitionSeal(partition, self.key.id, len(listed), root, joined)

    def seal_run(self, sealed: Iterable[PartitionSeal], place: Place | None) -> str:
        """Return the root of a run, as `key id.digest`.

        Args:
            place: None: the root of the first version, which does not cover it.
        """
        lines = "".join(
            f"{each.partition}:{each.key_id}:{each.rows}:{each.root}\n"
            for each in sorted(sealed, key=lambda each: each.partition)
        )
        about = (self.models, self.interval)
        base = self._begin("run", *about) if place is None else self._begin("placed run", *about, *place)
        return f"{self.key.id}.{_finish(base, lines.encode())}"

    def prove_erasure(self, partition: int, seal: str, tag: str) -> str:
        """Return what shows that the holder of the key erased a row, as `key id.digest`."""
        return f"{self.key.id}.{_finish(self._begin('erased', str(partition), seal, tag), b'')}"

    def _begin(self, *about: str) -> hmac.HMAC:
        """Begin an HMAC with its purpose and the run. The parts have no NUL, so the text shows where each ends."""
        text = "\0".join(("penstock 1", *about, self.run_id, "\0"))
        return hmac.new(self.key.secret, text.encode(), hashlib.sha256)


def _finish(base: hmac.HMAC, message: bytes) -> str:
    made = base.copy()
    made.update(message)
    return made.hexdigest()


def describe_models(pins: Pins) -> str:
    """Return the versions and digests of all steps in one text."""
    return ",".join(f"{pin}@{pin.digest}" for pin in pins.values())


def sealer_of(key: SecretKey, run: ScoringRun) -> Sealer:
    """Return the sealer of a run that scores."""
    return Sealer(key, run.run_id, describe_models(run.steps or {"score": run.model}), run.interval_key)


def without_own(columns: Iterable[str]) -> list[str]:
    """Return the columns of the history table that a seal covers."""
    return [column for column in columns if column not in OWN_COLUMNS]
