"""The probability that chance alone gives a difference between two samples of one population."""

from collections.abc import Iterator, Sequence

LEAST_EXPECTED = 5.0
"""Fewest rows that are expected in a bin for the chi-square distribution to hold: Cochran, Some Methods for
Strengthening the Common Chi-square Tests, Biometrics 10 (1954)."""


def chance_of_bins(now: Sequence[int], before: Sequence[int], *, ordered: bool) -> float:
    """Return the p-value of the chi-square test that two samples have one distribution over bins.

    Bins with few expected rows are pooled: with the next bin if the bins have an order, otherwise the smallest ones.

    Args:
        now, before: rows in each bin.
    """
    from scipy.special import chdtrc

    rows, rows_before = sum(now), sum(before)
    if not rows or not rows_before:
        return 1.0
    smaller = min(rows, rows_before) / (rows + rows_before)
    bins = list(zip(now, before, strict=True))
    pooled = list(_pool(bins if ordered else sorted(bins, key=sum), LEAST_EXPECTED / smaller))
    statistic = 0.0
    for new, old in pooled:
        both = new + old
        expected = both * rows / (rows + rows_before)
        statistic += (new - expected) ** 2 * (1 / expected + 1 / (both - expected))
    return float(chdtrc(len(pooled) - 1, statistic)) if len(pooled) > 1 else 1.0


def _pool(bins: Sequence[tuple[int, int]], least: float) -> Iterator[tuple[int, int]]:
    """Add up neighbouring bins until each has at least so many rows of both samples together."""
    new = old = 0
    pooled: list[tuple[int, int]] = []
    for more, more_old in bins:
        new, old = new + more, old + more_old
        if new + old >= least:
            pooled.append((new, old))
            new = old = 0
    if pooled:
        last_new, last_old = pooled.pop()
        new, old = new + last_new, old + last_old
    yield from pooled
    yield new, old


def chance_of_share(having: int, rows: int, having_before: int, rows_before: int) -> float:
    """Return the two-sided p-value that two samples have one share.

    With few expected rows it is binomial, given how many rows of both samples have it, which is slightly too large.
    """
    from scipy.special import bdtr, bdtrc, chdtrc

    total, both = rows + rows_before, having + having_before
    if not rows or not rows_before or both in (0, total):
        return 1.0
    if 2 * both > total:  # the rarer case of the two
        having, both = rows - having, total - both
    expected = both * rows / total
    least = min(both, total - both) * min(rows, rows_before) / total
    if least >= LEAST_EXPECTED:
        away = max(abs(having - expected) - 0.5, 0.0)  # Yates' correction
        variance = expected * (1 - both / total) * rows_before / total
        return float(chdtrc(1, away**2 / variance))
    share = rows / total
    at_most = float(bdtr(having, both, share))
    at_least = float(bdtrc(having - 1, both, share)) if having else 1.0
    return min(1.0, 2 * min(at_most, at_least))
