"""`penstock monitor compare`: two scorings of the same rows side by side."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.arguments import AsJson, End, PipelineName, Start
from penstock.cli.opening import ledger_connector, open_models, open_pipeline, open_settings
from penstock.cli.output import console, count, describe_cut, error_console, make_table, short, write_json
from penstock.errors import ModelNotFound, NotMeasured
from penstock.wording import plural

if TYPE_CHECKING:
    from penstock.database.connections import Database
    from penstock.monitor.agreement import DecisionAgreement, ScoreAgreement
    from penstock.report.comparison import Comparison
    from penstock.report.labelled_rows import LabelledAgreement
    from penstock.report.paired_rows import PairedRows, PairRows
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline

SHOWN_INTERVALS = 20
SHOWN_VALUES = 8
"""Most values of a decision that are shown as a cross table. Of more, the largest changes are listed."""
SHOWN_CHANGES = 12
A_OR_B = "A run's ID, a model version as in card-risk/3, or a variant: live, shadow:card-risk/3, sandbox:lower."

SideA = Annotated[str, typer.Argument(metavar="A", help=f"The scoring before. {A_OR_B}")]
SideB = Annotated[str, typer.Argument(metavar="B", help="The scoring that is compared with it, named in the same way.")]
FlipsFile = Annotated[
    Path | None,
    typer.Option("--flips", metavar="FILE", help="Write all rows whose decision differs: .csv or .parquet."),
]
PictureFile = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE", help="Draw the comparison: .svg or .html.")
]


def compare_sides(
    pipeline: PipelineName,
    a: SideA,
    b: SideB,
    start: Start = None,
    end: End = None,
    flips: FlipsFile = None,
    picture: PictureFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare two scorings of the same rows: runs, model versions or challengers.

    Runs of the same interval are paired, and their rows are joined on the key. Of a model version or a variant, each
    interval's live run is taken, else the newest one that was published.
    """
    from penstock.interval import as_utc
    from penstock.ledger.paired_runs import find_pairs
    from penstock.models.compared import find_groups
    from penstock.privacy.masking import make_masking
    from penstock.report.comparison import compare_rows, comparison_object, read_comparison
    from penstock.report.comparison_picture import FORMATS as PICTURES
    from penstock.report.comparison_picture import write_picture
    from penstock.report.flips import FORMATS, write_flips
    from penstock.run.planning import refuse_empty_range

    refuse_empty_range(start, end)
    for option, file, formats in (("--flips", flips, FORMATS), ("--picture", picture, PICTURES)):
        _check_file(option, file, formats)
    settings = open_settings()
    spec = open_pipeline(pipeline, settings)
    masking = make_masking(spec, settings)
    database = ledger_connector(settings)(spec.destination.connection)
    bounds = (as_utc(moment, spec.timezone) if moment else None for moment in (start, end))
    paired = find_pairs(database, spec.name, a, b, *bounds)
    rows = compare_rows(database, spec, paired, find_groups(open_models(settings), spec, paired))
    labelled = _measure(settings, spec, database, rows)
    with database.reading_together():
        comparison = read_comparison(rows, spec, masking, labelled)
        written = [f"wrote {plural(write_flips(rows, masking, flips), 'flip')} to {flips}"] if flips else []
    if picture:
        write_picture(comparison, picture)
        written.append(f"drew the comparison in {picture}")
    if as_json:
        write_json(comparison_object(comparison))
        return
    _print_comparison(comparison, spec.timezone)
    for line in written:
        console().print(line, markup=False, soft_wrap=True)


def _measure(
    settings: "Settings", spec: "Pipeline", database: "Database", rows: "PairedRows"
) -> "LabelledAgreement | None":
    """Measure both sides with the labels of the same rows, if the pipeline has labels and its scores are measurable."""
    from penstock.models.compared import measure_sides

    try:
        return measure_sides(settings, open_models(settings), spec, database, rows, datetime.now(UTC))
    except (ModelNotFound, NotMeasured) as error:
        error_console().print(f"labels are left out: {error}", style="yellow", markup=False, soft_wrap=True)
        return None


def _check_file(option: str, file: Path | None, formats: Sequence[str]) -> None:
    if file is None:
        return
    if file.suffix.lower() not in formats:
        raise typer.BadParameter(f"{option} {file}: the name must end in {' or '.join(formats)}")
    if not file.absolute().parent.is_dir():
        raise typer.BadParameter(f"{option} {file}: there is no folder {file.parent} to write to")


def _print_comparison(comparison: "Comparison", zone: str) -> None:
    from penstock.report.comparison_text import describe_labelled, describe_left_out, describe_ranks

    out = console()
    paired = comparison.paired
    out.print(f"{comparison.pipeline}: A is {paired.a.name}, B is {paired.b.name}", style="bold", markup=False)
    _print_pairs(comparison.pairs)
    for line in describe_left_out(comparison):
        out.print(line, markup=False)
    _print_scores(comparison.scores)
    for ranks in comparison.ranks:
        out.print(describe_ranks(ranks), markup=False)
    if comparison.labelled:
        out.print(f"{describe_labelled(comparison.labelled)}:", markup=False)
        _print_labelled(comparison.labelled)
        if pruned := comparison.labelled.pruned:
            out.print(pruned.describe(zone), style="yellow", markup=False, soft_wrap=True)
    for decision in comparison.decisions:
        _print_decision(decision)
    _print_flips(comparison)


