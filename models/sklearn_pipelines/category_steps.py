"""SQL of scikit-learn's encoders of categories."""

from collections.abc import Sequence
from typing import Any

from penstock.models.sklearn_pipelines.sql_columns import (
    REFUSED_VALUE,
    SqlColumn,
    any_of,
    is_missing,
    number,
    untranslated,
)


def translate_one_hot(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    """Write a OneHotEncoder: a column for each category, and one for the infrequent ones."""
    encoded: list[SqlColumn] = []
    for position, (column, categories) in enumerate(zip(columns, _categories(step, columns), strict=True)):
        frequent, infrequent = _split(step, position, categories)
        known = any_of(column, categories)
        unknown_is_infrequent = bool(infrequent) and step.handle_unknown in ("infrequent_if_exist", "warn")
        refused = f"when not {known} then {REFUSED_VALUE} " if step.handle_unknown == "error" else ""
        dropped = step.drop_idx_[position] if step.drop_idx_ is not None else None
        leave_out = None if dropped is None else categories[int(dropped)]
        for value in frequent:
            if dropped is None or not _same(value, leave_out):
                is_value = any_of(column, [value])
                encoded.append(
                    SqlColumn(f"{column.name}_{value}", f"case {refused}when {is_value} then 1e0 else 0e0 end")
                )
        if infrequent and (dropped is None or not any(_same(value, leave_out) for value in infrequent)):
            is_infrequent = f"not {any_of(column, frequent)}" if unknown_is_infrequent else any_of(column, infrequent)
            sql = f"case {refused}when {is_infrequent} then 1e0 else 0e0 end"
            encoded.append(SqlColumn(f"{column.name}_infrequent", sql))
    return encoded


def translate_ordinal(step: Any, columns: Sequence[SqlColumn]) -> list[SqlColumn]:
    """Write an OrdinalEncoder: the position of a category, then one for the infrequent ones. NaN has its own value."""
    encoded: list[SqlColumn] = []
    for position, (column, categories) in enumerate(zip(columns, _categories(step, columns), strict=True)):
        frequent, infrequent = _split(step, position, categories)
        coded = [value for value in frequent if not _is_nan(value)]
        cases = [f"when {any_of(column, [value])} then {number(code)}" for code, value in enumerate(coded)]
        cases += [f"when {any_of(column, infrequent)} then {number(len(coded))}"] if infrequent else []
        if len(coded) < len(frequent):
            cases.append(f"when {column.sql} is null then {number(step.encoded_missing_value)}")
        unknown = REFUSED_VALUE if step.handle_unknown == "error" else number(step.unknown_value)
        encoded.append(SqlColumn(column.name, f"case {' '.join(cases)} else {unknown} end"))
    return encoded


def _categories(step: Any, columns: Sequence[SqlColumn]) -> list[list[Any]]:
    """Return the categories of each column as Python's own values."""
    found = [[value.item() if hasattr(value, "item") else value for value in known] for known in step.categories_]
    for column, known in zip(columns, found, strict=True):
        if sum(map(is_missing, known)) > 1:
            untranslated(f"tells None from NaN in `{column.name}`, and a source has one NULL")
    return found


def _split(step: Any, position: int, categories: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the frequent and the infrequent categories."""
    given = step.infrequent_categories_[position] if getattr(step, "_infrequent_enabled", False) else None
    infrequent = [] if given is None else [v.item() if hasattr(v, "item") else v for v in given]
    frequent = [value for value in categories if not any(_same(value, other) for other in infrequent)]
    return frequent, infrequent


def _is_nan(value: Any) -> bool:
    """Return whether a category is NaN. None is a category as any other for an OrdinalEncoder."""
    return isinstance(value, float) and is_missing(value)


def _same(value: Any, other: Any) -> bool:
    return bool(value == other) or (is_missing(value) and is_missing(other))
