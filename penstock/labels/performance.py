"""The performance of runs: keep the sums of each run, and add them up by model and slice."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import LabelValue, ModelNotFound, NotMeasured, PenstockError, TooManySlices
from penstock.labels.judged_rows import ALL_ROWS, Question, SliceSums, has_lost_labels, judged_from, sum_run
from penstock.labels.touched_runs import find_touched
from penstock.ledger.destinations import SERVED
from penstock.ledger.label_sources import read_label_source
from penstock.ledger.migrations import has_ledger
from penstock.ledger.reader import RunRecord, fetch_runs, select_runs, touching
from penstock.ledger.served_rows import RECORDED, RECORDING, count_scored_rows
from penstock.ledger.tables import label_sources, performance, runs
from penstock.monitor.binned_scores import BinnedScores
from penstock.monitor.class_sums import ClassSums
from penstock.monitor.performance_sums import read_sums
from penstock.spec.labels import Labels
from penstock.spec.parts import SANDBOX
from penstock.timezones import describe_moment
from penstock.wording import plural

_Mark = tuple[int, str, bool, int]
"""What the kept sums of a run were computed of: the additions of labels, how rows are judged, whether it was mature,
and its rows with a score."""
_NO_MARK: _Mark = (-1, "", False, 0)


@dataclass(frozen=True)
class RunPerformance:
    """The sums of one run, by slice. Those of all rows are under an empty name."""

    run: RunRecord
    mature: bool
    """Whether all labels of the interval are expected to be there."""
    slices: Mapping[str, SliceSums]

    @property
    def all_rows(self) -> SliceSums:
        return self.slices[ALL_ROWS]


def alike(measured: Sequence[RunPerformance]) -> list[RunPerformance]:
    """Return the runs whose sums can be added to those of the newest one: their models solve the same problem."""
    return [each for each in measured if _kind_of(each) == _kind_of(measured[-1])]


def _kind_of(measured: RunPerformance) -> tuple[type, tuple[str, ...]]:
    sums = measured.all_rows.sums
    return type(sums), sums.classes if isinstance(sums, ClassSums) else ()


@dataclass(frozen=True)
class ModelPerformance:
    """The performance of one model version in one slice, over some runs."""

    model: str
    variant: str
    slice: str
    runs: int
    provisional_runs: int
    """Runs whose labels are not all expected to be there yet."""
    rows: SliceSums

    @property
    def coverage(self) -> float:
        """The share of the scored rows that count: their label has been seen, or is taken to be negative."""
        return self.rows.judged / self.rows.scored if self.rows.scored else 0.0


def list_judged_runs(
    database: Database,
    pipeline: str,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    recorded: datetime | None = None,
) -> list[RunRecord]:
    """Return the published runs of all variants that have scored rows, the oldest interval first.

    Those of sandboxes are left out: they may lack columns that the labels need, and end without notice.

    Args:
        start, end: Take only intervals that touch `[start, end)`.
        recorded: Take the runs of recorded requests too, if they have ended or their interval was over at this time.
            They are taken also after their rows were pruned.
    """
    if not has_ledger(database):
        return []
    which = sa.and_(runs.c.state == "published", runs.c.rows_pruned_at.is_(None))
    if recorded is not None:
        over = sa.and_(runs.c.state == RECORDING, runs.c.interval_end <= recorded)
        which = sa.or_(which, runs.c.state == RECORDED, over)
    query = select_runs().where(
        runs.c.pipeline == pipeline, sa.not_(runs.c.variant.startswith(SANDBOX)), which, runs.c.rows_scored > 0
    )
    return fetch_runs(
        database, touching(query, start, end).order_by(runs.c.interval_start, runs.c.variant, runs.c.run_id)
    )


@dataclass(frozen=True)
class Refreshed:
    """What a refresh of the kept sums did."""

    runs: int = 0
    """Runs whose sums were computed."""
    kept: int = 0
    """Runs that have sums, these ones among them."""
    unmeasured: tuple[tuple[RunRecord, PenstockError], ...] = ()
    """Runs that could not be measured, and why."""
    no_class: int = 0
    """Labels of the computed runs that are no class of the model."""


def refresh_performance(database: Database, question: Question) -> Refreshed:
    """Compute and keep the sums of every run for which they are missing or out of date.

    They are out of date when labels of the run's rows were added, when its interval has become mature, and when the
    spec judges otherwise. Intervals whose labels or recorded rows were pruned are left as they are. A run that cannot
    be measured, for example because its model is gone, holds up no other one.
    """
    source = read_label_source(database, question.pipeline.name) if has_ledger(database) else None
    if source is None:
        return Refreshed()
    definition = fingerprint_judgement(question.labels)
    kept = _read_marks(database, question.pipeline.name)
    judged = list_judged_runs(database, question.pipeline.name, recorded=question.now)
    judged = [run for run in judged if not has_lost_labels(run, source) and run.rows_pruned_at is None]
    steady = {
        run.run_id for run in judged if _is_steady(database, run, kept.get(run.run_id, _NO_MARK), definition, question)
    }
    stale = [run for run in judged if run.run_id not in steady]
    late = [run for run in judged if run.run_id in steady and kept[run.run_id][0] != source.additions]
    touched = _find_touched(database, question, late, kept, source.additions)
    unmeasured: list[tuple[RunRecord, PenstockError]] = []
    no_class = 0
    for run in (*stale, *(run for run in late if run.run_id in touched)):
        try:
            sums = sum_run(database, run, question)
        except (NotMeasured, ModelNotFound, LabelValue, TooManySlices) as error:
            unmeasured.append((run, error))
            continue
        _keep(database, run, sums, question, source.additions, definition)
        no_class += sums[ALL_ROWS].no_class if ALL_ROWS in sums else 0
    _move_marks(database, [run.run_id for run in late if run.run_id not in touched], source.additions)
    computed = len(stale) + len(touched) - len(unmeasured)
    return Refreshed(computed, len(steady) + computed - len(touched), tuple(unmeasured), no_class)


def _is_steady(database: Database, run: RunRecord, mark: _Mark, definition: str, question: Question) -> bool:
    """Whether the kept sums of a run hold, but for labels that were added since. Recorded rows may come late."""
    if mark[1:3] != (definition, question.is_mature(run)):
        return False
    if run.variant != SERVED or mark[3] == run.rows_scored:
        return True
    return mark[3] == count_scored_rows(database, run.run_id)  # some were erased


def _find_touched(
    database: Database, question: Question, late: Sequence[RunRecord], kept: Mapping[str, _Mark], additions: int
) -> frozenset[str]:
    """Return the runs that labels touch which were added since the runs were measured."""
    found = frozenset[str]()
    for before in sorted({kept[run.run_id][0] for run in late}):
        some = [run for run in late if kept[run.run_id][0] == before]
        pipeline = question.pipeline
        if question.masking.hides(pipeline.key):  # labels have hashes of the key, and the history table has not
            found |= {run.run_id for run in some}
            continue
        found |= {run.run_id for run in some if run.variant == SERVED}  # their rows are in another table
        stored = [run for run in some if run.variant != SERVED]
        found |= find_touched(database, pipeline.name, pipeline.key, stored, before, additions)
    return found


def _move_marks(database: Database, run_ids: Sequence[str], additions: int) -> None:
    """Keep that no label of some runs was added until now."""
    with database.writing() as connection:
        for begin in range(0, len(run_ids), 500):
            mine = performance.c.run_id.in_(run_ids[begin : begin + 500])
            older = performance.c.additions < additions
            connection.execute(sa.update(performance).where(mine, older).values(additions=additions))


def fingerprint_judgement(declared: Labels) -> str:
    """Hash how rows are judged. A change computes all sums again."""
    judged = declared.model_dump(mode="json", include={"missing", "mature", "slices", "quantiles"})
    return hashlib.sha256(json.dumps(judged, sort_keys=True).encode()).hexdigest()[:16]


def read_performance(database: Database, judged: Sequence[RunRecord], only: str | None = None) -> list[RunPerformance]:
    """Return the kept performance of runs, in their order. Runs without it are left out.

    Args:
        only: Read this slice alone. None: all slices.
    """
    chosen = [] if only is None else [performance.c.slice == only]
    found: dict[str, dict[str, SliceSums]] = {}
    mature: dict[str, bool] = {}
    with database.reading() as connection:
        for begin in range(0, len(judged), 500):
            some = [run.run_id for run in judged[begin : begin + 500]]
            query = sa.select(performance).where(performance.c.run_id.in_(some), *chosen)
            for row in connection.execute(query).mappings():
                waiting = None if row["waiting"] is None else BinnedScores.from_json(json.loads(row["waiting"]))
                counts = (int(row["scored"]), int(row["labelled"]), read_sums(json.loads(row["sums"])))
                sums = SliceSums(*counts, waiting)
                found.setdefault(row["run_id"], {})[row["slice"]] = sums
                mature[row["run_id"]] = bool(row["mature"])
    return [RunPerformance(run, mature[run.run_id], found[run.run_id]) for run in judged if run.run_id in found]


@dataclass(frozen=True)
class PrunedLabels:
    """Runs that cannot be measured any more."""

    before: datetime
    """Labels that were seen before it are gone."""
    runs: int

    def describe(self, zone: str) -> str:
        """Say which labels are gone, and how many runs are left out."""
        lost = plural(self.runs, "run of an older interval is", "runs of older intervals are")
        return f"labels seen before {describe_moment(self.before, zone)} are pruned; {lost} left out"


def find_pruned(database: Database, judged: Sequence[RunRecord]) -> PrunedLabels | None:
    """Count the runs whose labels were pruned. None: there is no such run."""
    source = read_label_source(database, judged[0].pipeline) if judged else None
    if source is None or source.pruned_before is None:
        return None
    number = sum(has_lost_labels(run, source) for run in judged)
    return PrunedLabels(source.pruned_before, number) if number else None


def measure_as_of(database: Database, judged: Iterable[RunRecord], question: Question) -> list[RunPerformance]:
    """Compute the performance of runs with the labels that were seen until `as_of`. Nothing is kept.

    Intervals that had not ended by then are left out, and those whose labels or recorded rows were pruned.
    """
    assert question.as_of is not None
    source = read_label_source(database, question.pipeline.name)
    over = [run for run in judged if judged_from(run) <= question.as_of and run.rows_pruned_at is None]
    over = [run for run in over if source is None or not has_lost_labels(run, source)]
    return [RunPerformance(run, question.is_mature(run), sum_run(database, run, question)) for run in over]


def add_up(found: Iterable[RunPerformance], by: str | None = None) -> list[ModelPerformance]:
    """Add up the performance of runs by variant and model, the live ones first.

    Args:
        by: A column of `slices`. None: all rows.
    """
    totals: dict[tuple[str, str, str], list[tuple[bool, SliceSums]]] = {}
    for each in found:
        for name, sums in each.slices.items():
            if _is_of(name, by):
                totals.setdefault((each.run.variant, each.run.model, name), []).append((each.mature, sums))
    order = sorted(totals, key=lambda key: (key[0] != "live", *key))
    return [_total(*key, totals[key]) for key in order]


def _is_of(name: str, by: str | None) -> bool:
    return name == ALL_ROWS if by is None else name != ALL_ROWS and by in json.loads(name)


def _total(variant: str, model: str, name: str, parts: list[tuple[bool, SliceSums]]) -> ModelPerformance:
    first, *others = (sums for _, sums in parts)
    rows = sum(others, first)
    provisional = sum(not mature for mature, _ in parts)
    return ModelPerformance(model, variant, name, len(parts), provisional, rows)


def _read_marks(database: Database, pipeline: str) -> dict[str, _Mark]:
    """Return by run what its kept sums were computed of."""
    marks = (performance.c.additions, performance.c.definition, performance.c.mature, performance.c.scored)
    columns = (performance.c.run_id, *marks)
    joined = performance.join(runs, runs.c.run_id == performance.c.run_id)
    query = sa.select(*columns).select_from(joined).where(runs.c.pipeline == pipeline, performance.c.slice == ALL_ROWS)
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return {run_id: (int(additions), how, bool(m), int(scored)) for run_id, additions, how, m, scored in rows}


def _keep(
    database: Database,
    run: RunRecord,
    found: Mapping[str, SliceSums],
    question: Question,
    additions: int,
    definition: str,
) -> None:
    """Replace the kept sums of a run, in one transaction."""
    about = {
        "run_id": run.run_id,
        "mature": question.is_mature(run),
        "additions": additions,
        "definition": definition,
        "computed_at": question.now,
    }
    rows: list[dict[str, Any]] = [
        {
            **about,
            "slice": name,
            "scored": sums.scored,
            "labelled": sums.labelled,
            "judged": sums.judged,
            "sums": json.dumps(sums.sums.as_json()),
            "waiting": None if sums.waiting is None else json.dumps(sums.waiting.as_json()),
        }
        for name, sums in found.items()
    ]
    with database.writing() as connection:
        source = sa.update(label_sources).where(label_sources.c.pipeline == run.pipeline)
        connection.execute(source.values(additions=label_sources.c.additions))  # others wait until this has ended
        connection.execute(sa.delete(performance).where(performance.c.run_id == run.run_id))
        if rows:
            connection.execute(performance.insert(), rows)
