"""The summary of a flow run: one line an interval, as markdown."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.report.blocks import Column, Inline, Items, Status, Table
from penstock.report.card import write_blocks
from penstock.wording import plural

ROWS = 400
"""Most intervals in the table, because the UI loads an artifact as a whole."""
LONGEST_REASON = 300
"""Most characters of a reason. The interval's own page has all of it."""
_DONE = ("published", "audited", "skipped")


@dataclass(frozen=True)
class IntervalEnd:
    """How one interval of a flow run ended."""

    label: str
    outcome: str
    reason: str
    """Why it was not published. Empty if it was."""
    scored: int | None
    quarantined: int | None
    """None if the interval was not claimed, or its rows were not counted."""
    page: str
    """Address of its run card, or of its flow run."""


def run_summary(pipeline: str, ends: Sequence[IntervalEnd], notes: Sequence[str] = ()) -> str:
    """Return the summary. Of too many intervals, those that were not published are listed first."""
    counts = Counter(end.outcome for end in ends)
    title = ", ".join(f"{number:,} {outcome}" for outcome, number in counts.items())
    listed = _choose(ends)
    columns = [Column("outcome"), Column("scored", number=True), Column("quarantined", number=True)]
    rows: list[list[Inline]] = [[Status(end.outcome), _count(end.scored), _count(end.quarantined)] for end in listed]
    lines = write_blocks(Table(columns, rows)).split("\n")
    # The links are written here, because a cell's text is escaped.
    links = ["interval", "---", *(f"[{end.label}]({end.page})" for end in listed)]
    parts = [
        f"# {pipeline}: {plural(len(ends), 'interval')}, {title}",
        *(f"{note}." for note in notes),
        "\n".join(f"| {link} {line}" for link, line in zip(links, lines, strict=True)),
    ]
    reasons = Items([(f"{end.label}: {_shorten(end.reason)}",) for end in listed if end.reason])
    if reasons.lines:  # below the table: a table as wide as its texts scrolls sideways
        parts += ["## Why", write_blocks(reasons)]
    if len(listed) < len(ends):
        cut = plural(len(ends) - len(listed), "other interval")
        parts.append(f"{cut} not listed here. `penstock runs {pipeline} --limit {len(ends)}` lists them all.")
    return "\n\n".join(parts)


def _choose(ends: Sequence[IntervalEnd]) -> list[IntervalEnd]:
    """Return the intervals that are listed, in their order."""
    first = sorted(range(len(ends)), key=lambda position: (ends[position].outcome in _DONE, position))[:ROWS]
    return [ends[position] for position in sorted(first)]


def _count(rows: int | None) -> str:
    return "–" if rows is None else f"{rows:,}"


def _shorten(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} …"
