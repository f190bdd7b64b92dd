"""Compare two scorings of the same rows: champion and challenger, two versions, two runs."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from penstock.database.connections import Database
from penstock.errors import ModelNotFound, NotMeasured
from penstock.ledger.destinations import LIVE
from penstock.ledger.paired_runs import find_pairs
from penstock.ledger.reader import list_runs
from penstock.models.compared import find_groups, measure_sides
from penstock.monitor.agreement import DecisionAgreement, ScoreAgreement
from penstock.privacy.masking import make_masking
from penstock.report.blocks import Alert, Block, Column, Inline, Items, Paragraph, RunName, Section, Table
from penstock.report.comparison import Comparison, compare_rows, read_comparison
from penstock.report.comparison_text import describe_labelled, describe_left_out, describe_ranks
from penstock.report.flips import KEY
from penstock.report.labelled_rows import LabelledAgreement
from penstock.spec.pipeline import Pipeline
from penstock.web.context import WebContext
from penstock.web.pages.answers import PageError, show
from penstock.wording import plural

LONGEST_NAME = 200
_PAIRS = 50
_VALUES = 8
"""Most values of a decision that are shown as a cross table."""


def compare_sides(context: WebContext, request: Request) -> Response:
    """Show a form for two sides, and how far they agree."""
    name, a, b = (request.query_params.get(each, "").strip() for each in ("pipeline", "a", "b"))
    if max(len(a), len(b)) > LONGEST_NAME:
        raise PageError(400, "The name is too long", f"A side has at most {LONGEST_NAME} characters.")
    names = [each.name for each in context.load_all()[0]]
    sections: list[Section] = []
    known: list[str] = []
    if name:
        pipeline = context.load(name)
        with context.open_of(pipeline) as database:
            known = _list_sides(database, name)
            if a and b:
                sections = _compare(context, database, pipeline, a, b)
    facts = {"names": names, "name": name, "a": a or LIVE, "b": b, "known": known, "sections": sections}
    return show(context, request, "compare.html", facts)


def _list_sides(database: Database, pipeline: str) -> list[str]:
    """Return variants and versions of the newest published runs, for a choice."""
    found = list_runs(database, pipeline, limit=100, states=("published", "superseded"))
    return list(dict.fromkeys([*(run.variant for run in found), *(run.model for run in found)]))


def _compare(context: WebContext, database: Database, pipeline: Pipeline, a: str, b: str) -> list[Section]:
    paired = find_pairs(database, pipeline.name, a, b, None, None)
    rows = compare_rows(database, pipeline, paired, find_groups(context.registry, pipeline, paired))
    labelled, problem = None, ""
    try:
        labelled = measure_sides(context.settings, context.registry, pipeline, database, rows, context.now())
    except (ModelNotFound, NotMeasured) as error:
        problem = f"Labels are left out: {error}"
    with database.reading_together():
        found = read_comparison(rows, pipeline, make_masking(pipeline, context.settings), labelled)
    return _lay_out(found, problem, pipeline.timezone)


def _lay_out(found: Comparison, problem: str, zone: str) -> list[Section]:
    paired = found.paired
    title = f"{found.pipeline}: A is {paired.a.name}, B is {paired.b.name}"
    head: list[Block] = [_list_pairs(found), *_list_lines(describe_left_out(found))]
    sections = [Section((title,), [*head, *([Alert(problem)] if problem else [])])]
    if found.scores:
        ranks = _list_lines([describe_ranks(each) for each in found.ranks])
        sections.append(Section(("Scores",), [_list_scores(found.scores), *ranks]))
    if found.labelled:
        sections.append(_lay_labelled(found.labelled, zone))
    sections += [_lay_decision(decision) for decision in found.decisions]
    if found.first_flips and found.decisions:
        sections.append(Section((f"The first of {plural(found.flips, 'flip')}",), [_list_flips(found)]))
    return sections


def _lay_labelled(labelled: LabelledAgreement, zone: str) -> Section:
    blocks: list[Block] = [Paragraph((describe_labelled(labelled),)), _list_metrics(labelled)]
    if labelled.pruned:
        blocks.append(Alert(labelled.pruned.describe(zone)))
    return Section(("By the labels of the same rows",), blocks)


def _list_lines(lines: Sequence[str]) -> list[Block]:
    return [Items([(line,) for line in lines])] if lines else []


def _list_pairs(found: Comparison) -> Table:
    names = ("in both", "only in A", "only in B", "flips")
    columns = [Column("interval"), *(Column(name, number=True) for name in names), Column("run A"), Column("run B")]
    rows: list[list[Inline]] = []
    for each in found.pairs[-_PAIRS:]:
        a, b = each.pair.a, each.pair.b
        counts = [f"{number:,}" for number in (each.both, each.only_a, each.only_b, each.flips)]
        rows.append([each.pair.label, *counts, RunName(a.run_id, a.flow_run_id), RunName(b.run_id, b.flow_run_id)])
    whole = [f"{number:,}" for number in (found.both, found.only_a, found.only_b, found.flips)]
    rows.append([f"all {len(found.pairs):,}", *whole, "", ""])
    return Table(columns, rows, len(rows) - 1)


def _list_scores(scores: Sequence[ScoreAgreement]) -> Table:
    names = ("rows", "mean A", "mean B", "mean |B-A|", "largest", "correlation", "PSI", "same decile")
    columns = [Column("score"), *(Column(name, number=True) for name in names), Column("shift")]
    rows: list[list[Inline]] = []
    for each in scores:
        figures = (each.mean_a, each.mean_b, each.mean_difference, each.largest_difference, each.correlation, each.psi)
        same = "–" if each.same_decile is None else f"{each.same_decile:.1%}"
        rows.append([each.column, f"{each.rows:,}", *map(_figure, figures), same, each.reading])
    return Table(columns, rows)


def _list_metrics(labelled: LabelledAgreement) -> Table:
    columns = [Column("metric"), *(Column(name, number=True) for name in ("A", "95 % of A", "B", "95 % of B"))]
    rows: list[list[Inline]] = []
    for name, a in labelled.metrics_a.items():
        b = labelled.metrics_b.get(name)
        if b is not None:
            rows.append([name, f"{a.value:.4f}", a.describe_range(), f"{b.value:.4f}", b.describe_range()])
    return Table(columns, rows)


def _lay_decision(decision: DecisionAgreement) -> Section:
    title = f"{decision.column}: {plural(decision.flips, 'flip')} of {plural(decision.rows, 'row')}"
    values = sorted({_value(side) for cell in decision.cells for side in (cell.a, cell.b)})
    if len(values) <= _VALUES:
        counts = {(_value(cell.a), _value(cell.b)): cell.rows for cell in decision.cells}
        rows: list[list[Inline]] = [[f"A {a}", *(f"{counts.get((a, b), 0):,}" for b in values)] for a in values]
        return Section(
            (title,), [Table([Column("rows"), *(Column(f"B {value}", number=True) for value in values)], rows)]
        )
    changes = [cell for cell in decision.cells if cell.a != cell.b][:_PAIRS]
    listed: list[list[Inline]] = [[_value(cell.a), _value(cell.b), f"{cell.rows:,}"] for cell in changes]
    return Section((title,), [Table([Column("A"), Column("B"), Column("rows", number=True)], listed)])


def _list_flips(found: Comparison) -> Items:
    columns = (*found.columns.decisions, *found.columns.scores)
    return Items([(_describe_flip(flip, columns),) for flip in found.first_flips])


def _describe_flip(flip: dict[str, Any], columns: Sequence[str]) -> str:
    key = ", ".join(f"{name.removeprefix(KEY)} {value}" for name, value in flip.items() if name.startswith(KEY))
    changed = [name for name in columns if flip[f"a_{name}"] != flip[f"b_{name}"]]
    return f"{key}: " + ", ".join(f"{c} {_value(flip[f'a_{c}'])} → {_value(flip[f'b_{c}'])}" for c in changed)


def _value(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
