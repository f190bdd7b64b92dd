"""Drift in the audit: add up the partitions' counts, compare them with the baseline, and judge each watched column."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.database.connections import Database
from penstock.errors import ReconciliationFailed
from penstock.ledger.drift_answers import choose_messages, read_answers
from penstock.ledger.profiles import alarms_before, find_baseline, read_profiles
from penstock.ledger.reader import RunRecord
from penstock.ledger.schema_contracts import read_source_columns
from penstock.monitor.drift import ColumnDrift, find_farthest_slice, judge_profiles, measure_drift, total_distance
from penstock.run_types import (
    MOST_SLICES,
    Baseline,
    BinCounts,
    ColumnBins,
    ColumnProfile,
    Profile,
    Receipt,
    ScoringRun,
    Validation,
    add_profiles,
    add_slices,
    interval_label,
)
from penstock.spec.column_sources import find_column_sources
from penstock.spec.drift import MODEL, Drift
from penstock.spec.expectation_types import Outcome
from penstock.spec.stages import FEATURES, SCORES
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

    text: str
    """Its name in messages."""
    baselines: Mapping[str, Baseline]
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
    sources = _find_sources(database, run)
    profiles = {each.column: _make_profile(run, each, counts, sources) for each in bins if each.column in counts}
    _reconcile(run, receipts, bins, counts)
    reference = _read_reference(database, run, planned, bins, drift)
    slices = add_slices(receipt.slices for receipt in receipts)
    for column, baseline in reference.baselines.items():
        if column in profiles:
            farthest = _find_farthest(receipts, column, baseline.counts)
            slice_ = find_farthest_slice(column, profiles[column].counts, baseline.counts, slices)
            profiles[column] = replace(profiles[column], baseline=baseline, farthest=farthest, slice=slice_)
    found = judge_profiles(profiles.values(), drift)
    episodes = alarms_before(database, planned) if found else {}
    for column in found:
        episode = episodes.get(column, run.run_id)
        profiles[column] = replace(profiles[column], alarm=drift.severity_of(column), episode=episode)
    alarms = {column: _describe_alarm(profiles[column], reference, drift, found[column]) for column in found}
    others = (*_describe_others(tuple(profiles.values()), reference, drift), *_describe_unsliced(slices))
    began = {column: profiles[column].episode or run.run_id for column in found}
    answers = read_answers(database, run.pipeline.name) if found else {}
    new = {column: alarms[column] for column in choose_messages(planned, began, episodes, answers)}
    return DriftResult(tuple(profiles.values()), (*alarms.values(), *others), new)


def _find_sources(database: Database, run: ScoringRun) -> dict[str, tuple[str, ...]]:
    """Return the sources that the values of each feature are made of, by name in lower case."""
    seen = read_source_columns(database, run.pipeline.name, run.run_id)
    return find_column_sources(run.pipeline.features, {name: seen.get(name, ()) for name in run.pipeline.sources})


def _make_profile(
    run: ScoringRun, bins: ColumnBins, counts: Mapping[str, BinCounts], sources: Mapping[str, tuple[str, ...]]
) -> ColumnProfile:
    inputs = next(step.inputs for step in run.pipeline.steps if step.name == bins.step)
    column = inputs.get(bins.feature, bins.feature).casefold()
    is_private = not run.pipeline.private_columns.keys().isdisjoint({column, bins.feature.casefold()})
    about = (bins.column, bins.stage, bins.kind, None if is_private else bins.edges, bins.digest, bins.model)
    made_of = sources.get(column, ()) if bins.stage == FEATURES else ()
    return ColumnProfile(*about, counts[bins.column], sources=made_of)


def _reconcile(run: ScoringRun, receipts: Sequence[Receipt], bins: Sequence[ColumnBins], counts: Profile) -> None:
    """Compare the rows of the profiles with those of the receipts.

    Of a single model every score has the scored rows. Of several models every score of a step has the same rows, at
    most those that have become features. Every feature of a step has the same rows: at least those of its scores.
    """
    scored = sum(receipt.scored for receipt in receipts)
    most = sum(receipt.extracted - receipt.excluded - receipt.refused_at_source for receipt in receipts)
    whole = frozenset(step.name for step in run.pipeline.steps if step.when is None)
    counted: dict[str, dict[str, set[int]]] = defaultdict(lambda: {FEATURES: set(), SCORES: set()})
    for each in bins:
        if each.column in counts:
            counted[each.step][each.stage].add(counts[each.column].rows)
    for step, found in counted.items():
        least = scored if step in whole else 0
        rows = found[FEATURES] | found[SCORES]
        wrong = any(len(same) > 1 for same in found.values()) or not least <= min(rows) <= max(rows) <= most
        fewer = found[FEATURES] and found[SCORES] and max(found[SCORES]) > min(found[FEATURES])
        lost = not run.pipeline.models and found[SCORES] - {scored}
        if wrong or fewer or lost:
            sums = ", ".join(f"{number:,}" for number in sorted(rows))
            difference = f"the counts of its columns have {sums} as the sum, and {plural(scored, 'row')} were scored"
            raise ReconciliationFailed(run.pipeline.name, interval_label(run.interval), difference)


def _read_reference(
    database: Database, run: ScoringRun, planned: RunRecord, bins: Sequence[ColumnBins], drift: Drift
) -> _Reference:
    if drift.against == MODEL:
        models = " and ".join(dict.fromkeys(each.model for each in bins))
        baselines = {each.column: Baseline(each.model, each.reference) for each in bins}
        return _Reference(f"the reference rows of {models}", baselines)
    before = find_baseline(database, planned, drift.against)
    if before is None:
        return _Reference(drift.against, {}, note="there is no such published run, so nothing is judged")
    known = read_profiles(database, before.run_id)
    text = f"run {before.run_id[:_SHORT_ID]} ({interval_label(before.interval)})"
    if not known:
        return _Reference(text, {}, note="it has no profiles, so nothing is judged")
    same = {each.column for each in bins if each.column in known and known[each.column].edges_digest == each.digest}
    others = tuple(each.column for each in bins if each.column not in same)
    models = ", ".join(str(pin) for pin in (run.steps or {"": run.model}).values())
    versions = f"their bins are of {models} here, and of {before.models} there"
    baselines = {column: Baseline(before.run_id, known[column].counts) for column in same}
    return _Reference(text, baselines, others, versions if others else "")


def _find_farthest(receipts: Sequence[Receipt], column: str, before: BinCounts) -> int | None:
    """Return the partition that adds most to the distance: its PSI times its rows. None if there is only one."""
    if len(receipts) < 2:
        return None
    counted = {r.partition.index: r.profile[column] for r in receipts if column in r.profile}
    weights = {index: total_distance(counts, before) * counts.rows for index, counts in counted.items()}
    return max(weights, key=lambda index: weights[index], default=None)


def _describe_alarm(profile: ColumnProfile, reference: _Reference, drift: Drift, exceeded: Sequence[str]) -> Validation:
    severity, measured = profile.alarm, measure_drift(profile)
    assert severity is not None
    assert measured is not None
    label = describe_limits(profile.column, drift, exceeded)
    assert profile.baseline is not None
    of_model = f"the reference rows of {profile.baseline.name}" if drift.against == MODEL else reference.text
    observed = f"{describe_distance(measured)}, against {of_model}"
    outcome: Outcome = "halted" if severity == "critical" else "noted"
    return Validation(DRIFT, label, severity, profile.counts.rows, 0, outcome, observed, unit="values")


def describe_limits(column: str, drift: Drift, exceeded: Sequence[str]) -> str:
    """Write the limits that a column has exceeded."""
    limits = {"psi": f"PSI below {drift.distance.psi:g}", "nulls": f"NULLs within {drift.distance.nulls:.3g}"}
    return f"`{column}`: {' and '.join(limits[name] for name in exceeded)}"


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


def _describe_unsliced(slices: Mapping[str, object]) -> Iterator[Validation]:
    """Note the columns that have too many values to slice by."""
    for column in (name for name, values in slices.items() if values is None):
        yield _note(f"by `{column}`", f"not sliced: it has more than {MOST_SLICES} values")


def _note(label: str, observed: str) -> Validation:
    return Validation(DRIFT, label, "info", 0, 0, "noted", observed, unit="values")
