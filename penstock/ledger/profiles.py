"""Profiles of runs in the ledger: write and read them, and find the runs that a run is compared with."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.destinations import LIVE, SERVED
from penstock.ledger.reader import RunRecord, fetch_runs, find_run, select_runs
from penstock.ledger.tables import profiles, runs
from penstock.run_types import Baseline, BinCounts, ColumnProfile, FarthestSlice
from penstock.spec.drift import PREVIOUS, SAME_WEEKDAY

JUDGED = ("published", "superseded", "withdrawn", "audited", "halted")
"""States of runs that the audit has judged."""
_AT_ONCE = 500


def replace_profiles(connection: sa.Connection, run_id: str, found: Sequence[ColumnProfile]) -> None:
    """Store the profiles of a run in place of those it has. Part of the audit's transaction."""
    connection.execute(sa.delete(profiles).where(profiles.c.run_id == run_id))
    if found:
        connection.execute(profiles.insert(), [_profile_row(run_id, each) for each in found])


def read_profiles(database: Database, run_id: str) -> dict[str, ColumnProfile]:
    """Return the profiles of a run by column, sorted by stage and name. Empty if it was not counted."""
    with database.reading() as connection:
        query = (
            sa.select(profiles).where(profiles.c.run_id == run_id).order_by(profiles.c.stage, profiles.c.column_name)
        )
        return {row["column_name"]: _profile(row) for row in connection.execute(query).mappings()}


def find_baseline(database: Database, run: RunRecord, against: str) -> RunRecord | None:
    """Return the published run that a run is compared with. None if there is none.

    Args:
        against: `previous`, `same_weekday`, or the ID of a run in any state.

    Raises:
        RunNotFound: the ledger has no run of that ID.
    """
    if against not in (PREVIOUS, SAME_WEEKDAY):
        return find_run(database, against)
    here = (runs.c.destination == run.destination, runs.c.variant == LIVE, runs.c.state == "published")
    query = select_runs().where(*here, runs.c.run_id != run.run_id)
    if run.interval is None:
        query = query.order_by(runs.c.published_at.desc())
    elif against == PREVIOUS:
        query = query.where(runs.c.interval_start < run.interval.start).order_by(runs.c.interval_start.desc())
    else:
        local = run.interval.start.astimezone(ZoneInfo(run.interval.zone)) - timedelta(days=7)  # the same time of day
        query = query.where(runs.c.interval_start == local.astimezone(UTC))
    return next(iter(fetch_runs(database, query.limit(1))), None)


def alarms_before(database: Database, run: RunRecord) -> dict[str, str]:
    """Return the alarms that a run may continue: by column, the run with which each of them began.

    They are those of the newest run that was judged before: of the same interval, else of the newest one before.
    """
    counted = sa.exists().where(profiles.c.run_id == runs.c.run_id)
    here = (runs.c.destination == run.destination, runs.c.variant == run.variant, runs.c.state.in_(JUDGED))
    query = select_runs().where(*here, runs.c.run_id != run.run_id, runs.c.started_at <= run.started_at, counted)
    newest = [runs.c.started_at.desc()]
    if run.interval is not None:
        query = query.where(runs.c.interval_start <= run.interval.start)
        newest.insert(0, runs.c.interval_start.desc())
    for before in fetch_runs(database, query.order_by(*newest).limit(1)):
        found = read_profiles(database, before.run_id).values()
        return {each.column: each.episode for each in found if each.alarm and each.episode}
    return {}


def newest_judged(database: Database, pipeline: str) -> RunRecord | None:
    """Return the live run of the newest interval of a pipeline that was judged and has profiles. None if there is none.

    Of several runs of the interval it is the newest one.
    """
    query = _select_counted(pipeline).where(runs.c.variant == LIVE, runs.c.state.in_(JUDGED))
    newest = query.order_by(runs.c.interval_start.desc(), runs.c.started_at.desc()).limit(1)
    return next(iter(fetch_runs(database, newest)), None)


def list_alarms(database: Database, run_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the columns with an alarm of each of these runs that was counted, in the order of the runs."""
    found: dict[str, list[str]] = {}
    columns = (profiles.c.run_id, profiles.c.column_name, profiles.c.alarm)
    with database.reading() as connection:
        for begin in range(0, len(run_ids), _AT_ONCE):
            query = sa.select(*columns).where(profiles.c.run_id.in_(run_ids[begin : begin + _AT_ONCE]))
            for run_id, column, alarm in connection.execute(query.order_by(profiles.c.column_name)):
                found.setdefault(run_id, []).extend([column] if alarm else [])
    return {run_id: tuple(found[run_id]) for run_id in run_ids if run_id in found}


def newest_profiled(database: Database, pipeline: str) -> RunRecord | None:
    """Return the run of a pipeline that has profiles and was started last, whatever became of it.

    Runs of recorded requests are left out: a person names them.
    """
    newest = _select_counted(pipeline).where(runs.c.variant != SERVED).order_by(runs.c.started_at.desc()).limit(1)
    return next(iter(fetch_runs(database, newest)), None)


def _select_counted(pipeline: str) -> "sa.Select[Any]":
    """Select the runs of a pipeline that have profiles."""
    return select_runs().where(runs.c.pipeline == pipeline, sa.exists().where(profiles.c.run_id == runs.c.run_id))


def _profile_row(run_id: str, profile: ColumnProfile) -> dict[str, Any]:
    baseline = profile.baseline
    return {
        "run_id": run_id,
        "column_name": profile.column,
        "stage": profile.stage,
        "kind": profile.kind,
        "edges": None if profile.edges is None else json.dumps(profile.edges, ensure_ascii=False),
        "edges_digest": profile.edges_digest,
        "model": profile.model,
        "counts": json.dumps(profile.counts.counts),
        "nulls": profile.counts.nulls,
        "baseline": baseline and baseline.name,
        "baseline_counts": baseline and json.dumps(baseline.counts.counts),
        "baseline_nulls": baseline and baseline.counts.nulls,
        "farthest": profile.farthest,
        "slice": profile.slice and json.dumps(asdict(profile.slice), ensure_ascii=False),
        "sources": json.dumps(profile.sources),
        "alarm": profile.alarm,
        "episode": profile.episode,
    }


def _profile(row: Any) -> ColumnProfile:
    baseline = None
    if row["baseline"] is not None:
        counts = BinCounts(tuple(json.loads(row["baseline_counts"])), row["baseline_nulls"])
        baseline = Baseline(row["baseline"], counts)
    return ColumnProfile(
        row["column_name"],
        row["stage"],
        row["kind"],
        None if row["edges"] is None else tuple(json.loads(row["edges"])),
        row["edges_digest"],
        row["model"],
        BinCounts(tuple(json.loads(row["counts"])), row["nulls"]),
        baseline,
        row["farthest"],
        None if row["slice"] is None else FarthestSlice(**json.loads(row["slice"])),
        tuple(json.loads(row["sources"] or "[]")),
        row["alarm"],
        row["episode"],
    )
