"""The rows of paired runs, joined on their keys in the warehouse."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.types import ExactNumber
from penstock.errors import CompareRefused
from penstock.ledger.paired_runs import PairedRuns, RunPair
from penstock.ledger.tables import runs
from penstock.report.paired_tables import Place, place_of, read_tables, require_same_key
from penstock.run.history_table import HistoryRunId

_BATCH_ROWS = 10_000
Element = sa.ColumnElement[Any]
Kinds = Mapping[str, sa.types.TypeEngine[Any]]
"""The SQL types of columns."""


@dataclass(frozen=True)
class PairRows:
    """The rows of one pair of runs."""

    pair: RunPair
    both: int
    only_a: int
    only_b: int
    flips: int
    """Rows in both of which at least one decision differs."""


@dataclass(frozen=True)
class OutputColumns:
    """The columns of the two sides' tables."""

    key: Kinds
    scores: Kinds
    """Outputs that are numbers with fractions."""
    decisions: Kinds
    """All other outputs."""
    only_a: tuple[str, ...] = ()
    """Outputs that have no value in B."""
    only_b: tuple[str, ...] = ()


class PairedRows:
    """The joined rows of pairs of runs."""

    def __init__(
        self,
        database: Database,
        pipeline: str,
        paired: PairedRuns,
        left_out: Collection[str],
        groups: Mapping[str, tuple[str, ...]],
    ) -> None:
        """Look at both sides' tables.

        Args:
            left_out: Columns that are no outputs: those of `keep`.
            groups: By score column of a ranking model: the columns that group its rows.

        Raises:
            CompareRefused: a table is missing, or the two have other keys.
        """
        self._database, self.paired, self.groups = database, paired, groups

        def refuse(reason: str) -> CompareRefused:
            remedy = "Choose runs of one table and one key."
            return CompareRefused(pipeline, paired.a.name, paired.b.name, reason, remedy)

        self._a = read_tables(database, [pair.a for pair in paired.pairs], refuse)
        self._b = read_tables(database, [pair.b for pair in paired.pairs], refuse)
        require_same_key(self._a.columns, self._b.columns, self._b.name_table(), refuse)
        self.columns = self._choose_columns(left_out)

    @cached_property
    def pairs(self) -> tuple[PairRows, ...]:
        """The counts of each pair, the oldest interval first."""
        joined, flips = self.joined, count_if(self.is_flip)
        query = sa.select(joined.c.run_a, sa.func.count(), flips).group_by(joined.c.run_a)
        counted = {run_id: (int(both), int(flips)) for run_id, both, flips in self.fetch(query)}
        found = []
        for pair in self.paired.pairs:
            both, flipped = counted.get(pair.a.run_id, (0, 0))
            rows_a, rows_b = self._a.rows.get(pair.a.run_id, 0), self._b.rows.get(pair.b.run_id, 0)
            found.append(PairRows(pair, both, rows_a - both, rows_b - both, flipped))
        return tuple(found)

    @cached_property
    def joined(self) -> sa.Subquery:
        """The rows of both. Its columns are A's `run_a` and `partition`, and those that `column` names."""
        by_tables: dict[tuple[Place, Place], list[RunPair]] = defaultdict(list)
        for pair in self.paired.pairs:
            by_tables[place_of(pair.a), place_of(pair.b)].append(pair)
        selects = [self._join(*places, pairs) for places, pairs in by_tables.items()]
        return (selects[0] if len(selects) == 1 else sa.union_all(*selects)).subquery("joined")

    @property
    def is_flip(self) -> Element:
        """The condition that at least one decision of a joined row differs."""
        return sa.or_(sa.false(), *(self.differs(name) for name in self.columns.decisions))

    def column(self, side: str, name: str) -> Element:
        """Return a column of the joined rows.

        Args:
            side: `key`, `a` or `b` for an output of that side, or `group` for one that groups a ranking model's rows.
        """
        return self.joined.c[self._label(side, name)]

    def differs(self, name: str) -> Element:
        """Return the condition that the two values of an output differ. NULL is a value of its own."""
        return self.column("a", name).is_distinct_from(self.column("b", name))

    def missing_groups(self, score: str) -> tuple[str, ...]:
        """Return the columns that group a ranking model's rows, and that the tables do not have."""
        return tuple(name for name in self.groups[score] if name not in self._a.columns)

    def fetch(self, query: "sa.Select[Any]") -> list[Any]:
        with self._database.reading() as connection:
            return list(connection.execute(query))

    def read_flips(self, limit: int | None = None) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of which a decision differs, ordered by interval and key, some thousand at a time.

        A row has `interval_start`, `interval_end`, `key_<column>`, and of every output `a_<column>` and `b_<column>`.
        Exact numbers are text.

        Args:
            limit: Yield only so many. None: all.
        """
        if not self.columns.decisions:
            return
        first = runs.alias("first")
        key = [self.column("key", name) for name in self.columns.key]
        named = [_exact(column).label(f"key_{name}") for column, name in zip(key, self.columns.key, strict=True)]
        outputs = [
            _exact(self.column(side, name)).label(f"{side}_{name}")
            for name in (*self.columns.decisions, *self.columns.scores)
            for side in "ab"
        ]
        query = (
            sa.select(first.c.interval_start, first.c.interval_end, *named, *outputs)
            .select_from(self.joined.join(first, first.c.run_id == self.joined.c.run_a))
            .where(self.is_flip)
            .order_by(first.c.interval_start, *key)
            .limit(limit)
        )
        streaming = {"stream_results": True, "yield_per": _BATCH_ROWS}
        with (
            self._database.reading() as connection,
            connection.execute(query, execution_options=streaming) as streamed,
        ):
            for rows in streamed.mappings().partitions():
                yield [dict(row) for row in rows]

    def read_scores(self, column: str) -> "Iterator[tuple[RunPair, list[tuple[Any, ...]]]]":
        """Yield the keys and both values of a score column, a partition of A's run at once. Exact numbers are text."""
        joined = self.joined
        key = [_exact(self.column("key", name)) for name in self.columns.key]
        values = [sa.cast(self.column(side, column), sa.Double) for side in "ab"]
        for pair in self.paired.pairs:
            mine = joined.c.run_a == pair.a.run_id
            partitions = self.fetch(sa.select(joined.c.partition).where(mine).distinct().order_by(joined.c.partition))
            for (partition,) in partitions:
                chosen = sa.select(*key, *values).where(mine, joined.c.partition == partition)
                yield pair, [tuple(row) for row in self.fetch(chosen)]

    def _choose_columns(self, left_out: Collection[str]) -> OutputColumns:
        a, b = self._a, self._b
        named = [n for n in dict.fromkeys((*a.columns, *b.columns)) if n not in a.key and n not in left_out]
        if a.rows and b.rows:  # without rows no column has a value
            outputs = [name for name in named if name in a.valued & b.valued]
        else:
            outputs = [name for name in named if name in a.columns.keys() & b.columns.keys()]
        kinds = {name: sa.Text() if name in self._unlike else a.columns[name].type for name in outputs}
        scores = {name: kind for name, kind in kinds.items() if all(map(_is_score, (*a.types(name), *b.types(name))))}
        return OutputColumns(
            a.key,
            scores,
            {name: kind for name, kind in kinds.items() if name not in scores},
            tuple(name for name in named if name in a.valued - b.valued and b.rows),
            tuple(name for name in named if name in b.valued - a.valued and a.rows),
        )

    def _join(self, place_a: Place, place_b: Place, pairs: Sequence[RunPair]) -> "sa.Select[Any]":
        run_a, run_b = runs.alias("run_a"), runs.alias("run_b")
        a, b = self._a.open(place_a, "rows_a"), self._b.open(place_b, "rows_b")
        same_key = (b.c[name] == a.c[name] for name in self.columns.key)
        joined = (
            run_a.join(run_b, run_a.c.interval_key == run_b.c.interval_key)
            .join(a, a.c.run_id == sa.cast(run_a.c.run_id, HistoryRunId))
            .join(b, sa.and_(b.c.run_id == sa.cast(run_b.c.run_id, HistoryRunId), *same_key))
        )
        chosen = [a.c[name].label(self._label("key", name)) for name in self.columns.key]
        for name in self._outputs:
            values = (self._a.select(a, place_a, name), self._b.select(b, place_b, name))
            for side, value in zip("ab", values, strict=True):
                shown = sa.cast(value, sa.Text) if name in self._unlike else value
                chosen.append(shown.label(self._label(side, name)))
        for name in self._group_columns:
            value = self._a.select(a, place_a, name)
            shown = sa.cast(value, sa.Text) if name in self._unlike else value
            chosen.append(shown.label(self._label("group", name)))
        return (
            sa.select(run_a.c.run_id.label("run_a"), a.c.partition.label("partition"), *chosen)
            .select_from(joined)
            .where(run_a.c.run_id.in_([pair.a.run_id for pair in pairs]))
            .where(run_b.c.run_id.in_([pair.b.run_id for pair in pairs]))
        )

    def _label(self, side: str, name: str) -> str:
        """Return the name of a column of the joined rows. It has a number, because any name may be taken."""
        named = {"key": tuple(self.columns.key), "group": self._group_columns}.get(side, self._outputs)
        return f"{side}_{named.index(name)}"

    @property
    def _outputs(self) -> tuple[str, ...]:
        return (*self.columns.scores, *self.columns.decisions)

    @cached_property
    def _unlike(self) -> frozenset[str]:
        """The columns whose values cannot be compared as they are: text and a flag, for example. All become text."""
        named = self._a.columns.keys() | self._b.columns.keys()
        families = {name: {*map(_family, (*self._a.types(name), *self._b.types(name)))} for name in named}
        return frozenset(name for name, found in families.items() if len(found) > 1)

    @cached_property
    def _group_columns(self) -> tuple[str, ...]:
        named = dict.fromkeys(name for group in self.groups.values() for name in group)
        return tuple(name for name in named if name in self._a.columns)


def count_if(condition: Element) -> Element:
    """Return the number of rows that meet a condition, 0 without rows."""
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _is_score(kind: sa.types.TypeEngine[Any]) -> bool:
    return isinstance(kind, sa.Float | ExactNumber)


def _family(kind: sa.types.TypeEngine[Any]) -> str:
    """Return the family of a type, whose values can be compared with each other."""
    if isinstance(kind, sa.Integer | sa.Numeric | ExactNumber):
        return "number"
    return next((t.__name__ for t in (sa.Boolean, sa.DateTime, sa.Date) if isinstance(kind, t)), "text")


def _exact(column: Element) -> Element:
    """Return the expression to select for a column. Some drivers give exact numbers as floats."""
    return sa.cast(column, sa.Text) if isinstance(column.type, ExactNumber) else column
