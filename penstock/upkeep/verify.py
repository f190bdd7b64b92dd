"""Verify the ledger: each of its invariants as one read-only query that returns the rows which break it."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger.acceptance import HALTED
from penstock.ledger.destinations import LIVE, SERVED, VIEWS, find_dispute, shown_variant, split_name
from penstock.ledger.pointer_moves import WAS_LIVE
from penstock.ledger.promotions import OPEN
from penstock.ledger.tables import (
    destinations,
    drift_answers,
    erased_seals,
    label_sources,
    labels,
    moves,
    partitions,
    performance,
    profiles,
    promotions,
    quarantine,
    runs,
    seals,
    validations,
)
from penstock.run.history_table import HistoryRunId, history_name
from penstock.run.reasons_table import REASON, UNEXPLAINED, is_explained, is_over_budget, reasons_name
from penstock.run_types import SHADOW, interval_key
from penstock.spec.stages import SCORES
from penstock.upkeep.delivery_invariants import find_broken_deliveries
from penstock.upkeep.erasure import count_forgotten
from penstock.upkeep.served_invariants import find_broken_recordings
from penstock.wording import plural

ENDED_WITH_COUNTS = ("published", "audited", "superseded", "withdrawn")
SHOWN = 20
"""Most rows that a violation names."""
_RESTATE = "Restate the intervals of these runs."


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold in one place."""

    invariant: str
    where: str
    """The destination or the table."""
    rows: tuple[str, ...]
    """What breaks it, the first ones."""
    remedy: str


Check = Callable[[sa.Connection], Iterator[Violation]]


def verify_ledger(database: Database) -> tuple[Violation, ...]:
    """Check every invariant of the ledger. Nothing is written; an empty result means that all hold."""
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(destinations.name):
            return ()
        return tuple(violation for check in CHECKS for violation in check(connection))


def _one_run_an_interval(connection: sa.Connection) -> Iterator[Violation]:
    # Grouped in the order of an index. The key of an interval consists of its start and its end.
    same = (runs.c.destination, runs.c.variant, runs.c.state, runs.c.interval_start, runs.c.interval_end)
    twice = sa.select(*same, sa.func.count()).where(runs.c.state.in_(("running", "published"))).group_by(*same)
    found = connection.execute(twice.having(sa.func.count() > 1).limit(SHOWN))
    for place, variant, state, start, end, number in found:
        key = interval_key(None if start is None else DataInterval(start, end))
        remedy = "Withdraw all but one." if state == "published" else "Wait until their leases end, then run again."
        yield Violation(f"one {state} run an interval", str(place), (f"{key} {variant}: {number}",), remedy)


def _no_overlaps_and_one_owner(connection: sa.Connection) -> Iterator[Violation]:
    owners = dict(connection.execute(sa.select(destinations.c.destination, destinations.c.pipeline)).tuples().all())
    beside = sa.not_(runs.c.variant.startswith(SHADOW))
    live = sa.select(runs.c.destination).where(runs.c.state == "published", beside).distinct()
    for place in connection.execute(live).scalars().all():
        dispute = find_dispute(connection, place, SHOWN)
        if dispute and dispute.overlaps:
            pairs = tuple(f"{a.run_id} {a.label} and {b.run_id} {b.label}" for a, b in dispute.overlaps)
            yield Violation("live runs do not overlap", place, pairs, "`penstock withdraw RUN_ID` one of each pair.")
        owner = owners.get(place)
        others = _pipelines_of(connection, place)
        if others != ({owner} if owner else set()):
            rows = (f"owner: {owner}", *(f"live runs of: {name}" for name in sorted(others)))
            remedy = "`penstock rename OLD NEW`, or `penstock withdraw --pipeline NAME` for all but one."
            yield Violation("a destination belongs to one pipeline", place, rows, remedy)


