"""The run card: a run's document as markdown, and the plan of a run."""

import base64
import textwrap
from collections.abc import Callable, Sequence

from penstock.database.connections import Database
from penstock.ledger.reader import find_run
from penstock.report.blocks import (
    Alert,
    Bar,
    Block,
    Code,
    Column,
    Command,
    FlowRunPage,
    Histogram,
    Inline,
    Items,
    Paragraph,
    RunName,
    Section,
    Status,
    Strong,
    Table,
    Trend,
)
from penstock.report.chart import describe_histogram, draw_histogram
from penstock.report.document import read_document
from penstock.report.marks import MARKS
from penstock.report.sections import build_sections, describe_models
from penstock.report.trend_picture import describe_trend, draw_trend
from penstock.run.plan_notes import (
    describe_idle,
    describe_left_over,
    describe_published,
    describe_range,
    describe_withdrawn,
)
from penstock.run.planning import Plan
from penstock.run_types import Pins
from penstock.spec.pipeline import Pipeline

LinkTo = Callable[[str], str]
"""Makes the address of a flow run's page from its id."""

_BREAK = "<br>"


def run_card(database: Database, run_id: str, link_to: LinkTo | None = None) -> str:
    """Return a run's card. `link_to` makes the addresses of flow runs, without it runs are named and not linked."""
    return "\n\n".join(write_sections(build_sections(read_document(database, find_run(database, run_id))), link_to))


def write_sections(sections: Sequence[Section], link_to: LinkTo | None = None) -> list[str]:
    """Write sections as paragraphs of markdown. The first one is the title."""
    head, *others = sections
    return [*_write(head, "#", link_to), *(part for s in others for part in _write(s, "##", link_to))]


def plan_card(pipeline: Pipeline, plan: Plan, pins: Pins) -> str:
    """Return what a run would do now, as markdown."""
    parts = [f"# {pipeline.name}: what would be scored", _line(describe_models(pins)) + "."]
    if not plan.intervals:
        return "\n\n".join([*parts, _sentence(describe_idle(plan))])
    rows = [[planned.label, planned.reason] for planned in plan.intervals]
    parts.append(_table(Table([Column("interval"), Column("why")], rows)))
    notes = [plan.stall, describe_range(plan)]
    notes += [describe_published(plan)] if plan.published else []
    notes += [describe_withdrawn(plan)] if plan.withdrawn else []
    notes += [describe_left_over(plan)] if plan.left_over else []
    return "\n\n".join([*parts, *(_sentence(note) for note in notes if note)])


def _sentence(text: str) -> str:
    return f"{_line((text[0].upper() + text[1:],))}."


def write_blocks(*blocks: Block) -> str:
    """Return blocks as markdown, for another page than the card."""
    return "\n\n".join(_block(block, None) for block in blocks)


def _write(section: Section, level: str, link_to: LinkTo | None) -> list[str]:
    title = "".join(_mark(part) if isinstance(part, Status) else _inline(part, link_to) for part in section.title)
    return [f"{level} {title}", *(_block(block, link_to) for block in section.blocks)]


def _block(block: Block, link_to: LinkTo | None) -> str:
    match block:
        case Alert(text):
            return "> " + _escape(text)
        case Items(lines):
            return "\n".join(f"- {_line(line, link_to)}" for line in lines)
        case Command(text):
            return f"```sh\n{text}\n```"
        case Paragraph(line):
            return _line(line, link_to)
        case Table():
            return _table(block, link_to)
        case Histogram(quantiles, before):
            labels = ["this run", *(["the run before"] if before else [])]
            return _picture(describe_histogram(quantiles, before), draw_histogram(quantiles, before, labels))
        case Trend(metric, points):
            return _picture(describe_trend(metric, points), draw_trend(points))


def _picture(words: str, svg: str) -> str:
    """Return a picture that needs no address, with its description."""
    encoded = base64.b64encode(svg.encode()).decode()
    return f"![{_escape_alt(words)}](data:image/svg+xml;base64,{encoded})"


def _escape_alt(text: str) -> str:
    """Keep a text from ending the description of a picture."""
    return text.replace("[", "(").replace("]", ")")


def _table(table: Table, link_to: LinkTo | None = None) -> str:
    """Write a table. Prefect's V1 UI does not wrap cells, so long texts are broken here."""
    shown = [column for column in table.columns if not column.below]
    rows = [_cells(table, row, link_to) for row in table.rows]
    if table.strong_row is not None:
        rows[table.strong_row] = [f"**{cell}**" for cell in rows[table.strong_row]]
    sides = ["--:" if column.number else "---" for column in shown]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in ([c.name for c in shown], sides, *rows))


def _cells(table: Table, row: Sequence[Inline], link_to: LinkTo | None) -> list[str]:
    """Write the cells of a row, each with what belongs below it."""
    cells: dict[str, str] = {}
    for column, part in zip(table.columns, row, strict=True):
        text = _BREAK.join(map(_escape, _wrap(part, column.width))) if isinstance(part, str) else _inline(part, link_to)
        place = column.below or column.name
        cells[place] = _BREAK.join(filter(None, (cells.get(place, ""), text)))
    return list(cells.values())


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _line(line: Sequence[Inline], link_to: LinkTo | None = None) -> str:
    return "".join(_inline(part, link_to) for part in line)


def _inline(part: Inline, link_to: LinkTo | None) -> str:
    match part:
        case Strong(text):
            return f"**{_escape(text)}**"
        case Code(text):
            return f"`{text}`"
        case Bar():
            return part.text
        case Status("halted"):
            return "✗ **halted**"
        case Status():
            return _mark(part)
        case RunName(_, flow_run_id):  # without code marks, which Prefect's UI shows as they are in a link
            return f"[{part.text}]({link_to(flow_run_id)})" if link_to and flow_run_id else part.text
        case FlowRunPage(flow_run_id):
            return f"[Flow run]({link_to(flow_run_id)})" if link_to else f"Flow run `{flow_run_id}`"
        case str():
            return _escape(part)


def _mark(status: Status) -> str:
    return f"{MARKS.get(status.value, '')} {status.text}".strip()


def _escape(text: str) -> str:
    """Keep a text from being read as a cell's end, a tag or emphasis."""
    for mark in "\\|*<":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
