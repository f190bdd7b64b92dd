"""Choose the runs of two sides that are compared, and pair those of one interval.

A side is named by a run's ID, by a model version (`card-risk/3`), or by a variant (`live`, `shadow:card-risk/3`,
`sandbox:lower`). `champion` stands for `live`. Only runs that are or were published are compared, because others may
lack rows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import CompareRefused, nearest
from penstock.ledger.destinations import LIVE
from penstock.ledger.migrations import has_ledger
from penstock.ledger.pointer_moves import BY_VERSION, WAS_LIVE, is_live
from penstock.ledger.reader import RunRecord, fetch_runs, find_run, select_runs
from penstock.ledger.tables import runs
from penstock.run_types import interval_label
from penstock.wording import plural

CHAMPION = "champion"
"""The name by which people know the runs of the variant `live`, beside challengers and sandboxes."""
COMPLETE = ("published", *WAS_LIVE)
"""States of a run that is or was published."""
MOST_PAIRS = 10_000
"""More pairs would not fit the parameters of a statement on each warehouse."""


@dataclass(frozen=True)
class RunPair:
    """Two runs of one interval."""

    a: RunRecord
    b: RunRecord

    @property
    def label(self) -> str:
        return interval_label(self.a.interval)


@dataclass(frozen=True)
class Side:
    """The runs that one name stands for, at most one for each interval, the oldest interval first."""

    name: str
    runs: tuple[RunRecord, ...]
    pruned: tuple[RunRecord, ...] = ()
    """Runs of intervals in which no run of this name has its rows any more."""


@dataclass(frozen=True)
class PairedRuns:
    """The pairs of two sides, and what has no counterpart."""

    a: Side
    b: Side
    pairs: tuple[RunPair, ...]
    only_a: tuple[RunRecord, ...]
    only_b: tuple[RunRecord, ...]
    same: tuple[RunRecord, ...]
    """Runs that both names stand for. They are left out."""


def find_pairs(
    database: Database, pipeline: str, a: str, b: str, start: datetime | None, end: datetime | None
) -> PairedRuns:
    """Pair the runs of two sides.

    Args:
        a, b: An ID of a run or its beginning, a model version, or a variant.
        start, end: Take only intervals that touch `[start, end)`.

    Raises:
        RunNotFound: no run has this ID.
        CompareRefused: a name is unknown, a run never ended well, rows were pruned, or no interval is in both.
    """
    one, two = (_find_side(database, pipeline, name, start, end) for name in (a, b))
    of_b = {run.interval_key: run for run in two.runs}
    of_a = {run.interval_key: run for run in one.runs}
    both = [RunPair(run, of_b[run.interval_key]) for run in one.runs if run.interval_key in of_b]
    paired = PairedRuns(
        one,
        two,
        tuple(pair for pair in both if pair.a.run_id != pair.b.run_id),
        tuple(run for run in one.runs if run.interval_key not in of_b),
        tuple(run for run in two.runs if run.interval_key not in of_a),
        tuple(pair.a for pair in both if pair.a.run_id == pair.b.run_id),
    )
    if not paired.pairs:
        raise _nothing_paired(pipeline, paired)
    if len(paired.pairs) > MOST_PAIRS:
        reason = f"both have {plural(len(paired.pairs), 'interval')}, and at most {MOST_PAIRS:,} are compared at once"
        raise CompareRefused(pipeline, a, b, reason, "Name a part of them with `--start` and `--end`.")
    return paired


def _find_side(database: Database, pipeline: str, name: str, start: datetime | None, end: datetime | None) -> Side:
    query = select_runs().where(runs.c.pipeline == pipeline, runs.c.state.in_(COMPLETE))
    if start is not None:
        query = query.where(runs.c.interval_end > start)
    if end is not None:
        query = query.where(runs.c.interval_start < end)
    if not has_ledger(database):
        raise _unknown(pipeline, name, ())
    name = LIVE if name == CHAMPION else name
    variants, versions = _list_variants(database, pipeline), _list_scored(database, pipeline)
    if name in variants:
        return _choose_runs(name, fetch_runs(database, query.where(runs.c.variant == name)))
    if name in versions:
        found = fetch_runs(database, query.where(BY_VERSION))
        return _choose_runs(name, [run for run in found if name in map(str, run.pins.values())])
    if re.fullmatch(r"[0-9a-fA-F]+", name):
        return Side(name, (_find_one(database, pipeline, name),))
    if tried := sorted({run.variant for run in fetch_runs(database, query) if name in map(str, run.pins.values())}):
        reason = f"only {', '.join(tried)} scored with this version"
        raise CompareRefused(pipeline, name, "", reason, f"Name {tried[0]} instead.")
    raise _unknown(pipeline, name, (*versions, *variants))


def _find_one(database: Database, pipeline: str, run_id: str) -> RunRecord:
    """Return the run of an ID, if it is complete and has its rows.

    Raises:
        RunNotFound, CompareRefused: it is not.
    """
    run = find_run(database, run_id.lower())
    label = f"run {run.run_id[:8]} ({interval_label(run.interval)})"
    if run.pipeline != pipeline:
        raise CompareRefused(pipeline, run_id, "", f"{label} is of pipeline `{run.pipeline}`", _LIST_RUNS)
    if run.state not in COMPLETE:
        reason = f"{label} is `{run.state}`, so it may lack rows"
        raise CompareRefused(pipeline, run_id, "", reason, f"Choose a run that was published. {_LIST_RUNS}")
    if run.rows_pruned_at is not None:
        raise CompareRefused(pipeline, run_id, "", f"the rows of {label} were pruned", _SCORE_AGAIN)
    return run


def _choose_runs(name: str, found: Sequence[RunRecord]) -> Side:
    """Return of each interval one run: one with rows, if possible the live one, else one of all rows and published."""

    def order(run: RunRecord) -> tuple[Any, ...]:
        kept, whole = run.rows_pruned_at is None, run.share is None
        return kept, is_live(run), whole, run.state == "published", run.started_at, run.run_id

    chosen: dict[str, RunRecord] = {}
    for run in found:
        known = chosen.get(run.interval_key)
        if known is None or order(run) > order(known):
            chosen[run.interval_key] = run
    ordered = sorted(chosen.values(), key=lambda run: (run.interval_start is not None, run.interval_start))
    kept = tuple(run for run in ordered if run.rows_pruned_at is None)
    return Side(name, kept, tuple(run for run in ordered if run.rows_pruned_at is not None))


def _list_variants(database: Database, pipeline: str) -> tuple[str, ...]:
    query = sa.select(runs.c.variant).where(runs.c.pipeline == pipeline, runs.c.state.in_(COMPLETE)).distinct()
    with database.reading() as connection:
        return tuple(sorted(connection.execute(query).scalars()))


def _list_scored(database: Database, pipeline: str) -> tuple[str, ...]:
    """Return the versions that scored complete runs. Those of sandboxes are named by their variants."""
    of_pipeline = select_runs().where(runs.c.pipeline == pipeline, runs.c.state.in_(COMPLETE), BY_VERSION)
    return tuple(sorted({str(pin) for run in fetch_runs(database, of_pipeline) for pin in run.pins.values()}))


_LIST_RUNS = "List them with `penstock runs`."
_SCORE_AGAIN = (
    "Score the interval again with `penstock run --restate`, and set `retention: {keep_runs: …}` to keep the rows of "
    "replaced runs longer."
)


def _unknown(pipeline: str, name: str, known: Sequence[str]) -> CompareRefused:
    named = f"no published run has this name.{nearest(name, known)}"
    return CompareRefused(
        pipeline,
        name,
        "",
        named if known else "no run was published yet",
        "Name a run's ID, a model version as in card-risk/3, or a variant: live, shadow:card-risk/3 or sandbox:lower.",
    )


def _nothing_paired(pipeline: str, paired: PairedRuns) -> CompareRefused:
    """Say why there is no pair: what each side has, in this order of causes."""
    a, b = paired.a, paired.b
    if paired.same:
        reason = f"both stand for the same {plural(len(paired.same), 'run')}: {_list_runs(paired.same)}"
        return CompareRefused(pipeline, a.name, b.name, reason, f"Name two runs by their IDs. {_LIST_RUNS}")
    pruned = [f"the rows of `{side.name}` were pruned in {_list_runs(side.pruned)}" for side in (a, b) if side.pruned]
    has = [f"`{side.name}` has {_list_runs(side.runs)}" for side in (a, b)]
    remedy = _SCORE_AGAIN if pruned else "Score the same intervals, or choose others. Both need the same bounds."
    return CompareRefused(pipeline, a.name, b.name, "; ".join(["no interval is in both", *has, *pruned]), remedy)


def _list_runs(found: Sequence[RunRecord]) -> str:
    """Write the intervals of runs: the first and the last ones."""
    if not found:
        return "no run in this range"
    labels = [f"{interval_label(run.interval)} (run {run.run_id[:8]})" for run in found]
    if len(labels) > 4:
        labels = [*labels[:2], "…", labels[-1]]
        return f"{', '.join(labels)} ({plural(len(found), 'interval')})"
    return ", ".join(labels)
