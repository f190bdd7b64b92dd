"""The rows of paired runs, joined on their keys in the warehouse, and the figures of their outputs.

Every figure is an aggregate that the warehouse computes, so the memory of this process does not depend on the rows.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.database.types import ExactNumber
from penstock.errors import CompareRefused
from penstock.ledger.destinations import split_name
from penstock.ledger.paired_runs import PairedRuns, RunPair
from penstock.ledger.reader import RunRecord
from penstock.ledger.tables import runs
from penstock.monitor.agreement import (
    DECILES,
    DecisionAgreement,
    DecisionChange,
    Moments,
    ScoreAgreement,
    correlate,
    measure_stability,
    own_decile_cuts,
    quantile_ranks,
    read_quantiles,
)
from penstock.monitor.score_shift import decile_cuts
from penstock.run.history_table import HistoryRunId, history_name, stored_columns

MOST_CELLS = 400
"""Most cells of a decision's cross table."""
_BATCH_ROWS = 10_000
_OWN = ("run_id", "partition")
Element = sa.ColumnElement[Any]
_Place = tuple[str | None, str]
"""Schema and name of a destination's table."""


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

    key: Mapping[str, sa.types.TypeEngine[Any]]
    scores: Mapping[str, sa.types.TypeEngine[Any]]
    """Outputs that are numbers with fractions."""
    decisions: Mapping[str, sa.types.TypeEngine[Any]]
    """All other outputs."""
    only_a: tuple[str, ...] = ()
    """Outputs that have no value in B."""
    only_b: tuple[str, ...] = ()


@dataclass(frozen=True)
class _SideRows:
    """The rows of one side's runs, and which columns have values in them."""

    columns: dict[str, sa.Column[Any]]
    tables: dict[_Place, set[str]]
    """The columns of each table. Runs are in several if the pipeline has written to another one in between."""
    rows: dict[str, int]
    """By run."""
    valued: set[str]