def _pipelines_of(connection: sa.Connection, place: str) -> set[str]:
    here = (runs.c.destination == place, runs.c.state == "published", runs.c.variant == shown_variant(place))
    return set(connection.execute(sa.select(runs.c.pipeline).where(*here).distinct()).scalars())


def _counts_add_up(connection: sa.Connection) -> Iterator[Violation]:
    accounted = runs.c.rows_scored + runs.c.rows_quarantined + runs.c.rows_excluded
    counted = runs.c.state.in_(ENDED_WITH_COUNTS)
    wrong = sa.or_(runs.c.rows_extracted != accounted, accounted.is_(None))
    yield from _list_runs(connection, "extracted = scored + quarantined + excluded", sa.and_(counted, wrong))
    yield from _list_runs(connection, "partitions add up to their run", _differ_from_partitions(connection, counted))


def _differ_from_partitions(connection: sa.Connection, counted: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition for the first runs whose counts are not the sums of their partitions.

    Both are added up in one sorted list, because a Postgres without statistics joins them row by row.
    """
    numbers = ("rows_extracted", "rows_scored")
    known = (counted, *(runs.c[name].is_not(None) for name in numbers))
    run = sa.select(
        runs.c.run_id,
        sa.literal(1).label("runs"),
        *((-runs.c[name]).label(name) for name in numbers),
    )
    parts = sa.select(partitions.c.run_id, sa.literal(0), *(partitions.c[n] for n in numbers))
    both = sa.union_all(run.where(*known), parts).subquery()
    differs = sa.or_(*(sa.func.sum(both.c[name]) != 0 for name in numbers))
    query = sa.select(both.c.run_id).group_by(both.c.run_id).having(sa.func.sum(both.c.runs) == 1, differs)
    return runs.c.run_id.in_(connection.execute(query.order_by(both.c.run_id).limit(SHOWN)).scalars().all())


def _profiles_count_the_rows(connection: sa.Connection) -> Iterator[Violation]:
    """Compare the counts of each profile with the rows of its run.

    A run of recorded requests may have the counts of all runs of its interval, see `serving.judged_grains`.
    """
    columns = (profiles.c.run_id, profiles.c.column_name, profiles.c.stage, profiles.c.counts, profiles.c.nulls)
    rows = (runs.c.rows_scored, runs.c.rows_extracted - runs.c.rows_excluded, runs.c.step_models)
    query = sa.select(*columns, *rows).select_from(profiles.join(runs, runs.c.run_id == profiles.c.run_id))
    wrong: list[str] = []
    for run_id, column, stage, counts, nulls, scored, most, steps in connection.execute(
        query.where(runs.c.rows_scored.is_not(None), runs.c.variant != SERVED).execution_options(yield_per=1000)
    ):
        counted = sum(json.loads(counts)) + nulls
        least = 0 if steps else scored  # a step with `when` scores some of the rows
        if not least <= counted <= (scored if stage == SCORES and not steps else most):
            wrong.append(f"{run_id} `{column}`: {plural(counted, 'row')}, {scored:,} scored")
    if wrong:
        yield Violation("profiles count the rows of their run", profiles.name, tuple(wrong[:SHOWN]), _RESTATE)


def _parts_belong_to_runs(connection: sa.Connection) -> Iterator[Violation]:
    for table in (partitions, validations, quarantine, moves, profiles, performance, seals, erased_seals):
        orphan = ~sa.exists().where(runs.c.run_id == table.c.run_id)
        found = connection.execute(sa.select(table.c.run_id).where(orphan).distinct().limit(SHOWN)).scalars().all()
        if found:
            yield Violation("every part belongs to a run", table.name, tuple(found), "Restore the ledger's backup.")


def _answers_are_about_runs(connection: sa.Connection) -> Iterator[Violation]:
    lost = ~sa.exists().where(runs.c.run_id == drift_answers.c.episode)
    found = connection.execute(sa.select(drift_answers.c.episode).where(lost).distinct().limit(SHOWN)).scalars().all()
    if found:
        what = "an answer to drift is about a run"
        yield Violation(what, drift_answers.name, tuple(found), "Restore the ledger's backup.")


def _links_are_runs(connection: sa.Connection) -> Iterator[Violation]:
    newer = runs.alias("newer")
    lost = sa.and_(
        runs.c.replaced_by_run_id.is_not(None), ~sa.exists().where(newer.c.run_id == runs.c.replaced_by_run_id)
    )
    yield from _list_runs(connection, "a replaced run names a run", lost)
    unmarked = sa.and_(runs.c.state == "published", runs.c.published_at.is_(None))
    yield from _list_runs(connection, "a published run has its time", unmarked)
    nowhere = sa.and_(runs.c.state.in_(("running", "published")), runs.c.destination.is_(None))
    yield from _list_runs(connection, "a run names its destination", nowhere)


def _halts_are_overruled_once(connection: sa.Connection) -> Iterator[Violation]:
    """Find runs that were published although a gate halted them, without exactly one acceptance."""
    accepted = sa.select(moves.c.run_id).where(moves.c.state_before == HALTED)
    halted = sa.select(validations.c.run_id).where(validations.c.outcome == HALTED).except_(accepted)
    shown = sa.and_(runs.c.state.in_(("published", *WAS_LIVE)), runs.c.run_id.in_(halted))
    yield from _list_runs(connection, "a halted run is published only if a person accepts it", shown)
    twice = accepted.group_by(moves.c.run_id).having(sa.func.count() > 1)
    yield from _list_runs(connection, "a halt is overruled once", runs.c.run_id.in_(twice))


def _challengers_stand_beside_champions(connection: sa.Connection) -> Iterator[Violation]:
    champion = runs.alias("champion")
    theirs = sa.exists().where(champion.c.run_id == runs.c.champion_run_id, champion.c.variant == LIVE)
    beside = runs.c.variant.startswith(SHADOW)
    alone = sa.and_(beside, ~theirs)
    yield from _list_runs(connection, "a challenger's run names its champion's", alone)
    odd = sa.and_(~beside, sa.or_(runs.c.champion_run_id.is_not(None), runs.c.share.is_not(None)))
    yield from _list_runs(connection, "a live run is no challenger's", odd)


def _sandboxes_have_tables_of_their_own(connection: sa.Connection) -> Iterator[Violation]:
    """Compare the variant of each run that is no challenger's with the one that its destination's views show."""
    own = (runs.c.destination.is_not(None), sa.not_(runs.c.variant.startswith(SHADOW)), runs.c.variant != SERVED)
    places = connection.execute(sa.select(runs.c.destination, runs.c.variant).where(*own).distinct()).all()
    for place, variant in places:
        if variant != shown_variant(place):
            remedy = "Withdraw these runs, and score their intervals again."
            rows = (f"runs of variant {variant}",)
            yield Violation("a sandbox has a table of its own", place, rows, remedy)


def _labels_are_counted(connection: sa.Connection) -> Iterator[Violation]:
    """Check that labels have a source that counts them, and that no run has more labels than rows."""
    known = sa.exists().where(label_sources.c.pipeline == labels.c.pipeline)
    lost = connection.execute(sa.select(labels.c.pipeline).where(~known).distinct().limit(SHOWN)).scalars().all()
    if lost:
        yield Violation("labels are counted", labels.name, tuple(lost), "Run `penstock labels collect PIPELINE`.")
    judged, labelled = performance.c.judged, performance.c.labelled
    exceeding = sa.or_(judged > performance.c.scored, labelled > performance.c.scored)
    wrong = sa.select(performance.c.run_id).where(exceeding).distinct().limit(SHOWN)
    if found := connection.execute(wrong).scalars().all():
        remedy = "Delete these rows; `penstock labels collect PIPELINE` computes them again."
        yield Violation("a run has at most one label a row", performance.name, tuple(found), remedy)


def _sealed_runs_have_their_roots(connection: sa.Connection) -> Iterator[Violation]:
    """Compare the seals of published runs with their counts. `penstock ledger check-seals` compares the rows."""
    counted = sa.select(seals.c.run_id, sa.func.sum(seals.c.rows).label("rows")).group_by(seals.c.run_id).subquery()
    shown = runs.c.state.in_(("published", "audited"))
    rootless = sa.and_(shown, runs.c.seal_root.is_(None), runs.c.run_id.in_(sa.select(counted.c.run_id)))
    yield from _list_runs(connection, "a sealed run has its root", rootless)
    sealed = sa.select(counted.c.rows).where(counted.c.run_id == runs.c.run_id).scalar_subquery()
    wrong = sa.func.coalesce(sealed, 0) != runs.c.rows_scored
    yield from _list_runs(
        connection, "each row of a sealed run is sealed", sa.and_(shown, runs.c.seal_root.is_not(None), wrong)
    )


def _readers_see_the_published_rows(connection: sa.Connection) -> Iterator[Violation]:
    """Compare the rows of each published run in the history table, and those of the view, with the ledger's counts."""
    live = sa.select(runs.c.destination).where(runs.c.state == "published").distinct()
    for place in connection.execute(live).scalars().all():
        schema, table = split_name(place)
        name = _spelled(connection, place) or table
        inspector = sa.inspect(connection)
        if not inspector.has_table(f"{name}{VIEWS[-1]}", schema=schema):
            yield from _lost_table(connection, place)
            continue
        history = history_name(name, schema)
        yield from _compare_rows(connection, place, history, sa.table(name, schema=schema))
        # EXCEPT, because a comparison of each row with `runs` by a cast finds no index.
        mine = sa.select(history.c.run_id).except_(sa.select(sa.cast(runs.c.run_id, HistoryRunId)))
        orphans = connection.execute(mine.limit(SHOWN)).scalars().all()
        if orphans:
            rows = tuple(map(str, orphans))
            yield Violation("every row belongs to a run", history.name, rows, "Restore the ledger's backup.")


def _reasons_belong_to_scores(connection: sa.Connection) -> Iterator[Violation]:
    """Compare each table of reasons with the history table beside it, and with the counts of the published runs."""
    named = (runs.c.destination, runs.c.destination_table)
    for place, table in connection.execute(sa.select(*named).where(runs.c.destination.is_not(None)).distinct()).all():
        schema, _ = split_name(place)
        reasons, history = reasons_name(table, schema), history_name(table, schema)
        inspector = sa.inspect(connection)
        if not all(inspector.has_table(each.name, schema=schema) for each in (reasons, history)):
            continue
        columns = [c["name"] for c in inspector.get_columns(reasons.name, schema=schema)]
        key = [name for name in columns if name not in ("run_id", *REASON)]
        yield from _find_unscored(connection, reasons, history, key)
        yield from _find_double(connection, reasons, key)
        yield from _compare_explained(connection, place, reasons)


def _find_unscored(
    connection: sa.Connection, reasons: sa.TableClause, history: sa.TableClause, key: Sequence[str]
) -> Iterator[Violation]:
    """Find reasons of keys that their run has not scored. A load writes both in one transaction."""
    columns = ("run_id", *key)
    of_reasons, scored = (
        sa.select(*(sa.column(sa.quoted_name(name, quote=True)) for name in columns)).select_from(table)
        for table in (reasons, history)
    )
    lost = sa.except_(of_reasons, scored).limit(SHOWN)
    rows = tuple(": ".join((str(run_id), ", ".join(map(str, key)))) for run_id, *key in connection.execute(lost))
    if rows:
        yield Violation("each reason is of a scored row", reasons.name, rows, "Restate the intervals of these runs.")


def _find_double(connection: sa.Connection, reasons: sa.TableClause, key: Sequence[str]) -> Iterator[Violation]:
    """Find keys with reasons and a line that says why there are none: one transaction replaces it by them."""
    columns: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(name, quote=True)) for name in ("run_id", *key)]
    lines = sa.select(*columns).select_from(reasons).group_by(*columns)
    double = lines.having(sa.func.min(reasons.c.rank) == UNEXPLAINED, sa.func.count() > 1).limit(SHOWN)
    rows = tuple(": ".join((str(run_id), ", ".join(map(str, key)))) for run_id, *key in connection.execute(double))
    if rows:
        yield Violation(
            "a key has reasons, or says why not", reasons.name, rows, "Restate the intervals of these runs."
        )


