"""Estimate a run's time, memory and cost from past runs of its pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.migrations import has_ledger
from penstock.ledger.reader import RunRecord, fetch_runs, select_runs
from penstock.ledger.tables import runs
from penstock.resources.memory import MemoryProfile, read_fit
from penstock.resources.usage import Prices, format_bytes
from penstock.spec.parts import SANDBOX
from penstock.wording import plural

PAST_RUNS = 20
RECENT_RUNS = 1_000
"""The runs, also failed ones, among which past runs are looked for."""
_ALIKE = 1.5
"""If the past runs' row counts differ by less than this factor, fixed and per-row time cannot be separated."""


@dataclass(frozen=True)
class Estimate:
    """Estimated figures of a run over so many rows. None if past runs do not have the figure."""

    rows: int
    past_runs: int
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    cost: float | None = None

    def describe(self) -> str:
        """Describe the estimate in one line."""
        if self.seconds is None:
            return "no estimate: no past run"
        parts = [describe_seconds(self.seconds)]
        if self.cpu_seconds is not None and self.peak_bytes is not None:
            parts += [f"{describe_seconds(self.cpu_seconds)} CPU", f"{format_bytes(self.peak_bytes)} memory"]
        if self.cost is not None:
            parts.append(f"cost {self.cost:.4g}")
        return f"{', '.join(parts)} (from {plural(self.past_runs, 'past run')})"


def past_runs(database: Database, pipeline: str, variant: str = "live") -> list[RunRecord]:
    """Return the newest runs that were published with rows, also if they were superseded or withdrawn since."""
    if not has_ledger(database):
        return []
    published = (runs.c.variant == variant, runs.c.published_at.is_not(None), runs.c.rows_extracted > 0)
    query = select_runs().where(_is_recent(pipeline), *published).order_by(sa.desc(runs.c.published_at))
    return fetch_runs(database, query.limit(PAST_RUNS))


def newest_memory_profile(database: Database, pipeline: str) -> MemoryProfile | None:
    """Return the memory profile of the newest run that measured one."""
    if not has_ledger(database):
        return None
    query = select_runs().where(_is_recent(pipeline), runs.c.memory.is_not(None))
    found = fetch_runs(database, query.order_by(sa.desc(runs.c.started_at)).limit(1))
    return read_fit(found[0].memory).footprint if found and found[0].memory else None


def _is_recent(pipeline: str) -> sa.ColumnElement[bool]:
    """Whether a run is one of the pipeline's newest. No index finds those with rows or with a profile among all.

    Those of sandboxes are left out: another spec may have made them.
    """
    recent = runs.alias("recent")
    mine = sa.select(recent.c.run_id).where(
        recent.c.pipeline == pipeline, sa.not_(recent.c.variant.startswith(SANDBOX))
    )
    return runs.c.run_id.in_(mine.order_by(recent.c.started_at.desc()).limit(RECENT_RUNS))


def estimate_run(rows: int, past: Sequence[RunRecord], prices: Prices) -> Estimate:
    """Estimate a run over so many rows. Its memory is the median of the past runs.

    Runs of old versions may have a time, but no CPU seconds, memory or cost.
    """
    timed = [(run.rows_extracted, run.seconds) for run in past if run.rows_extracted and run.seconds is not None]
    seconds = _predict(rows, timed)
    cpu_seconds = _predict(rows, [(r.rows_extracted or 0, r.cpu_seconds) for r in past if r.cpu_seconds is not None])
    peaks = [run.peak_bytes for run in past if run.peak_bytes is not None]
    peak_bytes = round(median(peaks)) if peaks else None
    cost = None
    if seconds is not None and cpu_seconds is not None and peak_bytes is not None:
        cost = prices.cost(cpu_seconds, peak_bytes, seconds)
    return Estimate(rows, len(timed), seconds, cpu_seconds, peak_bytes, cost)


def sum_estimates(estimates: Sequence[Estimate]) -> Estimate:
    """Sum the estimates of runs one after the other. Memory is the largest."""

    def known(name: str) -> list[float]:
        values = [getattr(each, name) for each in estimates]
        return [] if None in values else values

    seconds, cpu_seconds, peaks, cost = (known(name) for name in ("seconds", "cpu_seconds", "peak_bytes", "cost"))
    return Estimate(
        rows=sum(each.rows for each in estimates),
        past_runs=max((each.past_runs for each in estimates), default=0),
        seconds=sum(seconds) if seconds else None,
        cpu_seconds=sum(cpu_seconds) if cpu_seconds else None,
        peak_bytes=round(max(peaks)) if peaks else None,
        cost=sum(cost) if cost else None,
    )


def _predict(rows: int, seen: Sequence[tuple[int, float]]) -> float | None:
    """Fit fixed + slope × rows (Theil–Sen) and return its value at `rows`.

    The slope is the median of the slopes between all pairs, which an outlier in four runs does not move. If all runs
    had about as many rows, the fixed part is taken to be 0.
    """
    if not seen:
        return None
    counts = [count for count, _ in seen]
    if max(counts) < _ALIKE * min(counts):
        return rows * median(took / count for count, took in seen)
    pairs = combinations(seen, 2)
    slopes = [(after - before) / (more - less) for (less, before), (more, after) in pairs if less != more]
    slope = max(median(slopes), 0.0)
    fixed = max(median(took - slope * count for count, took in seen), 0.0)
    return fixed + slope * rows


def describe_seconds(seconds: float) -> str:
    """Describe a span of time: `4.2 s`, `35 min`, `2.5 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
