"""Judge what a challenger has shown against what a pipeline requires. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from penstock.spec.promotion import HIGHER_IS_BETTER, Requirements
from penstock.wording import plural

_ROUNDING = 1e-9
"""Differences of decimal fractions are not exact."""


@dataclass(frozen=True)
class Shown:
    """What the runs of the champion and of the challenger have shown in one pipeline."""

    intervals: int
    rows: int
    """Rows that both scored."""
    labelled: int
    """Those of them whose label counts."""
    metrics: Mapping[str, tuple[float, float]]
    """Of the champion and of the challenger, on the labelled rows."""
    flips: int | None
    """Rows of which a decision differs. None: the rows have no decision."""
    drifted: tuple[str, ...]
    """Columns with an alarm, each with its run."""
    uncounted: int
    """Runs of the champion whose columns were not counted for drift."""
    problem: str = ""
    """Why the performance could not be measured."""


@dataclass(frozen=True)
class Check:
    """One requirement, and what was found."""

    requirement: str
    wanted: str
    found: str
    passed: bool


def judge_gate(require: Requirements, shown: Shown) -> tuple[Check, ...]:
    """Judge every requirement. What was not measured has not passed."""
    return tuple(_judge(require, shown))


def _judge(require: Requirements, shown: Shown) -> Iterator[Check]:
    enough = shown.intervals >= require.intervals
    yield Check("intervals", f"at least {require.intervals:,}", f"{shown.intervals:,}", enough)
    if require.labelled is not None:
        known = shown.labelled >= require.labelled
        found = shown.problem if shown.problem and not known else f"{shown.labelled:,}"
        yield Check("labelled", f"at least {plural(require.labelled, 'row')}", found, known)
    for metric, limit in require.metrics.items():
        yield _judge_metric(metric, limit, shown)
    if require.flips is not None:
        yield _judge_flips(require.flips.at_most, shown)
    if require.drift is not None:
        yield _judge_drift(shown)


def _judge_metric(metric: str, limit: float, shown: Shown) -> Check:
    wanted = f"not worse by more than {limit:g}"
    if metric not in shown.metrics:
        return Check(metric, wanted, shown.problem or "no labelled row tells", passed=False)
    champion, challenger = shown.metrics[metric]
    worse = champion - challenger if metric in HIGHER_IS_BETTER else challenger - champion
    return Check(metric, wanted, f"{champion:.6g} → {challenger:.6g}", worse <= limit + _ROUNDING)


def _judge_flips(limit: float, shown: Shown) -> Check:
    wanted = f"at most {100 * limit:.6g}%"
    if shown.flips is None:
        return Check("flips", wanted, "the rows have no decision", passed=False)
    if not shown.rows:
        return Check("flips", wanted, "no row was scored by both", passed=False)
    share = shown.flips / shown.rows
    found = f"{share:.2%} ({shown.flips:,} of {plural(shown.rows, 'row')})"
    return Check("flips", wanted, found, share <= limit + _ROUNDING)


def _judge_drift(shown: Shown) -> Check:
    if not shown.intervals:
        return Check("drift", "none", "no interval was scored by both", passed=False)
    if shown.uncounted:
        found = f"{plural(shown.uncounted, 'run')} without counts: `drift` was not in the spec then"
        return Check("drift", "none", found, passed=False)
    return Check("drift", "none", ", ".join(shown.drifted) or "none", not shown.drifted)