def _compare_explained(connection: sa.Connection, place: str, reasons: sa.TableClause) -> Iterator[Violation]:
    """Compare the chosen keys of each published run with its counts. Those of forgotten keys may be missing."""
    numbers = {"rows_explained": is_explained(reasons), "rows_over_budget": is_over_budget(reasons)}
    sums = (sa.func.sum(sa.case((condition, 1), else_=0)).label(name) for name, condition in numbers.items())
    found = sa.select(reasons.c.run_id, *sums).group_by(reasons.c.run_id).subquery("found")
    joined = runs.outerjoin(found, found.c.run_id == sa.cast(runs.c.run_id, HistoryRunId))
    there = [sa.func.coalesce(found.c[name], 0) for name in numbers]
    expected = [sa.func.coalesce(runs.c[name], 0) for name in numbers]
    differ = sa.or_(*(one != other for one, other in zip(there, expected, strict=True)))
    here = (runs.c.destination == place, runs.c.state == "published", differ)
    differing = sa.select(runs.c.run_id, *expected, *there).select_from(joined).where(*here).order_by(runs.c.run_id)
    wrong = [(run_id, *map(int, counts)) for run_id, *counts in connection.execute(differing)]
    exceeding = any(made > explained or left > over for _, explained, over, made, left in wrong)
    missing = sum(explained - made + over - left for _, explained, over, made, left in wrong)
    if exceeding or missing > count_forgotten(connection, reasons.name):
        rows = tuple(
            f"{run_id}: {explained} explained and {over} over the budget, {made} with reasons and {left} without"
            for run_id, explained, over, made, left in wrong[:SHOWN]
        )
        yield Violation("a published run has its reasons", place, rows, "Restate the intervals of these runs.")


