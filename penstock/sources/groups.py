"""Cut rows into partitions between the values of `partition_by`, so that no value's rows are in two partitions."""

from collections.abc import Iterable

from penstock.run_types import Bound, Partition, RowGroup


def pack_groups(
    groups: Iterable[tuple[Bound, int]], nulls: int, partition_rows: int
) -> tuple[tuple[Partition, ...], RowGroup | None]:
    """Fill partitions with whole groups, in their order, up to `partition_rows`. A larger group gets one of its own.

    Args:
        groups: each value and its number of rows, in the order of the values.
        nulls: rows without a value. They are a group too, and come first.

    Returns:
        The partitions, and the largest group.
    """
    lowest: list[Bound | None] = [None]
    sizes = [nulls]
    largest = RowGroup("NULL", nulls) if nulls else None
    for value, rows in groups:
        if sizes[-1] and sizes[-1] + rows > partition_rows:
            lowest.append(value)
            sizes.append(0)
        sizes[-1] += rows
        if largest is None or rows > largest.rows:
            largest = RowGroup(str(value), rows)
    if largest is None:
        return (), None
    edges = [*lowest, None]
    count = len(sizes)
    return tuple(Partition(i, count, edges[i], edges[i + 1], sizes[i]) for i in range(count)), largest
