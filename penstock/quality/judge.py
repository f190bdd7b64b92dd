"""Judge one stage by its expectations: a partition's rows, the interval's shares, the interval as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd
import pyarrow as pa

from penstock.errors import Problem, SpecError, nearest
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.quality.describe import describe_observed, describe_samples
from penstock.quality.engine import Evaluation, InvalidArguments, build_expectation, run_expectations
from penstock.quality.frames import View, find_broken_json, fit_arguments, make_frame, view_of
from penstock.run_types import Unit, Validation, Verdict
from penstock.spec.expectation import Expectation
from penstock.spec.expectation_types import ROW_COUNT_TYPES, SCHEMA_TYPES, Outcome, Severity
from penstock.wording import plural

_REACTIONS: dict[Severity, Outcome] = {"critical": "halted", "warning": "quarantined", "info": "noted"}


def columns_needed(expectations: Sequence[Expectation]) -> tuple[str, ...]:
    """Return the columns that the aggregate expectations read, sorted."""
    return tuple(sorted({c for e in expectations if e.is_aggregate for c in e.columns}))


def judge_rows(
    stage: str,
    table: pa.Table,
    expectations: Sequence[Expectation],
    partition: int = -1,
    masking: MaskingPolicy = NO_MASKING,
) -> Verdict:
    """Judge each row of one batch by the row expectations among those given.

    A share (`mostly`) is not judged here but by `judge_shares`, over all partitions of the interval.

    Raises:
        SpecError: an expectation names a column that does not exist, or cannot be judged on these types.
    """
    chosen = [e for e in expectations if e.is_row]
    evaluations = _find(stage, table, chosen, positions=True)
    validations = []
    refused: dict[int, list[str]] = {}
    for expectation, evaluation in zip(chosen, evaluations, strict=True):
        validations.append(_validate_rows(stage, table, expectation, evaluation, partition, masking))
        if validations[-1].outcome == "quarantined":
            for position in evaluation.positions:
                refused.setdefault(position, []).append(expectation.label)
    return Verdict(tuple(validations), {position: tuple(refused[position]) for position in sorted(refused)})


def _validate_rows(
    stage: str, table: pa.Table, expectation: Expectation, found: "_Found", partition: int, masking: MaskingPolicy
) -> Validation:
    outcome: Outcome = "passed"
    observed = ""
    if found.unexpected:
        outcome = _REACTIONS[expectation.severity]
        observed = describe_samples(table, expectation, found.positions, masking)
        if "mostly" in expectation.arguments:
            outcome = "noted"
            observed = "; ".join(filter(None, (observed, "its share is judged in the audit")))
    elif not found.evaluated:
        outcome = "vacuous"
    return Validation(
        stage,
        expectation.label,
        expectation.severity,
        found.evaluated,
        found.unexpected,
        outcome,
        observed,
        partition,
    )


def judge_shares(
    expectations_by_stage: Mapping[str, Sequence[Expectation]], validations: Sequence[Validation]
) -> tuple[Validation, ...]:
    """Judge the row expectations with `mostly` by their share over all partitions of the interval."""
    return tuple(
        _validate_share(stage, expectation, validations)
        for stage, expectations in expectations_by_stage.items()
        for expectation in expectations
        if expectation.is_row and "mostly" in expectation.arguments
    )


def _validate_share(stage: str, expectation: Expectation, validations: Sequence[Validation]) -> Validation:
    parts = [v for v in validations if (v.stage, v.expectation) == (stage, expectation.label)]
    evaluated, unexpected = sum(v.evaluated for v in parts), sum(v.unexpected for v in parts)
    # From the text, since 1 - 0.9 as floats is less than 0.1, and 10 rows of 100 would be too many.
    mostly = Fraction(str(expectation.arguments["mostly"]))
    outcome: Outcome = "passed" if evaluated else "vacuous"
    if evaluated - unexpected < mostly * evaluated:
        outcome = _REACTIONS[expectation.severity]
    observed = ""
    if unexpected:
        share, allowed = unexpected / evaluated, float(1 - mostly)
        observed = f"{share:.4%} where {allowed:.4%} are allowed"
    return Validation(stage, expectation.label, expectation.severity, evaluated, unexpected, outcome, observed)


def judge_whole(
    stage: str,
    sample: pa.Table,
    rows: int,
    columns: Sequence[str],
    expectations: Sequence[Expectation],
    sampled: bool = False,
    masking: MaskingPolicy = NO_MASKING,
) -> Verdict:
    """Judge the interval as a whole by the expectations that are not about single rows.

    Args:
        stage: the stage that the rows belong to.
        sample: the columns of `columns_needed`, all rows or a uniform sample of them.
        rows: exact number of rows.
        columns: the stage's columns, in order.
        expectations: the stage's; those about rows are ignored here, `judge_rows` judges them.
        sampled: whether `sample` has fewer than all rows.
        masking: which values must not be shown.

    Raises:
        SpecError: an expectation names a column that does not exist, or cannot be judged on these types.
    """
    aggregates = [e for e in expectations if e.is_aggregate]
    sample_note = f"on a sample of {plural(sample.num_rows, 'row')}" if sampled else ""
    judged = dict(zip(map(id, aggregates), _find(stage, sample, aggregates, positions=False), strict=True))
    validations = []
    for expectation in expectations:
        if expectation.type in ROW_COUNT_TYPES:
            validations.append(_validate_count(stage, expectation, rows))
        elif expectation.type in SCHEMA_TYPES:
            validations.append(_validate_schema(stage, expectation, columns))
        elif expectation.is_aggregate:
            validations.append(_validate_aggregate(stage, expectation, judged[id(expectation)], sample_note, masking))
    return Verdict(tuple(validations))


def _validate_aggregate(
    stage: str, expectation: Expectation, found: "_Found", sample_note: str, masking: MaskingPolicy
) -> Validation:
    outcome: Outcome = "passed"
    if not found.success:
        outcome = _REACTIONS[expectation.severity]
    elif not found.evaluated:
        outcome = "vacuous"
    observed = ""
    if found.result:
        observed = describe_observed(found.result, expectation, success=found.success, masking=masking)
        observed = ", ".join(filter(None, (observed, sample_note)))
    counts = found.evaluated, found.unexpected
    unit: Unit = "rows" if "element_count" in found.result else "values"
    return Validation(stage, expectation.label, expectation.severity, *counts, outcome, observed, unit=unit)


def _validate_count(stage: str, expectation: Expectation, rows: int) -> Validation:
    """Compare the exact count here, since the engine needs a frame of that many rows."""
    arguments = expectation.arguments
    if expectation.type == "expect_table_row_count_to_equal":
        holds = rows == arguments["value"]
    else:
        low, high = arguments.get("min_value"), arguments.get("max_value")
        above = low is None or (rows > low if arguments.get("strict_min") else rows >= low)
        below = high is None or (rows < high if arguments.get("strict_max") else rows <= high)
        holds = above and below
    outcome: Outcome = "passed" if holds else _REACTIONS[expectation.severity]
    return Validation(
        stage, expectation.label, expectation.severity, rows, 0, outcome, f"observed {plural(rows, 'row')}"
    )


def _validate_schema(stage: str, expectation: Expectation, columns: Sequence[str]) -> Validation:
    built = _build(stage, expectation, expectation.arguments)
    evaluation = run_expectations(pd.DataFrame(columns=list(columns)), [built], positions=False)[0]
    if evaluation.broken:
        raise _spec_error(stage, expectation, evaluation.broken)
    outcome: Outcome = "passed" if evaluation.success else _REACTIONS[expectation.severity]
    shown = ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
    observed = f"observed {plural(len(columns), 'column')}: {shown}"
    return Validation(stage, expectation.label, expectation.severity, len(columns), 0, outcome, observed)


# --- one pass of the engine --------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """One expectation's evaluation, with its counts."""

    success: bool
    evaluated: int
    unexpected: int
    positions: Sequence[int]
    result: Mapping[str, Any]


_NOTHING = _Found(success=True, evaluated=0, unexpected=0, positions=(), result={})


def _find(stage: str, table: pa.Table, expectations: Sequence[Expectation], *, positions: bool) -> list[_Found]:
    """Judge a table by each expectation. One pass of the engine for each view of the columns."""
    _require_columns(stage, table, expectations)
    if not table.num_rows:
        return [_NOTHING] * len(expectations)
    found: dict[int, _Found] = {}
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


def _require_columns(stage: str, table: pa.Table, expectations: Sequence[Expectation]) -> None:
    known = table.column_names
    problems = tuple(
        Problem(0, e.label, f"`{stage}` has no column `{c}`.{nearest(c, known)}")
        for e in expectations
        for c in e.columns
        if c not in known
    )
    if problems:
        raise SpecError(f"stage {stage}", problems)


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
) -> _Found:
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
    return _Found(evaluation.success, evaluated, unexpected, where, result)
