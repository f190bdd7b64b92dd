"""The parts of a document: sections, blocks, and the words in a line. Renderers know only these."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.labels.trend import TrendPoint

SHORT_ID = 8
"""Characters of an id that are enough to type."""
_BAR_CHARACTERS = 20
"""Of the longest bar in text."""


@dataclass(frozen=True)
class Strong:
    """Text that stands out."""

    text: str


@dataclass(frozen=True)
class Code:
    """An id or a digest."""

    text: str


@dataclass(frozen=True)
class Status:
    """The state of a run or the outcome of a validation, which a renderer may mark or colour."""

    value: str

    @property
    def text(self) -> str:
        return "judged nothing" if self.value == "vacuous" else self.value


@dataclass(frozen=True)
class RunName:
    """A run, named by its short id. A renderer may link it to its flow run."""

    run_id: str
    flow_run_id: str | None

    @property
    def text(self) -> str:
        return self.run_id[:SHORT_ID]


@dataclass(frozen=True)
class FlowRunPage:
    """The page of a flow run in Prefect's UI."""

    flow_run_id: str


@dataclass(frozen=True)
class Bar:
    """A bar for a number in a column beside it."""

    share: float
    """From -1 to 1: its part of the longest bar. A negative one takes away."""

    @property
    def text(self) -> str:
        return "█" * max(round(_BAR_CHARACTERS * abs(self.share)), 1)


Inline = str | Bar | Strong | Code | Status | RunName | FlowRunPage
Line = tuple[Inline, ...]


@dataclass(frozen=True)
class Alert:
    """Why a run has failed or was halted."""

    text: str


@dataclass(frozen=True)
class Command:
    """A command to copy, on a line of its own."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of lines."""

    lines: Sequence[Line]


@dataclass(frozen=True)
class Paragraph:
    line: Line


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    number: bool = False
    below: str = ""
    """The column under whose cells a narrow renderer prints this one."""
    width: int = 60
    """Characters after which a renderer whose tables do not wrap breaks a cell's text."""


@dataclass(frozen=True)
class Table:
    columns: Sequence[Column]
    rows: Sequence[Sequence[Inline]]
    strong_row: int | None = None


@dataclass(frozen=True)
class Histogram:
    """The distribution of the scores, as 101 quantiles, and that of the run before."""

    quantiles: Sequence[float]
    before: Sequence[float]


@dataclass(frozen=True)
class Trend:
    """A metric from interval to interval."""

    metric: str
    points: Sequence[TrendPoint]


Block = Alert | Command | Items | Paragraph | Table | Histogram | Trend


@dataclass(frozen=True)
class Section:
    title: Line
    blocks: Sequence[Block]
