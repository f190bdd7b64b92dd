"""Make runs live that have ended: replaced and withdrawn ones, those of other variants, and accepted ones.

No row is scored or written. All runs of a move become live in one transaction, in place of what is live there.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import PublishRefused, RunNotFound, WrongState
from penstock.interval import DataInterval, is_covered
from penstock.ledger.challengers import follow_champions
from penstock.ledger.destinations import LIVE, find_overlapping, lock_pointer, owns, split_name
from penstock.ledger.migrations import has_ledger
from penstock.ledger.pins import read_pins
from penstock.ledger.reader import RunRecord, fetch_runs, read_runs, select_runs
from penstock.ledger.releases import settle_releases
from penstock.ledger.tables import moves, runs
from penstock.ledger.writer import retire
from penstock.run_types import SHADOW, interval_label
from penstock.spec.parts import SANDBOX

WAS_LIVE = ("superseded", "withdrawn")
"""States of a run that was live before."""
Admit = Callable[[sa.Connection, "Sequence[RunRecord]"], None]
"""Refuses runs that may not become live. Called under the locks, and without them for a look."""
BY_VERSION = sa.or_(runs.c.variant == LIVE, runs.c.variant.startswith(SHADOW))
"""The condition for runs that a version's name stands for. Runs of other variants are named by themselves."""


@dataclass(frozen=True)
class PointerMove:
    """The runs that become live together, and the live runs that give way."""

    runs: tuple[RunRecord, ...]
    """The oldest interval first."""
    replaced: tuple[RunRecord, ...]

    def replaced_by(self, run: RunRecord) -> list[RunRecord]:
        """Return the live runs that share a moment with one of the runs."""
        return [other for other in self.replaced if _overlap(run.interval, other.interval)]


@dataclass(frozen=True)
class MoveRecord:
    """One run of a past move, as the ledger keeps it."""

    move_id: str
    run_id: str
    state_before: str
    variant_before: str
    published_before: datetime | None
    instead_of: tuple[str, ...]
    moved_at: datetime
    moved_by: str
    reason: str


def require_ended_well(connection: sa.Connection, chosen: Sequence[RunRecord]) -> None:
    """Refuse runs that are live already, or never ended well.

    Raises:
        WrongState: there is one.
    """
    del connection
    for run in chosen:
        if is_live(run) or not (run.state in WAS_LIVE or run.state == "published"):
            raise WrongState(run.run_id, run.state, "` or `".join(WAS_LIVE))


def plan_move(database: Database, run_ids: Sequence[str], admit: Admit = require_ended_well) -> PointerMove:
    """Return what would become live, and what would give way. Change nothing.

    Raises:
        RunNotFound: the ledger has no such run.
        WrongState: a run is live already, or never ended well.
        PublishRefused: the runs cannot become live together.
    """
    if not has_ledger(database):
        raise RunNotFound(run_ids[0])
    with database.reading() as connection:
        return _plan(connection, run_ids, admit)


def publish_again(
    database: Database,
    run_ids: Sequence[str],
    by: str,
    reason: str,
    check: Callable[[sa.Connection, PointerMove], None],
    admit: Admit = require_ended_well,
) -> PointerMove:
    """Make ended runs the live ones, all in one transaction, and record who did it and why.

    Args:
        check: Called under the locks, before anything changes. It raises if the runs cannot be shown.

    Raises:
        RunNotFound, WrongState, PublishRefused: as `plan_move`; nothing changes.
    """
    if not has_ledger(database):
        raise RunNotFound(run_ids[0])
    with database.writing() as connection:
        _lock(connection, _read(connection, run_ids))
        move = _plan(connection, run_ids, admit)
        check(connection, move)
        now, move_id = database.now(connection), uuid.uuid4().hex
        newer = {
            other.run_id: next(run.run_id for run in move.runs if _overlap(run.interval, other.interval))
            for other in move.replaced
        }
        for run_id, successor in newer.items():
            retire(connection, run_id, "superseded", now, successor)
        follow_champions(connection, newer)
        for run in move.runs:
            shown = {"state": "published", "variant": LIVE, "published_at": now}
            shown |= {"retired_at": None, "replaced_by_run_id": None, "error": None}
            shown |= {"champion_run_id": None, "share": None}
            connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(**shown))
            settle_releases(connection, run.run_id)
            connection.execute(
                moves.insert().values(
                    move_id=move_id,
                    run_id=run.run_id,
                    pipeline=run.pipeline,
                    state_before=run.state,
                    variant_before=run.variant,
                    published_before=run.published_at,
                    instead_of=json.dumps([other.run_id for other in move.replaced_by(run)]),
                    moved_at=now,
                    moved_by=by,
                    reason=reason,
                )
            )
        return move


def find_scored_by(
    database: Database, pipeline: str, name: str, version: str, start: datetime | None, end: datetime | None
) -> list[RunRecord]:
    """Return the newest runs that a model version scored, of intervals where it scored no live run.

    Of runs that overlap, the newest is taken. Withdrawn runs are left out.

    Args:
        start, end: Take only intervals that touch `[start, end)`.
    """
    if not has_ledger(database):
        return []
    shown = sa.or_(
        runs.c.state == "superseded", sa.and_(runs.c.state == "published", runs.c.variant.startswith(SHADOW))
    )
    live = sa.and_(runs.c.state == "published", runs.c.variant == LIVE)
    mine = (runs.c.pipeline == pipeline, BY_VERSION, runs.c.rows_pruned_at.is_(None))
    query = select_runs().where(*mine, sa.or_(shown, live))
    if start is not None:
        query = query.where(runs.c.interval_end > start)
    if end is not None:
        query = query.where(runs.c.interval_start < end)
    chosen: list[RunRecord] = []
    for run in fetch_runs(database, query.order_by(runs.c.destination, runs.c.interval_start, runs.c.started_at)):
        if all((pin.name, pin.version) != (name, version) for pin in run.pins.values()):
            continue
        last = chosen[-1] if chosen else None
        if last is None or last.destination != run.destination or not _overlap(last.interval, run.interval):
            chosen.append(run)
        elif (is_live(run), run.started_at) > (is_live(last), last.started_at):
            chosen[-1] = run
    return [run for run in chosen if not is_live(run)]