def _compare_rows(
    connection: sa.Connection, place: str, history: sa.TableClause, view: sa.TableClause
) -> Iterator[Violation]:
    """Compare the rows of published runs with the ledger's counts and with the view."""
    found = sa.select(history.c.run_id, sa.func.count().label("rows")).group_by(history.c.run_id).subquery("found")
    joined = runs.outerjoin(found, found.c.run_id == sa.cast(runs.c.run_id, HistoryRunId))
    there, scored = sa.func.coalesce(found.c.rows, 0), runs.c.rows_scored
    here = (runs.c.destination == place, runs.c.state == "published")
    live = sa.case((runs.c.variant == shown_variant(place), there), else_=0)
    sums = sa.select(sa.func.sum(scored - there), sa.func.sum(sa.case((there > scored, 1), else_=0)), sa.func.sum(live))
    missing, exceeding, held = (int(n or 0) for n in connection.execute(sums.select_from(joined).where(*here)).one())
    if exceeding or missing > count_forgotten(connection, history.name):
        query = sa.select(runs.c.run_id, scored, there).select_from(joined).where(*here, there != scored)
        first = connection.execute(query.order_by(runs.c.run_id).limit(SHOWN))
        rows = tuple(f"{run_id}: {seen} rows, {number} scored" for run_id, number, seen in first)
        yield Violation("a published run has its rows", place, rows, _RESTATE)
    if sa.inspect(connection).has_table(view.name, schema=view.schema):
        shown = int(connection.execute(sa.select(sa.func.count()).select_from(view)).scalar_one())
        if shown != held:
            rows = (f"{shown} rows in the view, {held} of published runs",)
            yield Violation("the view shows the published rows", place, rows, "Drop the view; a run makes it anew.")


