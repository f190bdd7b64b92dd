"""The rows that `reasons.when` chooses. Of all partitions together no more are kept than the budget explains."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class KeptRows:
    """Rows of one schema that are kept to be explained."""

    rows: pa.Table
    """Key columns, and the columns that the deciding model takes."""
    hashes: Hashes
    """Of shape (rows): the hash of each row's key."""

    def up_to(self, most: int) -> Self:
        """Return the rows with at most that hash."""
        below = self.hashes <= most
        if below.all():
            return self
        return type(self)(self.rows.filter(pa.array(below)).combine_chunks(), self.hashes[below])


@dataclass(frozen=True)
class ChosenRows:
    """The rows that `when` has chosen so far. Those with the lowest hashes are kept, at most `limit` of them."""

    total: int = 0
    """Rows that were chosen and scored, with those that are not kept."""
    limit: int = 0
    """Most rows that the budget explains."""
    kept: tuple[KeptRows, ...] = ()

    @property
    def kept_rows(self) -> int:
        """The number of kept rows."""
        return sum(len(each.hashes) for each in self.kept)

    @property
    def over_budget(self) -> int:
        """The number of rows that are not kept."""
        return self.total - self.kept_rows

    def add(self, other: Self | None) -> Self:
        """Return these rows with those of another partition, cut to the limit. The order of partitions is all one."""
        if other is None or not other.total:
            return self
        if not self.total:
            return other
        return type(self)(self.total + other.total, self.limit, _cut((*self.kept, *other.kept), self.limit))


def keep_rows(rows: pa.Table, hashes: list[int], limit: int) -> ChosenRows:
    """Keep of a partition's chosen rows those with the lowest hashes.

    Args:
        hashes: of shape (rows), from 0 to below 2^64.
        limit: Most rows to keep.
    """
    block = KeptRows(rows, np.array(hashes, np.uint64))
    return ChosenRows(rows.num_rows, limit, _cut((block,), limit))


def _cut(blocks: tuple[KeptRows, ...], limit: int) -> tuple[KeptRows, ...]:
    """Keep the rows whose hash is among the lowest ones. Equal hashes are kept or left together."""
    hashes = np.concatenate([np.empty(0, np.uint64), *(block.hashes for block in blocks)])
    if len(hashes) > limit:
        first_out = np.partition(hashes, limit)[limit]
        lower = hashes[hashes < first_out]
        blocks = tuple(block.up_to(lower.max()) for block in blocks) if len(lower) else ()
    return _join(tuple(block for block in blocks if len(block.hashes)))


def _join(blocks: tuple[KeptRows, ...]) -> tuple[KeptRows, ...]:
    """Put the rows of one schema together. Partitions of a source without types may differ in theirs."""
    alike: dict[Any, list[KeptRows]] = {}
    for block in blocks:
        alike.setdefault(tuple((field.name, field.type) for field in block.rows.schema), []).append(block)
    return tuple(
        KeptRows(pa.concat_tables([b.rows for b in same]), np.concatenate([b.hashes for b in same]))
        for same in alike.values()
    )