class PairedRows:
    """The joined rows of pairs of runs."""

    def __init__(self, database: Database, pipeline: str, paired: PairedRuns, left_out: Collection[str]) -> None:
        """Look at both sides' tables.

        Args:
            left_out: Columns that are no outputs: those of `keep`.

        Raises:
            CompareRefused: a table is missing, or the two have other keys.
        """
        self._database, self._pipeline, self.paired = database, pipeline, paired
        self._a = self._read_side([pair.a for pair in paired.pairs])
        self._b = self._read_side([pair.b for pair in paired.pairs])
        self.columns = self._choose_columns(left_out)

    @cached_property
    def pairs(self) -> tuple[PairRows, ...]:
        """The counts of each pair, the oldest interval first."""
        differs = sa.or_(sa.false(), *(self._differs(name) for name in self.columns.decisions))
        joined = self._joined
        query = sa.select(joined.c.run_a, sa.func.count(), _count_if(differs)).group_by(joined.c.run_a)
        counted = {run_id: (int(both), int(flips)) for run_id, both, flips in self._fetch(query)}
        found = []
        for pair in self.paired.pairs:
            both, flips = counted.get(pair.a.run_id, (0, 0))
            rows_a, rows_b = self._a.rows.get(pair.a.run_id, 0), self._b.rows.get(pair.b.run_id, 0)
            found.append(PairRows(pair, both, rows_a - both, rows_b - both, flips))
        return tuple(found)

    def compare_score(self, column: str) -> ScoreAgreement:
        """Compare the two values of a score column."""
        a, b = self._values(column)
        difference = b - a
        nulls = (_count_if(a.is_(None) & b.is_not(None)), _count_if(a.is_not(None) & b.is_(None)))
        both = _count_if(a.is_(None) & b.is_(None))
        extremes = (sa.func.min(difference), sa.func.max(difference), sa.func.avg(sa.func.abs(difference)))
        present = a.is_not(None) & b.is_not(None)
        means = (_mean_if(a, present), _mean_if(b, present))
        [(rows, null_a, null_b, null_both, low, high, absolute, mean_a, mean_b)] = self._fetch(
            sa.select(_count_if(present), *nulls, both, *extremes, *means)
        )
        counts = ScoreAgreement(column, int(rows), int(null_a), int(null_b), int(null_both))
        if not counts.rows:
            return counts
        ranked = [self._read_quantiles(value, present, counts.rows) for value in (a, b)]
        deciles, psi, moments = self._read_bins(a, b, present, ranked, (float(mean_a), float(mean_b)))
        return replace(
            counts,
            mean_a=float(mean_a),
            mean_b=float(mean_b),
            mean_difference=float(absolute),
            largest_difference=max(float(low), float(high), key=abs),
            correlation=correlate(moments),
            psi=psi,
            deciles=deciles,
            quantiles_a=ranked[0],
            quantiles_b=ranked[1],
        )

    def compare_decision(self, column: str) -> DecisionAgreement:
        """Count the rows by the two values of a column."""
        a, b = (self._joined.c[self._label(side, column)] for side in "ab")
        rows = sa.func.count().label("rows")
        [(whole, flips)] = self._fetch(sa.select(sa.func.count(), _count_if(self._differs(column))))
        query = sa.select(a, b, rows).group_by(a, b).order_by(rows.desc(), a, b).limit(MOST_CELLS)
        cells = tuple(DecisionChange(one, two, int(number)) for one, two, number in self._fetch(query))
        return DecisionAgreement(column, int(whole), int(flips or 0), cells)

    def read_flips(self, limit: int | None = None) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of which a decision differs, ordered by interval and key, some thousand at a time.

        A row has `interval_start`, `interval_end`, `key_<column>`, and of every output `a_<column>` and `b_<column>`.
        Exact numbers are text.

        Args:
            limit: Yield only so many. None: all.
        """
        if not self.columns.decisions:
            return
        joined, first = self._joined, runs.alias("first")
        key = [joined.c[self._label("key", name)] for name in self.columns.key]
        named = [_exact(column).label(f"key_{name}") for column, name in zip(key, self.columns.key, strict=True)]
        outputs = [
            _exact(joined.c[self._label(side, name)]).label(f"{side}_{name}")
            for name in (*self.columns.decisions, *self.columns.scores)
            for side in "ab"
        ]
        query = (
            sa.select(first.c.interval_start, first.c.interval_end, *named, *outputs)
            .select_from(joined.join(first, first.c.run_id == joined.c.run_a))
            .where(sa.or_(*(self._differs(name) for name in self.columns.decisions)))
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

    def _read_side(self, side: Sequence[RunRecord]) -> _SideRows:
        """Count the rows of the runs, and look which columns have values.

        Raises:
            CompareRefused: a table is missing, or the tables have other keys.
        """
        columns: dict[str, sa.Column[Any]] = {}
        tables: dict[_Place, set[str]] = {}
        rows: dict[str, int] = {}
        valued: set[str] = set()
        for place, some in _by_table(side).items():
            schema, name = place
            history = history_name(name, schema)
            with self._database.reading() as connection:
                if not sa.inspect(connection).has_table(history.name, schema=history.schema):
                    raise self._refused(f"the table `{history.name}` is missing, so no run has a row in it")
                there = {c.name: c for c in stored_columns(connection, history) if c.name not in _OWN}
            self._refuse_other_key(columns, there, history.name)
            columns |= there
            tables[place] = set(there)
            table = _table_of(place, there, "rows_of")
            counts = [sa.func.count(table.c[name]) for name in there]
            ids = table.c.run_id.in_([run.run_id for run in some])
            grouped = sa.select(table.c.run_id, sa.func.count(), *counts).where(ids).group_by(table.c.run_id)
            for run_id, number, *present in self._fetch(grouped):
                rows[str(run_id).replace("-", "")] = int(number)
                valued |= {name for name, count in zip(there, present, strict=True) if count}
        return _SideRows(columns, tables, rows, valued)

    def _refuse_other_key(
        self, one: Mapping[str, sa.Column[Any]], other: Mapping[str, sa.Column[Any]], table: str
    ) -> None:
        if not one or (key := _key_of(one)) == (another := _key_of(other)):
            return
        named = [", ".join(f"`{name}` {kind}" for name, kind in found.items()) for found in (key, another)]
        raise self._refused(f"their tables have other keys: {named[0]}, and in `{table}` {named[1]}")

    def _choose_columns(self, left_out: Collection[str]) -> OutputColumns:
        a, b = self._a, self._b
        self._refuse_other_key(a.columns, b.columns, f"{next(iter(b.tables))[1]}__history")
        key = {name: column.type for name, column in a.columns.items() if not column.nullable}
        named = [n for n in dict.fromkeys((*a.columns, *b.columns)) if n not in key and n not in left_out]
        if a.rows and b.rows:  # without rows no column has a value
            outputs = [name for name in named if name in a.valued & b.valued]
        else:
            outputs = [name for name in named if name in a.columns.keys() & b.columns.keys()]
        scores = [name for name in outputs if _is_score(a.columns[name].type) and _is_score(b.columns[name].type)]
        return OutputColumns(
            key,
            {name: a.columns[name].type for name in scores},
            {name: a.columns[name].type for name in outputs if name not in scores},
            tuple(name for name in named if name in a.valued - b.valued and b.rows),
            tuple(name for name in named if name in b.valued - a.valued and a.rows),
        )

    @cached_property
    def _joined(self) -> sa.Subquery:
        """Return the rows of both, with the columns `run_a`, `key_<n>`, `a_<n>` and `b_<n>`."""
        selects = [self._join(places, pairs) for places, pairs in self._by_tables().items()]
        return (selects[0] if len(selects) == 1 else sa.union_all(*selects)).subquery("joined")

    def _by_tables(self) -> dict[tuple[_Place, _Place], list[RunPair]]:
        found: dict[tuple[_Place, _Place], list[RunPair]] = defaultdict(list)
        for pair in self.paired.pairs:
            found[_place(pair.a), _place(pair.b)].append(pair)
        return found

    def _join(self, places: tuple[_Place, _Place], pairs: Sequence[RunPair]) -> "sa.Select[Any]":
        run_a, run_b = runs.alias("run_a"), runs.alias("run_b")
        a, b = _table_of(places[0], self._a.columns, "rows_a"), _table_of(places[1], self._b.columns, "rows_b")
        joined = (
            run_a.join(run_b, run_a.c.interval_key == run_b.c.interval_key)
            .join(a, a.c.run_id == sa.cast(run_a.c.run_id, HistoryRunId))
            .join(
                b,
                sa.and_(
                    b.c.run_id == sa.cast(run_b.c.run_id, HistoryRunId),
                    *(b.c[name] == a.c[name] for name in self.columns.key),
                ),
            )
        )
        chosen = [a.c[name].label(self._label("key", name)) for name in self.columns.key]
        for name in (*self.columns.scores, *self.columns.decisions):
            chosen.append(_column_of(a, self._a, places[0], name).label(self._label("a", name)))
            chosen.append(_column_of(b, self._b, places[1], name).label(self._label("b", name)))
        return (
            sa.select(run_a.c.run_id.label("run_a"), *chosen)
            .select_from(joined)
            .where(run_a.c.run_id.in_([pair.a.run_id for pair in pairs]))
            .where(run_b.c.run_id.in_([pair.b.run_id for pair in pairs]))
        )

    def _label(self, side: str, column: str) -> str:
        """Return the name of a column of the joined rows. It has a number, because any name may be taken."""
        named = self.columns.key if side == "key" else (*self.columns.scores, *self.columns.decisions)
        return f"{side}_{list(named).index(column)}"

    def _differs(self, column: str) -> Element:
        a, b = (self._joined.c[self._label(side, column)] for side in "ab")
        return a.is_distinct_from(b)

    def _values(self, column: str) -> tuple[Element, Element]:
        """Return both values of a score as floats."""
        a, b = (sa.cast(self._joined.c[self._label(side, column)], sa.Double) for side in "ab")
        return a, b

    def _read_quantiles(self, value: Element, present: Element, rows: int) -> tuple[float, ...]:
        place = sa.func.row_number().over(order_by=value).label("place")
        ranked = sa.select(value.label("value"), place).where(present).subquery("ranked")
        chosen = sa.select(ranked.c.place, ranked.c.value).where(ranked.c.place.in_(quantile_ranks(rows)))
        return read_quantiles(rows, {int(n): float(v) for n, v in self._fetch(chosen)})

    def _read_bins(
        self,
        a: Element,
        b: Element,
        present: Element,
        quantiles: Sequence[Sequence[float]],
        means: tuple[float, float],
    ) -> tuple[tuple[tuple[int, ...], ...], float, Moments]:
        """Count the rows by both deciles and by the bins of the PSI, and add up what the correlation needs."""
        own = [[(cut, True) for cut in own_decile_cuts(each)] for each in quantiles]
        cuts = decile_cuts(quantiles[0])
        bins = [_bin(a, own[0]), _bin(b, own[1]), _bin(a, cuts), _bin(b, cuts)]
        named = [element.label(f"bin_{i}") for i, element in enumerate(bins)]
        around_a, around_b = a - means[0], b - means[1]
        binned = sa.select(*named, around_a.label("a"), around_b.label("b")).where(present).subquery("binned")
        by = [binned.c[f"bin_{i}"] for i in range(len(bins))]
        x, y = binned.c.a, binned.c.b
        sums = [sa.func.sum(x * x), sa.func.sum(y * y), sa.func.sum(x * y)]
        deciles = [[0] * DECILES for _ in range(DECILES)]
        in_a, in_b = [0] * (len(cuts) + 1), [0] * (len(cuts) + 1)
        moments = [0.0, 0.0, 0.0]
        for row, column, bin_a, bin_b, number, *added in self._fetch(
            sa.select(*by, sa.func.count(), *sums).group_by(*by).order_by(*by)
        ):
            deciles[row][column] += int(number)
            in_a[bin_a] += int(number)
            in_b[bin_b] += int(number)
            moments = [total + float(each) for total, each in zip(moments, added, strict=True)]
        return tuple(map(tuple, deciles)), measure_stability(in_a, in_b), Moments(*moments)

    def _fetch(self, query: "sa.Select[Any]") -> list[Any]:
        with self._database.reading() as connection:
            return list(connection.execute(query))

    def _refused(self, reason: str) -> CompareRefused:
        a, b = self.paired.a.name, self.paired.b.name
        return CompareRefused(self._pipeline, a, b, reason, "Choose runs of one table and one key.")


def _place(run: RunRecord) -> _Place:
    return split_name(run.destination or "")[0] or None, run.destination_table


def _by_table(found: Sequence[RunRecord]) -> dict[_Place, list[RunRecord]]:
    by_table: dict[_Place, list[RunRecord]] = defaultdict(list)
    for run in found:
        by_table[_place(run)].append(run)
    return by_table


def _table_of(place: _Place, columns: Mapping[str, sa.Column[Any]], alias: str) -> Any:
    schema, name = place
    history = history_name(name, schema)
    known = [sa.column(c.name, c.type) for c in columns.values()]
    return sa.table(history.name, sa.column("run_id", HistoryRunId), *known, schema=schema).alias(alias)


def _column_of(table: Any, side: _SideRows, place: _Place, name: str) -> Element:
    """Return a column, or NULL where this one of the side's tables lacks it."""
    column: Element = table.c[name] if name in side.tables[place] else sa.cast(sa.null(), side.columns[name].type)
    return column


def _key_of(columns: Mapping[str, sa.Column[Any]]) -> dict[str, str]:
    return {name: type(c.type).__name__ for name, c in columns.items() if not c.nullable}


def _is_score(kind: sa.types.TypeEngine[Any]) -> bool:
    return isinstance(kind, sa.Float | ExactNumber)


def _exact(column: Element) -> Element:
    """Return the expression to select for a column. Some drivers give exact numbers as floats."""
    return sa.cast(column, sa.Text) if isinstance(column.type, ExactNumber) else column


def _bin(value: Element, cuts: Sequence[tuple[float, bool]]) -> Element:
    """Return the number of the bin that a value is in. A cut is the upper end of a bin, which may include it."""
    if not cuts:
        return sa.literal(0)
    ends = [(value <= cut if included else value < cut, i) for i, (cut, included) in enumerate(cuts)]
    return sa.case(*ends, else_=len(cuts))


def _count_if(condition: Element) -> Element:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _mean_if(value: Element, condition: Element) -> Element:
    return sa.func.avg(sa.case((condition, value)))
