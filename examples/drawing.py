"""Turn drawn numbers into Arrow tables and timestamps."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[Any]


def columns(given: Mapping[str, Any]) -> pa.Table:
    """Make a table of NumPy, Arrow or plain columns. NaN is NULL."""
    return pa.table({name: _to_arrow(values) for name, values in given.items()})


def _to_arrow(values: Any) -> Any:
    return values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)


def moments(begin: datetime, seconds: Numbers) -> "pa.Array[Any]":
    """Turn seconds since the start of the data into timestamps."""
    return pa.array((int(begin.timestamp()) + seconds.astype(np.int64)) * 1_000_000, pa.int64()).cast(
        pa.timestamp("us", "UTC")
    )
