"""Write what an expectation observed. Values of the data become text only here, and private ones do not."""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.privacy.masking import HIDDEN, MaskingPolicy
from penstock.spec.expectation import Expectation

_SAMPLES = 3
_SAMPLE_WIDTH = 40


def describe_samples(
    table: pa.Table, expectation: Expectation, positions: Sequence[int], masking: MaskingPolicy
) -> str:
    """Write a few values of the rows at these positions. Nothing if they are private, or all NULL."""
    if masking.hides(expectation.columns):
        return ""
    columns = [table[name] for name in expectation.columns]
    picked = [tuple(column[p].as_py() for column in columns) for p in positions[:20]]
    values = [row[0] if len(row) == 1 else row for row in picked if any(v is not None for v in row)]
    return f"e.g. {_show(values)}" if values else ""


def describe_observed(
    result: Mapping[str, Any], expectation: Expectation, *, success: bool, masking: MaskingPolicy
) -> str:
    """Write what an expectation about whole columns observed. Nothing if its counts say it all."""
    if "element_count" in result:
        return "all values expected" if success and not result.get("unexpected_count") else ""
    if masking.hides(expectation.columns):
        return f"observed {HIDDEN}"
    unexpected, missing = result.get("partial_unexpected_list"), result.get("partial_missing_list")
    if unexpected or missing:
        parts = (("unexpected", unexpected), ("missing", missing))
        return ", ".join(f"{word} {_show(values)}" for word, values in parts if values)
    observed = result.get("observed_value")
    if isinstance(observed, dict):
        observed = observed.get("values", observed)
    if observed is None:
        return "all values expected" if success else "observed no value"
    return f"observed {_show(observed if isinstance(observed, list) else [observed])}"


def _show(values: Sequence[Any]) -> str:
    shown = list(dict.fromkeys(_show_one(value) for value in values))[:_SAMPLES]
    return ", ".join(text if len(text) <= _SAMPLE_WIDTH else text[: _SAMPLE_WIDTH - 1] + "…" for text in shown)


def _show_one(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_show_one, value))})"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if isinstance(value, Decimal) else repr(value)
