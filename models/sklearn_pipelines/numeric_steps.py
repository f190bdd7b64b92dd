"""SQL of scikit-learn's imputers, scalers and bins."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.models.sklearn_pipelines.sql_columns import (
    NULL,
    REFUSED_VALUE,
    SqlColumn,
    check_numbers,
    is_missing,
    literal,
    number,
    untranslated,
)


def translate_imputer(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    """Write a SimpleImputer: the fill value where the value is missing. Columns without any value are left out."""
    filled = []
    for column, fill in zip(columns, step.statistics_, strict=True):
        if is_missing(fill):
            if not step.keep_empty_features:
                continue
            untranslated(f"keeps `{column.name}`, which had no value in training")
        value = literal(column, fill)
        if _is_null(step):
            sql = f"coalesce({column.sql}, {value})"
        else:
            sql = f"case when {_missing(step, column)} then {value} else {column.sql} end"
        filled.append(SqlColumn(column.name, sql, column.kind))
    return filled + (translate_indicator(step.indicator_, columns) if step.add_indicator else [])


def translate_indicator(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    """Write a MissingIndicator: 1 where the value is missing. It may refuse gaps that it has not seen in training."""
    seen = [int(position) for position in step.features_]
    unseen = [_missing(step, c) for position, c in enumerate(columns) if position not in seen]
    refuse = ""
    if step.features == "missing-only" and step.error_on_new and unseen:
        refuse = f"when {' or '.join(unseen)} then {REFUSED_VALUE} "
    return [
        SqlColumn(f"{c.name}_missing", f"case {refuse}when {_missing(step, c)} then 1e0 else 0e0 end")
        for c in (columns[position] for position in seen)
    ]


def _missing(step: Any, column: SqlColumn) -> str:
    """Return the condition under which a value is missing for the step."""
    if _is_null(step):
        return f"{column.sql} is null"
    return f"coalesce({column.sql} = {literal(column, step.missing_values)}, false)"


def _is_null(step: Any) -> bool:
    """Return whether the step's missing value is NaN, None or pandas' NA: NULL in a source."""
    return is_missing(step.missing_values) or type(step.missing_values).__name__ == "NAType"


def translate_standard_scaler(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    mean = step.mean_ if step.with_mean else None
    return _scaled(columns, mean, step.scale_ if step.with_std else None)


def translate_robust_scaler(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    return _scaled(columns, step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None)


def translate_max_abs_scaler(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    scaled = _scaled(columns, None, step.scale_)
    return [_clipped(column, -1.0, 1.0) for column in scaled] if getattr(step, "clip", False) else scaled


def translate_min_max_scaler(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    check_numbers(columns)
    scaled = [
        SqlColumn(c.name, f"({c.sql} * {number(scale)} + {number(offset)})")
        for c, scale, offset in zip(columns, step.scale_, step.min_, strict=True)
    ]
    return [_clipped(column, *step.feature_range) for column in scaled] if step.clip else scaled


def _scaled(columns: Sequence[SqlColumn], center: Any, scale: Any) -> list[SqlColumn]:
    """Subtract, then divide, in the order in which scikit-learn rounds."""
    check_numbers(columns)
    scaled = list(columns)
    if center is not None:
        scaled = [SqlColumn(c.name, f"({c.sql} - {number(value)})") for c, value in zip(scaled, center, strict=True)]
    if scale is not None:
        scaled = [SqlColumn(c.name, f"({c.sql} / {number(value)})") for c, value in zip(scaled, scale, strict=True)]
    return scaled


def _clipped(column: SqlColumn, low: float, high: float) -> SqlColumn:
    """Clip a number. `greatest` ignores NULL, so a missing value is a case of its own."""
    between = f"least(greatest({column.sql}, {number(low)}), {number(high)})"
    return SqlColumn(column.name, f"case when {column.sql} is null then {NULL} else {between} end")


def translate_bins(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    """Write a KBinsDiscretizer: the number of inner edges that a value has reached. It refuses a missing value."""
    check_numbers(columns)
    binned: list[SqlColumn] = []
    for column, edges, bins in zip(columns, step.bin_edges_, step.n_bins_, strict=True):
        reached = [f"({column.sql} >= {number(edge)})" for edge in np.asarray(edges)[1:-1]]
        bin_ = " + ".join(f"cast({condition} as double)" for condition in reached) or "0e0"
        refused = f"when {column.sql} is null then {REFUSED_VALUE}"
        if step.encode == "ordinal":
            binned.append(SqlColumn(column.name, f"case {refused} else {bin_} end"))
            continue
        binned += [
            SqlColumn(f"{column.name}_bin{at}", f"case {refused} when ({bin_}) = {at} then 1e0 else 0e0 end")
            for at in range(int(bins))
        ]
    return binned