def _lost_table(connection: sa.Connection, place: str) -> Iterator[Violation]:
    scored = sa.select(sa.func.sum(runs.c.rows_scored)).where(runs.c.destination == place, runs.c.state == "published")
    rows = int(connection.execute(scored).scalar_one() or 0)
    if rows:
        what = (f"{rows} published rows, and no table",)
        yield Violation("a published run has its rows", place, what, "Restore the table, or withdraw its runs.")


def _spelled(connection: sa.Connection, place: str) -> str | None:
    """Return the table as the spec spells it, since the destination's name may be in lower case."""
    named = sa.select(runs.c.destination_table).where(runs.c.destination == place).limit(1)
    return connection.execute(named).scalar()


def _list_runs(connection: sa.Connection, invariant: str, broken: sa.ColumnElement[bool]) -> Iterator[Violation]:
    columns = (runs.c.destination, runs.c.run_id, runs.c.state)
    found: Sequence[Any] = connection.execute(
        sa.select(*columns).where(broken).order_by(runs.c.started_at).limit(SHOWN)
    ).all()
    for place in dict.fromkeys(row[0] for row in found):
        rows = tuple(f"{run_id} ({state})" for where, run_id, state in found if where == place)
        yield Violation(invariant, str(place), rows, _RESTATE)


