"""The figures of joined rows: of a score, of a ranking model's score, of a decision.

Every figure is an aggregate that the warehouse computes, so the memory of this process does not depend on the rows.
"""

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from penstock.monitor.agreement import (
    DECILES,
    DecisionAgreement,
    DecisionChange,
    Moments,
    RankAgreement,
    ScoreAgreement,
    correlate,
    measure_stability,
    own_decile_cuts,
    quantile_ranks,
    read_quantiles,
)
from penstock.monitor.score_shift import decile_cuts
from penstock.report.paired_rows import Element, PairedRows, count_if

MOST_CELLS = 400
"""Most cells of a decision's cross table."""
_Deciles = tuple[tuple[int, ...], ...]


def compare_score(rows: PairedRows, column: str) -> ScoreAgreement:
    """Compare the two values of a score column."""
    a, b = _values(rows, column)
    present, difference = _present(a, b), b - a
    counts = (
        count_if(present),
        count_if(a.is_(None) & b.is_not(None)),
        count_if(a.is_not(None) & b.is_(None)),
        count_if(a.is_(None) & b.is_(None)),
    )
    spread = (sa.func.min(difference), sa.func.max(difference), sa.func.avg(sa.func.abs(difference)))
    means = (sa.func.avg(sa.case((present, value))) for value in (a, b))
    [(*counted, low, high, absolute, mean_a, mean_b)] = rows.fetch(sa.select(*counts, *spread, *means))
    number, null_a, null_b, null_both = map(int, counted)
    found = ScoreAgreement(column, number, null_a, null_b, null_both)
    if not found.rows:
        return found
    quantiles = [_read_quantiles(rows, value, present, found.rows) for value in (a, b)]
    deciles, psi, moments = _read_bins(rows, (a, b), quantiles, (float(mean_a), float(mean_b)))
    is_ranked = column in rows.groups  # its scores are not comparable from one group to the next
    return replace(
        found,
        mean_a=float(mean_a),
        mean_b=float(mean_b),
        mean_difference=float(absolute),
        largest_difference=max(float(low), float(high), key=abs),
        correlation=correlate(moments),
        psi=None if is_ranked else psi,
        deciles=() if is_ranked else deciles,
        quantiles_a=quantiles[0],
        quantiles_b=quantiles[1],
    )


def compare_ranks(rows: PairedRows, column: str) -> RankAgreement:
    """Compare the places that both values of a ranking model's score give to the rows of each group."""
    group, missing = rows.groups[column], rows.missing_groups(column)
    if missing:
        return RankAgreement(column, group, missing)
    a, b = _values(rows, column)
    by = (rows.joined.c.run_a, *(rows.column("group", name) for name in group))
    places = [sa.func.rank().over(partition_by=by, order_by=value.desc()) for value in (a, b)]
    named = [each.label(f"by_{i}") for i, each in enumerate(by)]
    ranked = sa.select(*named, places[0].label("a"), places[1].label("b")).where(_present(a, b)).subquery("ranked")
    one_group = [ranked.c[each.name] for each in named]
    first = sa.func.max(sa.case(((ranked.c.a == 1) & (ranked.c.b == 1), 1), else_=0)).label("same")
    moved = sa.func.sum(sa.func.abs(ranked.c.a - ranked.c.b)).label("moved")
    number = sa.func.count()
    grouped = sa.select(number.label("rows"), first, moved).group_by(*one_group).having(number > 1).subquery("grouped")
    sums = [sa.func.sum(grouped.c[name]) for name in ("same", "moved", "rows")]
    [(groups, same, changes, ranked_rows)] = rows.fetch(sa.select(sa.func.count(), *sums).select_from(grouped))
    mean = float(changes) / float(ranked_rows) if groups else None
    return RankAgreement(column, group, (), int(groups), int(same or 0), mean)


def compare_decision(rows: PairedRows, column: str) -> DecisionAgreement:
    """Count the rows by the two values of a column."""
    a, b = rows.column("a", column), rows.column("b", column)
    [(whole, flips)] = rows.fetch(sa.select(sa.func.count(), count_if(rows.differs(column))))
    number = sa.func.count().label("rows")
    query = sa.select(a, b, number).group_by(a, b).order_by(number.desc(), a, b).limit(MOST_CELLS)
    cells = tuple(DecisionChange(one, two, int(count)) for one, two, count in rows.fetch(query))
    return DecisionAgreement(column, int(whole), int(flips), cells)


def _values(rows: PairedRows, column: str) -> tuple[Element, Element]:
    """Return both values of a score as floats."""
    a, b = (sa.cast(rows.column(side, column), sa.Double) for side in "ab")
    return a, b


def _present(a: Element, b: Element) -> Element:
    return a.is_not(None) & b.is_not(None)


def _read_quantiles(rows: PairedRows, value: Element, present: Element, number: int) -> tuple[float, ...]:
    place = sa.func.row_number().over(order_by=value).label("place")
    ranked = sa.select(value.label("value"), place).where(present).subquery("ranked")
    chosen = sa.select(ranked.c.place, ranked.c.value).where(ranked.c.place.in_(quantile_ranks(number)))
    return read_quantiles(number, {int(n): float(v) for n, v in rows.fetch(chosen)})


def _read_bins(
    rows: PairedRows,
    values: tuple[Element, Element],
    quantiles: Sequence[Sequence[float]],
    means: tuple[float, float],
) -> tuple[_Deciles, float, Moments]:
    """Count the rows by both deciles and by the bins of the PSI, and add up what the correlation needs."""
    a, b = values
    own = [[(cut, True) for cut in own_decile_cuts(each)] for each in quantiles]
    cuts = decile_cuts(quantiles[0])
    bins = (_bin(a, own[0]), _bin(b, own[1]), _bin(a, cuts), _bin(b, cuts))
    named = [element.label(f"bin_{i}") for i, element in enumerate(bins)]
    around = ((a - means[0]).label("a"), (b - means[1]).label("b"))
    binned = sa.select(*named, *around).where(_present(a, b)).subquery("binned")
    by, x, y = [binned.c[each.name] for each in named], binned.c.a, binned.c.b
    sums = [sa.func.sum(product) for product in (x * x, y * y, x * y)]
    query = sa.select(*by, sa.func.count(), *sums).group_by(*by).order_by(*by)
    deciles = [[0] * DECILES for _ in range(DECILES)]
    in_a, in_b, moments = [0] * (len(cuts) + 1), [0] * (len(cuts) + 1), [0.0, 0.0, 0.0]
    for decile_a, decile_b, bin_a, bin_b, number, *added in rows.fetch(query):
        deciles[decile_a][decile_b] += int(number)
        in_a[bin_a] += int(number)
        in_b[bin_b] += int(number)
        moments = [total + float(each) for total, each in zip(moments, added, strict=True)]
    return tuple(map(tuple, deciles)), measure_stability(in_a, in_b), Moments(*moments)


def _bin(value: Element, cuts: Sequence[tuple[float, bool]]) -> Element:
    """Return the number of the bin that a value is in. A cut is the upper end of a bin, which may include it."""
    ends = [(value <= cut if included else value < cut, i) for i, (cut, included) in enumerate(cuts)]
    return sa.case(*ends, else_=len(cuts))
