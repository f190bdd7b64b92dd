"""Groups of rows that a ranking model orders among each other: brought together, and never cut in two."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Groups = npt.NDArray[np.int64]


def gather_groups(frame: pa.Table, group: Sequence[str]) -> tuple[pa.Table, Groups]:
    """Bring the rows of each group together, groups in the order of their first rows.

    Args:
        group: Columns whose rows with equal values are one group; NULL is a value of its own.

    Returns:
        The rows, and the number of each row's group, ascending.
    """
    numbers: Any = frame.select(list(group)).to_pandas().groupby(list(group), sort=False, dropna=False).ngroup()
    groups = numbers.to_numpy().astype(np.int64)
    order = np.argsort(groups, kind="stable")
    return frame.take(pa.array(order, pa.int64())), groups[order]


def cut_between_groups(groups: Groups, cut: int) -> int:
    """Move a cut down to where the group of the row behind it begins."""
    return int(np.searchsorted(groups, groups[cut])) if 0 < cut < len(groups) else cut
