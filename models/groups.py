"""Groups of rows for a ranking model: each group's rows are put together and never split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Groups = npt.NDArray[np.int64]


def gather_groups(frame: pa.Table, group: Sequence[str]) -> tuple[pa.Table, Groups]:
    """Put the rows of each group together, groups in the order of their first rows.

    Args:
        group: columns whose rows with equal values are one group; NULL is a value of its own.

    Returns:
        The rows, and the number of each row's group, ascending.
    """
    numbers: Any = frame.select(list(group)).to_pandas().groupby(list(group), sort=False, dropna=False).ngroup()
    groups = numbers.to_numpy().astype(np.int64)
    order = np.argsort(groups, kind="stable")
    return frame.take(pa.array(order, pa.int64())), groups[order]


def cut_between_groups(groups: Groups, cut: int) -> int:
    """Move a cut down to the start of the group that it would split."""
    return int(np.searchsorted(groups, groups[cut])) if 0 < cut < len(groups) else cut
