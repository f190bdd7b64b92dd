"""A run's document on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.cli.output import make_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from penstock.report.blocks import Block, Inline, Section, Table, Trend
    from penstock.report.document import RunDocument

BINS = 12
BAR = 40
TREND_LINES = 10
STATUS_STYLES = {
    "published": "green",
    "passed": "green",
    "noted": "yellow",
    "quarantined": "yellow",
    "running": "yellow",
    "halted": "red",
    "failed": "red",
    "audited": "yellow",
    "abandoned": "red",
    "critical": "red",
    "warning": "yellow",
}


def print_document(document: "RunDocument", link: str | None, console: "Console", zone: str = "UTC") -> None:
    """Print a run's document. `link` is the address of its flow run, `zone` the time zone of the times."""
    from penstock.report.sections import build_sections

    print_sections(build_sections(document, zone), link, console)


def print_sections(sections: "Sequence[Section]", link: str | None, console: "Console") -> None:
    """Print the sections of a document."""
    for section in sections:
        title = _join(section.title, link)
        title.stylize("bold")
        console.print(title)
        for block in section.blocks:
            _print_block(block, link, console)


def _print_block(block: "Block", link: str | None, console: "Console") -> None:
    from penstock.report.blocks import Alert, Command, Histogram, Items, Paragraph, Table, Trend

    match block:
        case Alert(text):
            console.print(text, style="red", markup=False)
        case Items(lines):
            for line in lines:
                console.print(_join(line, link), soft_wrap=_has_address(line))
        case Command(text):
            console.print(f"  {text}", markup=False, soft_wrap=True)
        case Paragraph(line):
            console.print(_join(line, link))
        case Table():
            _print_table(block, link, console)
        case Histogram(quantiles, _):
            _print_histogram(quantiles, console)
        case Trend():
            _print_trend(block, console)


def _print_table(block: "Table", link: str | None, console: "Console") -> None:
    """Print a table. A column that belongs below another one is printed in that one's cells."""
    from rich.text import Text

    shown = [i for i, column in enumerate(block.columns) if not column.below]
    names = [column.name for column in block.columns]
    below = {names.index(column.below): i for i, column in enumerate(block.columns) if column.below}
    right = [column.name for column in block.columns if column.number]
    table = make_table(*(names[i] for i in shown), right=right)
    for number, row in enumerate(block.rows):
        cells = [_inline(cell, link) for cell in row]
        for upper, lower in below.items():
            if cells[lower]:
                cells[upper] = Text("\n").join([cells[upper], cells[lower]])
        table.add_row(*(cells[i] for i in shown), style="bold" if number == block.strong_row else None)
    console.print(table)


def _print_histogram(quantiles: Sequence[float], console: "Console") -> None:
    from penstock.monitor.score_shift import bin_edges, bin_shares

    edges = bin_edges(BINS, quantiles)
    for edge, share in zip(edges, bin_shares(quantiles, edges), strict=False):
        console.print(f"  {edge:>10.4g} {'█' * round(share * BAR)} {share:.0%}", markup=False)


def _print_trend(trend: "Trend", console: "Console") -> None:
    low, high = (pick(point.estimate.value for point in trend.points) for pick in (min, max))
    for point in trend.points[-TREND_LINES:]:
        bar = "█" * (1 + round((point.estimate.value - low) / ((high - low) or 1.0) * (BAR - 1)))
        mark = " provisional" if point.provisional else ""
        console.print(f"  {point.interval:<16} {point.estimate.value:>8.4f} {bar}{mark}", markup=False)


def _join(line: Sequence["Inline"], link: str | None) -> "Text":
    from rich.text import Text

    return Text.assemble(*(_inline(part, link) for part in line))


def _inline(part: "Inline", link: str | None) -> "Text":
    from rich.text import Text

    from penstock.report.blocks import Bar, Code, FlowRunPage, RunName, Status, Strong

    match part:
        case Strong(text):
            return Text(text, style="bold")
        case Status():
            return Text(part.text, style=STATUS_STYLES.get(part.value, ""))
        case FlowRunPage(flow_run_id):
            return Text(f"Flow run {link or flow_run_id}")
        case Code() | RunName() | Bar():
            return Text(part.text)
        case str():
            return Text(part)


def _has_address(line: Sequence["Inline"]) -> bool:
    """Whether a line contains an address, which must not be broken over two lines."""
    from penstock.report.blocks import FlowRunPage

    return any(isinstance(part, FlowRunPage) for part in line)