def _print_pairs(pairs: "Sequence[PairRows]") -> None:
    counts = ("both", "only_a", "only_b", "flips")
    numbers = ("in both", "only in A", "only in B", "flips")
    table = make_table("interval", "run A", "run B", *numbers, right=numbers)
    for rows in pairs[:SHOWN_INTERVALS]:
        ids = short(rows.pair.a.run_id), short(rows.pair.b.run_id)
        table.add_row(rows.pair.label, *ids, *(count(getattr(rows, name)) for name in counts))
    if len(pairs) > 1:
        whole = (count(sum(getattr(rows, name) for rows in pairs)) for name in counts)
        table.add_row(f"all {len(pairs):,}", "", "", *whole)
    console().print(table)
    if len(pairs) > SHOWN_INTERVALS:
        console().print(describe_cut(SHOWN_INTERVALS, len(pairs), "interval", more="`--json` has all"), markup=False)


def _print_scores(scores: "Sequence[ScoreAgreement]") -> None:
    if not scores:
        console().print("no score is in both")
        return
    numbers = ("rows", "mean A", "mean B", "mean |B-A|", "largest", "corr.", "PSI", "same decile")
    table = make_table("score", *numbers, "", right=numbers)
    for score in scores:
        psi = "–" if score.psi is None else f"{score.psi:.3f}"
        figures = (score.mean_a, score.mean_b, score.mean_difference, score.largest_difference, score.correlation)
        share = "–" if score.same_decile is None else f"{score.same_decile:.1%}"
        table.add_row(score.column, count(score.rows), *map(_figure, figures), psi, share, score.reading)
    console().print(table)
    for score in scores:
        _print_deciles(score)
        if score.null_a or score.null_b or score.null_both:
            nulls = f"{score.null_a:,} in A alone, {score.null_b:,} in B alone, {score.null_both:,} in both"
            console().print(f"`{score.column}` is NULL for {nulls}", markup=False)


def _print_deciles(score: "ScoreAgreement") -> None:
    """Print for each decile of A which share of its rows is in the same decile of B."""
    if not score.deciles:
        return
    deciles = [str(i + 1) for i in range(len(score.deciles))]
    table = make_table(f"decile of A, {score.column}", *deciles, right=deciles)
    table.add_row("same in B", *("–" if share is None else f"{share:.0%}" for share in score.stays))
    console().print(table)


def _print_labelled(labelled: "LabelledAgreement") -> None:
    numbers = ("A", "95 % of A", "B", "95 % of B")
    table = make_table("metric", *numbers, right=numbers)
    for name, a in labelled.metrics_a.items():
        if (b := labelled.metrics_b.get(name)) is not None:
            table.add_row(name, f"{a.value:.4f}", a.describe_range(), f"{b.value:.4f}", b.describe_range())
    if table.rows:
        console().print(table)


def _print_decision(decision: "DecisionAgreement") -> None:
    flips = f"{plural(decision.flips, 'flip')} of {plural(decision.rows, 'row')} ({decision.share:.2%})"
    console().print(f"`{decision.column}`: {flips}", style="bold", markup=False)
    values = sorted({_value(side) for cell in decision.cells for side in (cell.a, cell.b)})
    if len(values) <= SHOWN_VALUES:
        _print_cross_table(decision, values)
        return
    changes = [cell for cell in decision.cells if cell.a != cell.b]
    table = make_table("A", "B", "rows", right=("rows",))
    for cell in changes[:SHOWN_CHANGES]:
        table.add_row(_value(cell.a), _value(cell.b), count(cell.rows))
    console().print(table)
    if len(changes) > SHOWN_CHANGES:
        console().print("the most frequent changes are shown; `--json` has more")


def _print_cross_table(decision: "DecisionAgreement", values: Sequence[str]) -> None:
    rows = {(_value(cell.a), _value(cell.b)): cell.rows for cell in decision.cells}
    headings = [f"B {value}" for value in values]
    table = make_table("", *headings, right=headings)
    for one in values:
        table.add_row(f"A {one}", *(count(rows.get((one, other), 0)) for other in values))
    console().print(table)


def _print_flips(comparison: "Comparison") -> None:
    from penstock.report.flips import KEY

    if not comparison.decisions or not comparison.first_flips:
        return
    out = console()
    out.print("The first flips:", style="bold")
    for flip in comparison.first_flips:
        key = {name.removeprefix(KEY): value for name, value in flip.items() if name.startswith(KEY)}
        changes = [
            f"{name} {_value(flip[f'a_{name}'])} → {_value(flip[f'b_{name}'])}"
            for name in (*comparison.columns.decisions, *comparison.columns.scores)
            if flip[f"a_{name}"] != flip[f"b_{name}"]
        ]
        out.print(f"  {_key(key)}  {', '.join(changes)}", markup=False, soft_wrap=True)
    shown = len(comparison.first_flips)
    out.print(describe_cut(shown, comparison.flips, "flip", more="`--flips FILE` writes all"), markup=False)


def _key(key: dict[str, Any]) -> str:
    """Write a key as other commands take it."""
    if len(key) == 1:
        return str(next(iter(key.values())))
    return json.dumps({name: str(value) for name, value in key.items()}, ensure_ascii=False)


def _value(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
