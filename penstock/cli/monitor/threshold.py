"""`penstock monitor threshold`: what another threshold would have decided, and what that would have cost."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.arguments import AsJson, End, PipelineName, Start
from penstock.cli.opening import ledger_connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, count, make_table, write_json
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.labels.performance import RunPerformance
    from penstock.monitor.binned_scores import BinnedScores
    from penstock.monitor.thresholds import Costs, ThresholdOutcome
    from penstock.spec.pipeline import Pipeline

SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Thresholds that are listed beside the present and the cheapest one."""
_OUTCOMES = {"fp": "false_positive", "fn": "false_negative", "tp": "true_positive", "tn": "true_negative"}


def parse_costs(text: str) -> "Costs":
    """Read `fp=5,fn=100`: what a false positive and a false negative cost. Others cost nothing."""
    from penstock.monitor.thresholds import Costs

    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        try:
            found[_OUTCOMES[name]] = float(number)
        except (KeyError, ValueError):
            raise typer.BadParameter(f"`{part}` is no cost; write fp=5,fn=100, and tp and tn as well") from None
    return Costs(**found)


CostOption = Annotated[
    str,
    typer.Option("--cost", metavar="fp=5,fn=100", help="Cost of a false positive and a false negative; tp, tn too."),
]
Present = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="The threshold in force. Default: the number that `decide:` compares with."),
]
Version = Annotated[
    str | None, typer.Option("--model", metavar="VERSION", help="Version, as 3 or card-risk/3. Default: the newest.")
]


def show_thresholds(
    pipeline: PipelineName,
    cost: CostOption,
    present: Present = None,
    model: Version = None,
    start: Start = None,
    end: End = None,
    as_json: AsJson = False,
) -> None:
    """Replay the threshold of a decision over labelled rows: flips and cost of each threshold."""
    from penstock.interval import as_utc
    from penstock.labels.judged_rows import ALL_ROWS
    from penstock.labels.performance import list_judged_runs, read_performance, refresh_performance
    from penstock.models.measuring import make_question
    from penstock.monitor.thresholds import find_cheapest, replay_thresholds

    costs = parse_costs(cost)
    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    question = make_question(spec, settings, open_models(settings), datetime.now(UTC))
    database = ledger_connector(settings)(spec.destination.connection)
    refresh_performance(database, question)
    bounds = (as_utc(moment, spec.timezone) if moment else None for moment in (start, end))
    found = read_performance(database, list_judged_runs(database, spec.name, *bounds), only=ALL_ROWS)
    version, scores = _add_up_bins(spec.name, found, model)
    in_force = _threshold_in_force(spec, present)
    shown = [*SHOWN, *([] if in_force is None else [in_force])]
    outcomes = replay_thresholds(scores, shown, costs, in_force)
    cheapest = find_cheapest(scores, costs, in_force)
    if as_json:
        write_json({"model": version, "rows": scores.count, "present": in_force, "cheapest": cheapest, "by": outcomes})
        return
    console().print(f"{version}: {plural(scores.count, 'labelled row')}, {count(scores.positive_count)} positive")
    _print_outcomes(outcomes, cheapest, in_force)


def _add_up_bins(name: str, found: "list[RunPerformance]", model: str | None) -> "tuple[str, BinnedScores]":
    """Return the model version that is judged, and its labelled live rows by score.

    Raises:
        NotMeasured: there are none, or the model gives no probability.
    """
    from penstock.errors import NotMeasured
    from penstock.ledger.destinations import LIVE
    from penstock.monitor.performance_sums import ClassificationSums

    live = [each for each in found if each.run.variant == LIVE and each.all_rows.judged]
    if model is None and live:
        model = live[-1].run.model
    mine = [each for each in live if model and model in (each.run.model, each.run.model_version)]
    bins = [each.all_rows.sums.bins for each in mine if isinstance(each.all_rows.sums, ClassificationSums)]
    if not bins:
        why = "no published row has a label that counts" if not mine else "its model is not binary"
        raise NotMeasured(f"`{name}`", why, f"See `penstock monitor performance {name}`.")
    first, *others = bins
    return mine[-1].run.model, sum(others, first)


def _threshold_in_force(spec: "Pipeline", given: float | None) -> float | None:
    """Return the threshold that decides today. None if no decision compares the score with a number.

    Raises:
        SettingsError: the decisions compare it with several.
    """
    from penstock.errors import SettingsError
    from penstock.labels.judged_rows import score_column
    from penstock.spec.decision_thresholds import find_thresholds

    if given is not None:
        return given
    known = find_thresholds(spec.decide, score_column(spec))
    if len(known) > 1:
        listed = ", ".join(f"{each:g}" for each in known)
        raise SettingsError(f"`decide` compares the score with {listed}", "Choose one of them with `--present`.")
    return known[0] if known else None


def _print_outcomes(outcomes: "list[ThresholdOutcome]", cheapest: "ThresholdOutcome", in_force: float | None) -> None:
    names = ("threshold", "", "true positives", "false positives", "false negatives", "flips", "cost")
    table = make_table(*names, right=names)
    for each in sorted([*outcomes, cheapest], key=lambda outcome: outcome.threshold):
        notes = [*(["now"] if each.threshold == in_force else []), *(["cheapest"] if each is cheapest else [])]
        counts = (each.true_positives, each.false_positives, each.false_negatives, each.flips)
        shown = "none" if each.threshold > 1 else f"{each.threshold:.4g}"
        table.add_row(shown, ", ".join(notes), *map(count, counts), f"{each.cost:,.2f}")
    console().print(table)
