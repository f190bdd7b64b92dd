"""Verify the ledger: each of its invariants as one read-only query that returns the rows which break it."""

import hashlib
import json
from collections.abc import Iterator

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.interval import DataInterval
from penstock.ledger.acceptance import HALTED
from penstock.ledger.destinations import LIVE, SERVED, find_dispute, shown_variant
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
from penstock.run_types import SHADOW, interval_key
from penstock.spec.stages import SCORES
from penstock.upkeep.delivery_invariants import find_broken_deliveries
from penstock.upkeep.row_invariants import readers_see_the_published_rows, reasons_belong_to_scores
from penstock.upkeep.served_invariants import find_broken_recordings
from penstock.upkeep.violations import RESTATE, SHOWN, Check, Violation, list_runs
from penstock.wording import plural

ENDED_WITH_COUNTS = ("published", "audited", "superseded", "withdrawn")


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
    yield from list_runs(connection, "extracted = scored + quarantined + excluded", sa.and_(counted, wrong))
    yield from list_runs(connection, "partitions add up to their run", _differ_from_partitions(connection, counted))


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
        yield Violation("profiles count the rows of their run", profiles.name, tuple(wrong[:SHOWN]), RESTATE)


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
    yield from list_runs(connection, "a replaced run names a run", lost)
    unmarked = sa.and_(runs.c.state == "published", runs.c.published_at.is_(None))
    yield from list_runs(connection, "a published run has its time", unmarked)
    nowhere = sa.and_(runs.c.state.in_(("running", "published")), runs.c.destination.is_(None))
    yield from list_runs(connection, "a run names its destination", nowhere)


def _halts_are_overruled_once(connection: sa.Connection) -> Iterator[Violation]:
    """Find runs that were published although a gate halted them, without exactly one acceptance."""
    accepted = sa.select(moves.c.run_id).where(moves.c.state_before == HALTED)
    halted = sa.select(validations.c.run_id).where(validations.c.outcome == HALTED).except_(accepted)
    shown = sa.and_(runs.c.state.in_(("published", *WAS_LIVE)), runs.c.run_id.in_(halted))
    yield from list_runs(connection, "a halted run is published only if a person accepts it", shown)
    twice = accepted.group_by(moves.c.run_id).having(sa.func.count() > 1)
    yield from list_runs(connection, "a halt is overruled once", runs.c.run_id.in_(twice))


def _challengers_stand_beside_champions(connection: sa.Connection) -> Iterator[Violation]:
    champion = runs.alias("champion")
    theirs = sa.exists().where(champion.c.run_id == runs.c.champion_run_id, champion.c.variant == LIVE)
    beside = runs.c.variant.startswith(SHADOW)
    alone = sa.and_(beside, ~theirs)
    yield from list_runs(connection, "a challenger's run names its champion's", alone)
    odd = sa.and_(~beside, sa.or_(runs.c.champion_run_id.is_not(None), runs.c.share.is_not(None)))
    yield from list_runs(connection, "a live run is no challenger's", odd)


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
    yield from list_runs(connection, "a sealed run has its root", rootless)
    sealed = sa.select(counted.c.rows).where(counted.c.run_id == runs.c.run_id).scalar_subquery()
    wrong = sa.func.coalesce(sealed, 0) != runs.c.rows_scored
    yield from list_runs(
        connection, "each row of a sealed run is sealed", sa.and_(shown, runs.c.seal_root.is_not(None), wrong)
    )


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
    readers_see_the_published_rows,
    reasons_belong_to_scores,
)
"""The invariants, one function for each subject."""