def _promotions_are_asked_one_by_one(connection: sa.Connection) -> Iterator[Violation]:
    """An alias has at most one open question, which is the newest. Each has the digest of its evidence."""
    newer = promotions.alias("newer")
    same = (newer.c.model == promotions.c.model, newer.c.alias == promotions.c.alias)
    is_open, named = promotions.c.state.in_(OPEN), (promotions.c.model, promotions.c.alias, promotions.c.number)
    passed_over = sa.and_(is_open, sa.exists().where(*same, newer.c.number > promotions.c.number))
    unfinished = sa.and_(~is_open, promotions.c.ended_at.is_(None))
    unanswered = sa.and_(promotions.c.state.in_(("approved", "moved", "declined")), promotions.c.answered_by.is_(None))
    found = connection.execute(sa.select(*named).where(sa.or_(passed_over, unfinished, unanswered)).limit(SHOWN))
    wrong = [f"{model}@{alias} #{number}" for model, alias, number in found]
    for *name, text, digest in connection.execute(sa.select(*named, promotions.c.evidence, promotions.c.digest)):
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            wrong.append(f"{name[0]}@{name[1]} #{name[2]}: its evidence was altered")
    if wrong:
        remedy = "Restore the ledger's backup, or start the flow `promote` again."
        yield Violation("an alias has one open question", promotions.name, tuple(wrong[:SHOWN]), remedy)


def _deliveries_follow_their_order(connection: sa.Connection) -> Iterator[Violation]:
    remedy = "Restore the ledger's backup, then `penstock deliver run RUN_ID --again` for the live run of the interval."
    for invariant, table, rows in find_broken_deliveries(connection, SHOWN):
        yield Violation(invariant, table.name, rows, remedy)


def _served_rows_are_counted(connection: sa.Connection) -> Iterator[Violation]:
    for invariant, where, rows in find_broken_recordings(connection, SHOWN):
        yield Violation(invariant, where, rows, "Restore the ledger's backup.")


CHECKS: tuple[Check, ...] = (
    _one_run_an_interval,
    _no_overlaps_and_one_owner,
    _counts_add_up,
    _profiles_count_the_rows,
    _answers_are_about_runs,
    _parts_belong_to_runs,
    _links_are_runs,
    _halts_are_overruled_once,
    _challengers_stand_beside_champions,
    _sandboxes_have_tables_of_their_own,
    _labels_are_counted,
    _sealed_runs_have_their_roots,
    _promotions_are_asked_one_by_one,
    _deliveries_follow_their_order,
    _served_rows_are_counted,
    _readers_see_the_published_rows,
    _reasons_belong_to_scores,
)
"""The invariants, one function for each subject."""
