"""Size partitions, and their number at once, to keep a process within `PENSTOCK_MEMORY`."""

import json
import math
import re
from dataclasses import asdict, dataclass, fields

from penstock.errors import MemoryTooSmall
from penstock.resources.usage import format_bytes
from penstock.wording import plural

RESERVE = 0.1
"""Share of the limit that stays free, for wider rows and for memory that allocators keep."""
AUDIT_COPIES = 3
"""The audit has its columns three times: as received, as one table, and as a frame."""
CHOSEN_COPIES = 3
"""The rows to explain are there three times: as kept before, as received, and as kept after."""
GOOD_ROWS = 10_000
"""Smaller partitions spend more time on overhead than on rows, so fewer run at once before they get smaller."""
LEAST_ROWS = 1_000
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b?)", re.IGNORECASE)


@dataclass(frozen=True)
class MemoryProfile:
    """Memory of a pipeline's partitions, measured with the first rows of its source."""

    base_bytes: int
    """Memory of the process without partitions: libraries and the model."""
    partition_bytes: int
    """Memory of a partition that does not depend on its rows: the other sources."""
    row_bytes: float
    """Peak memory of a row between reading and loading."""
    audit_row_bytes: float
    """Memory of a row that is kept for the audit."""
    chosen_row_bytes: float = 0.0
    """Memory of a row that is kept to be explained, with its reasons."""


@dataclass(frozen=True)
class MemoryPlan:
    """Partition size and number at once for a memory limit, with the measurement behind them."""

    limit_bytes: int
    footprint: MemoryProfile
    partition_rows: int
    in_flight: int
    """Partitions at once in one process."""

    def describe(self) -> str:
        """Describe the plan in one line."""
        held, row = format_bytes(self.footprint.base_bytes), format_bytes(round(self.footprint.row_bytes))
        at_once = "one at a time" if self.in_flight == 1 else f"{self.in_flight} at once"
        return (
            f"{format_bytes(self.limit_bytes)} allow partitions of {plural(self.partition_rows, 'row')}, {at_once}: "
            f"without one the process holds {held}, and a row takes {row}"
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_fit(text: str) -> MemoryPlan:
    """Read the JSON that `MemoryPlan.to_json` wrote."""
    plan = json.loads(text)
    known = plan["footprint"]  # runs of 0.1 explained no rows
    footprint = MemoryProfile(**{f.name: known[f.name] for f in fields(MemoryProfile) if f.name in known})
    return MemoryPlan(plan["limit_bytes"], footprint, plan["partition_rows"], plan["in_flight"])


@dataclass(frozen=True)
class RequestedLoad:
    """The load of a run if memory had no limit."""

    pipeline: str
    rows: int
    partition_rows: int
    in_flight: int
    """Partitions at once in one process."""
    audit_rows: int
    group_rows: int = 0
    """Rows of the largest value of `partition_by`, which must fit into one partition."""
    chosen_rows: int = 0
    """Most rows that are kept to be explained."""


def fit_partitions(limit: int, footprint: MemoryProfile, wanted: RequestedLoad) -> MemoryPlan:
    """Choose the size of partitions and the number in flight.

    Partitions get smaller, down to 10,000 rows, then fewer are in flight. If only one is left, it may have as few as
    1,000 rows. So `partition_rows` and `in_flight` are upper bounds, and

    limit * 0.9 >= base + kept + in_flight * (other sources + partition_rows * bytes a row)
    kept = 3 * audit columns + 3 * rows to explain

    Raises:
        MemoryTooSmall: not even one partition of the smallest size fits.
    """
    kept_bytes = AUDIT_COPIES * footprint.audit_row_bytes * min(wanted.rows, wanted.audit_rows)
    kept_bytes += CHOSEN_COPIES * footprint.chosen_row_bytes * min(wanted.rows, wanted.chosen_rows)
    room = limit * (1 - RESERVE) - footprint.base_bytes - kept_bytes
    most = max(min(wanted.partition_rows, wanted.rows), 1)
    enough = max(GOOD_ROWS, wanted.group_rows)
    for at_once, least in (*((n, enough) for n in range(wanted.in_flight, 0, -1)), (1, LEAST_ROWS)):
        size = math.floor((room / at_once - footprint.partition_bytes) / max(footprint.row_bytes, 1.0))
        if size >= min(least, most):
            return MemoryPlan(limit, footprint, min(size, wanted.partition_rows), at_once)
    partition = footprint.partition_bytes + min(LEAST_ROWS, most) * footprint.row_bytes
    needed = math.ceil((footprint.base_bytes + kept_bytes + partition) / (1 - RESERVE))
    held = footprint.base_bytes
    raise MemoryTooSmall(wanted.pipeline, limit, needed, held, round(kept_bytes), round(partition))


def read_size(text: object) -> object:
    """Read a size as people write it: `1GiB`, `2g` and `512Mi` are binary, `512MB` is decimal, a number is bytes."""
    if not isinstance(text, str) or not text.strip():
        return text or None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"`{text}` is not a size; write it like `1GiB`, `512MB` or `2g`")
    number, unit, rest = float(found[1]), found[2].lower(), found[3].lower()
    factor = 1000 ** ("kmgt".index(unit) + 1) if unit and rest == "b" else _UNITS[unit]
    return round(number * factor)
