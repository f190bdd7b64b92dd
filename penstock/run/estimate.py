"""What a run would take, from what past runs of its pipeline took."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.migrations import migrate
from penstock.ledger.reader import RunRecord, fetch_runs, select_runs
from penstock.ledger.tables import runs
from penstock.resources.memory import MemoryProfile, read_fit
from penstock.resources.usage import Prices, format_bytes

PAST_RUNS = 20
_ALIKE = 1.5
"""Past runs whose rows differ by no more than this factor do not tell what is fixed and what goes with the rows."""


@dataclass(frozen=True)
class Estimate:
    """What a run over so many rows would take; None where past runs do not tell."""

    rows: int
    past_runs: int
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    cost: float | None = None

    def tell(self) -> str:
        """Say it in one line."""
        if self.seconds is None:
            return "no estimate: no past run"
        told = [tell_seconds(self.seconds)]
        if self.cpu_seconds is not None and self.peak_bytes is not None:
            told += [f"{tell_seconds(self.cpu_seconds)} CPU", f"{format_bytes(self.peak_bytes)} memory"]
        if self.cost is not None:
            told.append(f"cost {self.cost:.4g}")
        return f"{', '.join(told)} (from {self.past_runs} past run{'s' if self.past_runs > 1 else ''})"


def past_runs(database: Database, pipeline: str, variant: str = "live") -> list[RunRecord]:
    """Return the newest runs that were published with rows, whatever became of them since."""
    migrate(database)
    query = (
        select_runs()
        .where(runs.c.pipeline == pipeline, runs.c.variant == variant)
        .where(runs.c.published_at.is_not(None), runs.c.rows_extracted > 0)
        .order_by(sa.desc(runs.c.published_at))
        .limit(PAST_RUNS)
    )
    return fetch_runs(database, query)


def newest_footprint(database: Database, pipeline: str) -> MemoryProfile | None:
    """Return what the newest run that measured its rows found that they take."""
    migrate(database)
    query = select_runs().where(runs.c.pipeline == pipeline, runs.c.memory.is_not(None))
    found = fetch_runs(database, query.order_by(sa.desc(runs.c.started_at)).limit(1))
    return read_fit(found[0].memory).footprint if found and found[0].memory else None


def estimate_run(rows: int, past: Sequence[RunRecord], prices: Prices) -> Estimate:
    """Estimate a run over so many rows; its memory is the median of the past runs'.

    Runs of a Penstock that did not measure yet tell the time and nothing else.
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


def add_up(estimates: Sequence[Estimate]) -> Estimate:
    """Return what runs one after the other would take; of their memory the most."""

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
    """Return the median line through what was seen: so much for a run, so much for a row.

    The line is that of Theil and Sen: the slope is the median of the slopes between all pairs, which one odd run in
    four does not move. Where all runs had about as many rows, everything is taken to go with the rows.
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


def tell_seconds(seconds: float) -> str:
    """Write a span as people read it: `4.2 s`, `35 min`, `2.5 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
