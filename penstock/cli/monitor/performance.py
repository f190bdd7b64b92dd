"""`penstock monitor performance`: how well published scores did, by the labels that came later."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, End, PipelineName, Start, read_moment
from penstock.cli.opening import ledger_connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, error_console, make_table, write_json
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.labels.performance import ModelPerformance
    from penstock.monitor.estimates import Estimate
    from penstock.monitor.expected_performance import ExpectedPerformance

By = Annotated[str | None, typer.Option("--by", metavar="COLUMN", help="Show each value of a column of `slices`.")]
Version = Annotated[
    str | None, typer.Option("--model", metavar="VERSION", help="Only this version, as 3 or card-risk/3.")
]
AsOf = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        parser=read_moment,
        metavar="TIME",
        help="Use only the labels that had been seen by then: a date or an ISO time, in the pipeline's zone.",
    ),
]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Score from which precision and recall are taken.")]
Top = Annotated[int | None, typer.Option(min=1, metavar="K", help="Precision and recall of the K highest scores.")]


def show_performance(
    pipeline: PipelineName,
    by: By = None,
    model: Version = None,
    as_of: AsOf = None,
    start: Start = None,
    end: End = None,
    threshold: Threshold = 0.5,
    top: Top = None,
    as_json: AsJson = False,
) -> None:
    """Show the performance of every model that has published scores, each metric with its 95 % interval."""
    from penstock.errors import SettingsError, nearest
    from penstock.interval import as_utc
    from penstock.labels.performance import (
        add_up,
        find_pruned,
        list_judged_runs,
        measure_as_of,
        read_performance,
        refresh_performance,
    )
    from penstock.models.measuring import make_question

    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    moments = (as_utc(moment, spec.timezone) if moment else None for moment in (as_of, start, end))
    believed, first, last = moments
    question = make_question(spec, settings, open_models(settings), datetime.now(UTC), believed)
    if by is not None and by not in question.labels.slices:
        known = nearest(by, question.labels.slices)
        raise SettingsError(f"`{by}` is not in `labels.slices` of `{spec.name}`", f"{known} Add it there.".lstrip())
    database = ledger_connector(settings)(spec.destination.connection)
    listed = list_judged_runs(database, spec.name, first, last, recorded=question.now)
    judged = [run for run in listed if _is_of(run.model, model)]
    if believed is None:
        refresh_performance(database, question)
        found = read_performance(database, judged)
    else:
        found = measure_as_of(database, judged, question)
        if pruned := find_pruned(database, judged):
            error_console().print(pruned.describe(spec.timezone), style="yellow", markup=False, soft_wrap=True)
    totals = add_up(found, by)
    if as_json:
        write_json([_as_object(total, threshold, top) for total in totals])
        return
    if not totals:
        console().print(
            f"nothing to measure: no published run of {spec.name} has labels; see `penstock labels collect`"
        )
    for total in totals:
        _print_total(total, threshold, top)


def _is_of(scored_by: str, model: str | None) -> bool:
    return model is None or scored_by == model or scored_by.endswith(f"/{model}")


def _metrics(total: "ModelPerformance", threshold: float, top: int | None) -> "dict[str, Estimate]":
    from penstock.monitor.performance_sums import ClassificationSums

    sums = total.rows.sums
    found: dict[str, Estimate | None] = dict(sums.metrics())
    if isinstance(sums, ClassificationSums):
        found[f"precision at {threshold:g}"] = sums.bins.precision(threshold)
        found[f"recall at {threshold:g}"] = sums.bins.recall(threshold)
        if top is not None:
            found[f"precision of the top {top:,}"], found[f"recall of the top {top:,}"] = sums.bins.top(top)
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def _expect(total: "ModelPerformance", threshold: float) -> "ExpectedPerformance | None":
    """Return what is expected of the rows without a label."""
    from penstock.monitor.expected_performance import expect_performance
    from penstock.monitor.performance_sums import ClassificationSums

    sums, waiting = total.rows.sums, total.rows.waiting
    if waiting is None or not isinstance(sums, ClassificationSums):
        return None
    return expect_performance(sums.bins, waiting, threshold)


def _as_object(total: "ModelPerformance", threshold: float, top: int | None) -> dict[str, Any]:
    return {
        "model": total.model,
        "variant": total.variant,
        "slice": json.loads(total.slice) if total.slice else None,
        "runs": total.runs,
        "provisional_runs": total.provisional_runs,
        "rows_scored": total.rows.scored,
        "rows_labelled": total.rows.labelled,
        "rows_judged": total.rows.judged,
        "labels_of_no_class": total.rows.no_class,
        "coverage": total.coverage,
        "metrics": _metrics(total, threshold, top),
        "expected": _expect(total, threshold),
    }


def _print_total(total: "ModelPerformance", threshold: float, top: int | None) -> None:
    named = [f"{column}: {value}" for column, value in json.loads(total.slice or "{}").items()]
    title = ", ".join([total.model, *_describe_variant(total), *named])
    metrics = _metrics(total, threshold, top)
    console().print(f"{title}: {describe_coverage(total)}", markup=False, soft_wrap=True)
    table = make_table("metric", "value", "95 % interval", right=("value", "95 % interval"))
    for name, found in metrics.items():
        table.add_row(name, f"{found.value:.4f}", found.describe_range())
    if metrics:
        console().print(table)
    if expected := _expect(total, threshold):
        rows, known = plural(expected.rows, "row"), plural(expected.calibrated_on, "labelled row")
        told = f"{title}: expected of {rows} without a label, from scores calibrated on {known}; not measured"
        console().print(told, markup=False, soft_wrap=True)
        guessed = make_table("metric", "expected", right=("expected",))
        for name, value in expected.metrics.items():
            guessed.add_row(name, f"{value:.4f}")
        console().print(guessed)


def _describe_variant(total: "ModelPerformance") -> list[str]:
    from penstock.ledger.destinations import LIVE
    from penstock.run_types import SHADOW

    if total.variant == LIVE:
        return []
    return ["a challenger" if total.variant == f"{SHADOW}{total.model}" else total.variant]


def describe_coverage(total: "ModelPerformance") -> str:
    """Say how many rows count, and whether labels may still come."""
    rows = total.rows
    counted = (
        f"{rows.judged:,} of {rows.scored:,} scored rows of {plural(total.runs, 'run')} count ({total.coverage:.0%})"
    )
    seen = f"{counted}, {rows.labelled:,} labelled"
    if rows.no_class:
        seen = f"{seen}, {plural(rows.no_class, 'label')} of no class of the model"
    if total.provisional_runs:
        return f"{seen}; provisional, for {plural(total.provisional_runs, 'run')} may still get labels"
    return seen
