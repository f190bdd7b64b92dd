"""Drift in the audit: add up the partitions' counts, compare them with the baseline, and judge each watched column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.database.connections import Database
from penstock.errors import ReconciliationFailed
from penstock.ledger.drift_answers import choose_messages, read_answers
from penstock.ledger.profiles import alarms_before, find_baseline, read_profiles
from penstock.ledger.reader import RunRecord
from penstock.monitor.drift import ColumnDrift, judge_profiles, measure_drift, population_stability
from penstock.run_types import (
    Baseline,
    BinCounts,
    ColumnBins,
    ColumnProfile,
    Receipt,
    ScoringRun,
    Validation,
    add_profiles,
    interval_label,
)
from penstock.spec.drift import MODEL, Drift
from penstock.spec.expectation_types import Outcome
from penstock.spec.pipeline import SCORES
from penstock.wording import plural

DRIFT = "drift"
"""The stage of its validations."""
_SHORT_ID = 8
_NAMED = 5
"""Most columns that a note names."""


@dataclass(frozen=True)
class DriftResult:
    """The profiles of a run, and what was found in them."""

    profiles: tuple[ColumnProfile, ...]
    validations: tuple[Validation, ...]
    new_alarms: Mapping[str, Validation]
    """By column: of the validations, the alarms that a message is sent about. Others were known, or are silenced."""


@dataclass(frozen=True)
class _Reference:
    """The counts to compare with, by column, and their name."""

    name: str
    text: str
    """Its name in messages."""
    counts: Mapping[str, BinCounts]
    others: tuple[str, ...] = ()
    """Columns that have other bins there."""
    note: str = ""
    """Why nothing can be compared."""


def judge_drift(
    database: Database, run: ScoringRun, planned: RunRecord, receipts: Sequence[Receipt], bins: Sequence[ColumnBins]
) -> DriftResult:
    """Judge the drift of a run whose partitions all passed. Writes nothing.

    Args:
        bins: of the columns that are watched.

    Raises:
        RunNotFound: the run that `drift.against` names is not in the ledger.
        ReconciliationFailed: the counts of a column are not those of the run's rows.
    """
    drift = run.pipeline.drift
    assert drift is not None
    counts = add_profiles(receipt.profile for receipt in receipts)
    profiles = {each.column: _make_profile(run, each, counts) for each in bins if each.column in counts}
    _reconcile(run, receipts, tuple(profiles.values()))
    reference = _read_reference(database, run, planned, bins, drift)
    for column, before in reference.counts.items():
        if column in profiles:
            farthest = _find_farthest(receipts, column, before)
            baseline = Baseline(reference.name, before)
            profiles[column] = replace(profiles[column], baseline=baseline, farthest=farthest)
    found = judge_profiles(profiles.values(), drift)
    episodes = alarms_before(database, planned) if found else {}
    for column in found:
        episode = episodes.get(column, run.run_id)
        profiles[column] = replace(profiles[column], alarm=drift.severity_of(column), episode=episode)
    alarms = {column: _describe_alarm(profiles[column], reference, drift, found[column]) for column in found}
    others = _describe_others(tuple(profiles.values()), reference, drift)
    began = {column: profiles[column].episode or run.run_id for column in found}
    answers = read_answers(database, run.pipeline.name) if found else {}
    new = {column: alarms[column] for column in choose_messages(planned, began, episodes, answers)}
    return DriftResult(tuple(profiles.values()), (*alarms.values(), *others), new)


def _make_profile(run: ScoringRun, bins: ColumnBins, counts: Mapping[str, BinCounts]) -> ColumnProfile:
    private = bins.column.casefold() in run.pipeline.private_columns
    edges = None if private else bins.edges
    return ColumnProfile(bins.column, bins.stage, bins.kind, edges, bins.digest, str(run.model), counts[bins.column])


def _reconcile(run: ScoringRun, receipts: Sequence[Receipt], profiles: Sequence[ColumnProfile]) -> None:
    """Compare the rows of the profiles with those of the receipts.

    Every score has the scored rows. Every feature has the same rows: at least the scored ones, and none of those that
    never became features.
    """
    scored = sum(receipt.scored for receipt in receipts)
    most = sum(receipt.extracted - receipt.excluded - receipt.refused_at_source for receipt in receipts)
    features = {profile.counts.rows for profile in profiles if profile.stage != SCORES}
    scores = {profile.counts.rows for profile in profiles if profile.stage == SCORES}
    wrong = scores - {scored} or {rows for rows in features if not scored <= rows <= most}
    if wrong or len(features) > 1:
        counted = ", ".join(f"{rows:,}" for rows in sorted(features | scores))
        difference = f"the counts of its columns have {counted} as the sum, and {plural(scored, 'row')} were scored"
        raise ReconciliationFailed(run.pipeline.name, interval_label(run.interval), difference)


def _read_reference(
    database: Database, run: ScoringRun, planned: RunRecord, bins: Sequence[ColumnBins], drift: Drift
) -> _Reference:
    if drift.against == MODEL:
        name = str(run.model)
        return _Reference(name, f"the reference rows of {name}", {each.column: each.reference for each in bins})
    before = find_baseline(database, planned, drift.against)
    if before is None:
        return _Reference("", drift.against, {}, note="there is no such published run, so nothing is judged")
    known = read_profiles(database, before.run_id)
    text = f"run {before.run_id[:_SHORT_ID]} ({interval_label(before.interval)})"
    if not known:
        return _Reference("", text, {}, note="it has no profiles, so nothing is judged")
    same = {each.column for each in bins if each.column in known and known[each.column].edges_digest == each.digest}
    others = tuple(each.column for each in bins if each.column not in same)
    versions = f"their bins are of {run.model} here, and of {before.models} there"
    counts = {column: known[column].counts for column in same}
    return _Reference(before.run_id, text, counts, others, versions if others else "")


def _find_farthest(receipts: Sequence[Receipt], column: str, before: BinCounts) -> int | None:
    """Return the partition that adds most to the distance: its PSI times its rows. None if there is only one."""
    if len(receipts) < 2:
        return None
    counted = {r.partition.index: r.profile[column] for r in receipts if column in r.profile}
    weights = {index: _distance(counts, before) * counts.rows for index, counts in counted.items()}
    return max(weights, key=lambda index: weights[index], default=None)


def _distance(counts: BinCounts, before: BinCounts) -> float:
    return population_stability(counts, before) + abs(counts.null_share - before.null_share)


def _describe_alarm(profile: ColumnProfile, reference: _Reference, drift: Drift, exceeded: Sequence[str]) -> Validation:
    severity, measured = profile.alarm, measure_drift(profile)
    assert severity is not None
    assert measured is not None
    limits = {"psi": f"PSI below {drift.distance.psi:g}", "nulls": f"NULLs within {drift.distance.nulls:.3g}"}
    label = f"`{profile.column}`: {' and '.join(limits[name] for name in exceeded)}"
    observed = f"{describe_distance(measured)}, against {reference.text}"
    outcome: Outcome = "halted" if severity == "critical" else "noted"
    return Validation(DRIFT, label, severity, profile.counts.rows, 0, outcome, observed, unit="values")


def describe_distance(measured: ColumnDrift) -> str:
    """Write both figures of a column."""
    before, now = measured.before.null_share, measured.now.null_share
    return f"PSI {measured.psi:.3f}, NULLs {before:.1%} → {now:.1%}"


def _describe_others(profiles: Sequence[ColumnProfile], reference: _Reference, drift: Drift) -> Iterator[Validation]:
    """Describe the columns without an alarm: those that were judged, and those that could not be."""
    compared = [each for profile in profiles if (each := measure_drift(profile))]
    too_few = [each for each in compared if min(each.now.rows, each.before.rows) < drift.least_rows]
    judged = [each for each in compared if each not in too_few]
    steady = [each for each in judged if not each.profile.alarm]
    if steady:
        widest = max(steady, key=lambda each: each.degree(drift))
        label = f"{plural(len(steady), 'column')} against {reference.text}"
        observed = f"the farthest is `{widest.profile.column}`: {describe_distance(widest)}"
        yield Validation(DRIFT, label, "info", widest.now.rows, 0, "passed", observed, unit="values")
    if too_few:
        rows = min(min(each.now.rows, each.before.rows) for each in too_few)
        observed = f"{plural(rows, 'row')} are fewer than `least_rows: {drift.least_rows}`, so they are not judged"
        yield _note(f"{plural(len(too_few), 'column')} against {reference.text}", observed)
    if reference.others:
        more = f" and {len(reference.others) - _NAMED} more" if len(reference.others) > _NAMED else ""
        named = ", ".join(f"`{column}`" for column in reference.others[:_NAMED])
        yield _note(f"{named}{more} against {reference.text}", f"not compared: {reference.note}")
    elif reference.note:
        yield _note(f"against {reference.text}", reference.note)


def _note(label: str, observed: str) -> Validation:
    return Validation(DRIFT, label, "info", 0, 0, "noted", observed, unit="values")
