"""Judge a table by Great Expectations: it is the reference, and judges what is not compiled."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from penstock.errors import Problem, SpecError
from penstock.quality.engine import Evaluation, InvalidArguments, build_expectation, run_expectations
from penstock.quality.found import Found
from penstock.quality.frames import View, find_broken_json, fit_arguments, make_frame, view_of
from penstock.spec.expectation import Expectation


def find(stage: str, table: pa.Table, expectations: Sequence[Expectation], *, positions: bool) -> list[Found]:
    """Judge a table that is not empty by each expectation. One pass of the engine for each view of the columns.

    Raises:
        SpecError: an expectation cannot be judged on these types.
    """
    found: dict[int, Found] = {}
    views: dict[View, list[int]] = {}
    for index, expectation in enumerate(expectations):
        views.setdefault(view_of(expectation.type), []).append(index)
    for view, indexes in views.items():
        chosen = [expectations[i] for i in indexes]
        frame = make_frame(table, (c for e in chosen for c in e.columns), view)
        built = [_build(stage, e, _fitted(stage, e, table, positions=positions), n) for n, e in enumerate(chosen)]
        for index, evaluation in zip(indexes, run_expectations(frame, built, positions=positions), strict=True):
            expectation = expectations[index]
            if evaluation.broken:
                raise _spec_error(stage, expectation, evaluation.broken)
            found[index] = _count(table, frame, expectation, evaluation, positions=positions)
    return [found[index] for index in range(len(expectations))]


def _fitted(stage: str, expectation: Expectation, table: pa.Table, *, positions: bool) -> dict[str, Any]:
    try:
        fitted = fit_arguments(expectation, table)
    except ValueError as error:
        raise _spec_error(stage, expectation, str(error)) from None
    if positions:
        fitted.pop("mostly", None)
    return fitted


def _build(stage: str, expectation: Expectation, arguments: Mapping[str, Any], position: int = 0) -> Any:
    try:
        return build_expectation(expectation.type, expectation.severity, arguments, position)
    except InvalidArguments as error:
        raise _spec_error(stage, expectation, str(error)) from None


def _spec_error(stage: str, expectation: Expectation, reason: str) -> SpecError:
    return SpecError(f"stage {stage}", (Problem(0, expectation.label, f"cannot be judged: {reason}"),))


def _count(
    table: pa.Table, frame: pd.DataFrame, expectation: Expectation, evaluation: Evaluation, *, positions: bool
) -> Found:
    result = evaluation.result
    if "element_count" in result:
        evaluated = int(result["element_count"]) - int(result.get("missing_count") or 0)
    elif expectation.type == "expect_column_proportion_of_non_null_values_to_be_between":
        evaluated = table.num_rows
    else:
        evaluated = int(frame[list(expectation.columns)].notna().all(axis=1).sum())
    unexpected = int(result.get("unexpected_count") or 0)
    where = evaluation.positions if positions else ()
    if view_of(expectation.type) == "json":
        broken = find_broken_json(table[expectation.columns[0]])
        where = sorted([*where, *broken])
        evaluated, unexpected = evaluated + len(broken), unexpected + len(broken)
    return Found(evaluation.success, evaluated, unexpected, where, result)
