"""Judge one stage by its expectations: a partition's rows, the interval's shares, the interval as a whole."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import pyarrow as pa

from penstock.errors import Problem, SpecError, nearest
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.quality.aggregates import find_aggregates, judges_aggregate
from penstock.quality.describe import describe_observed, describe_samples
from penstock.quality.duckdb_judge import count_rows
from penstock.quality.found import NOTHING, Found
from penstock.quality.predicates import Predicate, compile_predicates
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
    if not chosen:
        return Verdict(())
    evaluations = _find_rows(stage, table, chosen)
    validations = []
    refused: dict[int, list[str]] = {}
    for expectation, evaluation in zip(chosen, evaluations, strict=True):
        validations.append(_validate_rows(stage, table, expectation, evaluation, partition, masking))
        if validations[-1].outcome == "quarantined":
            for position in evaluation.positions:
                refused.setdefault(position, []).append(expectation.label)
    return Verdict(tuple(validations), {position: tuple(refused[position]) for position in sorted(refused)})


def _validate_rows(
    stage: str, table: pa.Table, expectation: Expectation, found: Found, partition: int, masking: MaskingPolicy
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
    judged = dict(zip(map(id, aggregates), _find_values(stage, sample, aggregates), strict=True))
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
    stage: str, expectation: Expectation, found: Found, sample_note: str, masking: MaskingPolicy
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
    outcome: Outcome = "passed" if _schema_holds(expectation, columns) else _REACTIONS[expectation.severity]
    shown = ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
    observed = f"observed {plural(len(columns), 'column')}: {shown}"
    return Validation(stage, expectation.label, expectation.severity, len(columns), 0, outcome, observed)


def _schema_holds(expectation: Expectation, columns: Sequence[str]) -> bool:
    arguments = expectation.arguments
    match expectation.type:
        case "expect_column_to_exist":
            return arguments["column"] in columns
        case "expect_table_column_count_to_equal":
            return bool(len(columns) == arguments["value"])
        case "expect_table_column_count_to_be_between":
            low, high = arguments.get("min_value"), arguments.get("max_value")
            return (low is None or len(columns) >= low) and (high is None or len(columns) <= high)
        case "expect_table_columns_to_match_ordered_list":
            return list(columns) == list(arguments["column_list"])
    wanted = set(arguments["column_set"])
    return set(columns) == wanted if arguments.get("exact_match", True) else wanted <= set(columns)


# --- DuckDB or Great Expectations --------------------------------------------------------------


def _find_rows(stage: str, table: pa.Table, expectations: Sequence[Expectation]) -> list[Found]:
    """Judge rows in DuckDB by what can be compiled, and by Great Expectations by the others."""
    _require_columns(stage, table, expectations)
    if not table.num_rows:
        return [NOTHING] * len(expectations)
    compiled = compile_predicates(expectations, table.schema)
    found = _find_compiled(table, expectations, compiled)
    others = [number for number, predicate in enumerate(compiled) if predicate is None]
    if others:
        from penstock.quality.library_judge import find  # not above: it imports pandas

        chosen = [expectations[number] for number in others]
        found.update(zip(others, find(stage, table, chosen, positions=True), strict=True))
    return [found[number] for number in range(len(expectations))]


def _find_compiled(
    table: pa.Table, expectations: Sequence[Expectation], compiled: Sequence[Predicate | None]
) -> dict[int, Found]:
    chosen = {number: predicate for number, predicate in enumerate(compiled) if predicate is not None}
    if not chosen:
        return {}
    columns = dict.fromkeys(column for number in chosen for column in expectations[number].columns)
    counts = count_rows(table.select(list(columns)), list(chosen.values()))
    return {
        number: Found(not count.unexpected, count.evaluated, count.unexpected, count.positions)
        for number, count in zip(chosen, counts, strict=True)
    }


def _find_values(stage: str, table: pa.Table, expectations: Sequence[Expectation]) -> list[Found]:
    _require_columns(stage, table, expectations)
    if not table.num_rows or not expectations:
        return [NOTHING] * len(expectations)
    own = [n for n, e in enumerate(expectations) if judges_aggregate(e, table.schema.field(e.columns[0]).type)]
    found = dict(zip(own, find_aggregates(table, [expectations[number] for number in own]), strict=True))
    others = [number for number in range(len(expectations)) if number not in found]
    if others:
        from penstock.quality.library_judge import find  # not above: it imports pandas

        chosen = [expectations[number] for number in others]
        found.update(zip(others, find(stage, table, chosen, positions=False), strict=True))
    return [found[number] for number in range(len(expectations))]


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