def list_versions(database: Database, pipeline: str) -> list[str]:
    """Return the versions that scored the pipeline's published and replaced runs, as `name/version`.

    Those of sandboxes are left out, because none of their runs can be published.
    """
    scored = (runs.c.pipeline == pipeline, runs.c.state.in_(("published", "superseded")), BY_VERSION)
    query = sa.select(runs.c.model_name, runs.c.model_version, runs.c.step_models).where(*scored).distinct()
    with database.reading() as connection:
        found = connection.execute(query).all()
    versions = {(name, version) for name, version, _ in found}
    versions |= {(pin.name, pin.version) for *_, steps in found for pin in read_pins(steps).values()}
    ordered = sorted(versions, key=lambda each: (each[0], int(each[1])))
    return [f"{name}/{version}" for name, version in ordered]


def moves_of(database: Database, run_id: str) -> list[MoveRecord]:
    """Return the moves that made a run live, or made it give way, the oldest first."""
    columns = [moves.c[name] for name in MoveRecord.__dataclass_fields__]
    mine = sa.or_(moves.c.run_id == run_id, moves.c.instead_of.contains(run_id, autoescape=True))
    with database.reading() as connection:
        found = connection.execute(sa.select(*columns).where(mine).order_by(moves.c.moved_at)).mappings().all()
    return [MoveRecord(**(dict(row) | {"instead_of": tuple(json.loads(row["instead_of"]))})) for row in found]


def is_live(run: RunRecord) -> bool:
    return run.state == "published" and run.variant == LIVE


def _plan(connection: sa.Connection, run_ids: Sequence[str], admit: Admit) -> PointerMove:
    chosen = sorted(_read(connection, run_ids), key=lambda run: (run.interval_start is not None, run.interval_key))
    admit(connection, chosen)
    pipeline, place = chosen[0].pipeline, chosen[0].destination or ""
    if tried := [_name(run) for run in chosen if run.variant.startswith(SANDBOX)]:
        reason = f"a sandbox scored them, by a spec that may be another one: {_list(tried)}"
        remedy = (
            "Change the pipeline's spec as the sandbox's was, and score the intervals with it: "
            f"`penstock run {pipeline} --restate --start … --end …`."
        )
        raise PublishRefused(pipeline, reason, remedy)
    others = sorted({run.pipeline for run in chosen} | {run.destination or "" for run in chosen} - {place})
    if others != [pipeline]:
        raise PublishRefused(
            pipeline, "they are of several destinations", "Publish those of each one alone; `--table` names one."
        )
    if not owns(connection, place, pipeline):
        table = split_name(place)[1]
        raise PublishRefused(pipeline, f"the destination `{table}` belongs to another pipeline")
    sampled = [f"{_name(run)} scored {run.share:.1%}" for run in chosen if run.share is not None]
    if sampled:
        remedy = "Score the whole intervals: restate them with this version as the model."
        raise PublishRefused(pipeline, f"a challenger's run of a share of the rows: {_list(sampled)}", remedy)
    pruned = [_name(run) for run in chosen if run.rows_pruned_at is not None]
    if pruned:
        raise PublishRefused(pipeline, f"the rows of {_list(pruned)} were pruned")
    for one, two in pairwise(chosen):
        if _overlap(one.interval, two.interval):
            raise PublishRefused(pipeline, f"{_name(one)} and {_name(two)} overlap", "Choose one of the two.")
    replaced: dict[str, RunRecord] = {}
    spans = [run.interval for run in chosen if run.interval]
    for run in chosen:
        ids = [other.run_id for other in find_overlapping(connection, place, LIVE, run.interval)]
        replaced |= {other.run_id: other for other in _read(connection, ids)}
    partly = [
        _name(other)
        for other in replaced.values()
        if len(spans) == len(chosen) and (other.interval is None or not is_covered(other.interval, spans))
    ]
    if partly:
        raise PublishRefused(pipeline, f"they cover live runs only in part: {_list(partly)}")
    return PointerMove(tuple(chosen), tuple(replaced.values()))


def _read(connection: sa.Connection, run_ids: Sequence[str]) -> list[RunRecord]:
    """Read runs by their whole ids, 500 at once.

    Raises:
        RunNotFound: one is missing.
    """
    found: dict[str, RunRecord] = {}
    for first in range(0, len(run_ids), 500):
        some = select_runs().where(runs.c.run_id.in_(run_ids[first : first + 500]))
        found |= {run.run_id: run for run in read_runs(connection, some)}
    missing = [run_id for run_id in run_ids if run_id not in found]
    if missing:
        raise RunNotFound(missing[0])
    return list(found.values())


def _lock(connection: sa.Connection, chosen: Sequence[RunRecord]) -> None:
    """Lock the destination and the intervals, as live runs and as what the runs are now."""
    for run in chosen:
        for variant in {run.variant, LIVE}:
            lock_pointer(connection, run.destination or "", run.pipeline, run.interval_key, variant)


def _overlap(one: DataInterval | None, other: DataInterval | None) -> bool:
    return one is None or other is None or one.overlaps(other)


def _name(run: RunRecord) -> str:
    return f"{run.run_id[:8]} ({interval_label(run.interval)})"


def _list(named: Sequence[str]) -> str:
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    return ", ".join(named[:5]) + more
