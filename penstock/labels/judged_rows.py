"""Join the rows of a run to their labels, and sum up how well the scores did."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from penstock.database.bulk import read
from penstock.database.connections import Database
from penstock.errors import NotMeasured, TooManySlices
from penstock.labels.key_text import write_key_forms
from penstock.labels.label_values import NO_CLASS, check_rows, number_labels, refuse_made_score
from penstock.labels.stored import find_labels
from penstock.ledger.destinations import SERVED, split_name
from penstock.ledger.label_sources import LabelSourceRecord
from penstock.ledger.reader import RunRecord
from penstock.ledger.served_rows import find_served_run, read_served_rows
from penstock.monitor.binned_scores import BinnedScores, bin_scores
from penstock.monitor.class_sums import ClassSums, sum_classes
from penstock.monitor.performance_sums import SURVIVAL, PerformanceSums, Problem, sum_rows
from penstock.monitor.ranking_sums import sum_groups
from penstock.monitor.survival_sums import sum_pairs
from penstock.privacy.key_forms import write_value
from penstock.privacy.masking import MaskingPolicy
from penstock.run.history_table import history_name, reflect_history
from penstock.spec.labels import Labels
from penstock.spec.pipeline import Pipeline
from penstock.spec.steps import SCORE

ALL_ROWS = ""
MOST_SLICES = 100
"""Values of one column in one run."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Question:
    """Whose scores are judged, and with which labels."""

    pipeline: Pipeline
    labels: Labels
    problem_of: Callable[[RunRecord], Problem]
    masking: MaskingPolicy
    now: datetime
    """Intervals are mature or not at this time."""
    as_of: datetime | None = None
    """Use the labels that were seen until then. None: all."""
    upto: int | None = None
    """Use the labels of the transactions up to this number (`label_sources.additions`). None: all."""
    classes_of: Callable[[RunRecord], tuple[str, ...]] = lambda _: ()
    """The classes of a run's model, in the order of its outputs. Empty: it has none."""

    def is_mature(self, run: RunRecord) -> bool:
        """Whether the labels of the run's interval are expected to be there."""
        return judged_from(run) + self.labels.mature <= (self.as_of or self.now)


def judged_from(run: RunRecord) -> datetime:
    """Return the time from which the age of a run's rows is counted: the end of its interval."""
    return run.interval_end or run.published_at or run.started_at


def has_lost_labels(run: RunRecord, source: LabelSourceRecord) -> bool:
    """Whether labels of the run's rows may be pruned, so that they cannot be judged any more.

    A label is seen after its row's interval has begun, and is pruned by the time at which it was seen.
    """
    begun = run.interval_start or judged_from(run)
    return source.pruned_before is not None and begun < source.pruned_before


@dataclass(frozen=True)
class SliceSums:
    """The rows of one slice of a run."""

    scored: int
    labelled: int
    sums: PerformanceSums
    waiting: BinnedScores | None = None
    """Of all rows of a binary model: the scores of the rows without a label that counts."""

    @property
    def judged(self) -> int:
        """Rows in the sums."""
        return self.sums.count

    @property
    def no_class(self) -> int:
        """Labelled rows that are left out, because their label is no class of the model."""
        return self.sums.no_class if isinstance(self.sums, ClassSums) else 0

    def __add__(self, other: "SliceSums") -> "SliceSums":
        added: Any = self.sums + other.sums  # type: ignore[operator] # of one problem
        waiting = self.waiting + other.waiting if self.waiting and other.waiting else self.waiting or other.waiting
        return SliceSums(self.scored + other.scored, self.labelled + other.labelled, added, waiting)


def sum_run(database: Database, run: RunRecord, question: Question) -> dict[str, SliceSums]:
    """Return the sums of a run by slice. The rows are read one partition at a time.

    Raises:
        LabelValue: a label of a binary model is neither 0 nor 1.
        NotMeasured: the scores are no probabilities, or are no longer there.
        TooManySlices: a column of `slices` has too many values.
    """
    problem = question.problem_of(run)
    found: dict[str, SliceSums] = {}
    whole: list[tuple[JudgedRows, Mapping[str, Array]]] = []
    group = _group_column(question.pipeline) if problem == "ranking" else None
    columns = score_columns(question, run)
    read_rows = _read_recorded if run.variant == SERVED else _read_partitions
    for rows in read_rows(database, run, question, columns, group):
        keys = write_key_forms(rows, question.pipeline.key, question.masking)
        groups = None if group is None else _number_values(rows[group])
        values = [floats_of(rows[column].to_pylist()) for column in columns]
        scores = np.column_stack(values) if problem == "multiclass" else values[0]
        part = judge_scores(database, run, question, keys, scores, groups)
        if problem in SURVIVAL:  # two rows of any partitions are a pair
            whole.append((part, _slices(rows, question)))
            continue
        for name, chosen in _slices(rows, question).items():
            sums = part.sum_up(problem, chosen, question.labels.quantiles, question.classes_of(run))
            if name == ALL_ROWS and problem == "classification":
                sums = replace(sums, waiting=part.bin_waiting())
            found[name] = found[name] + sums if name in found else sums
    return _sum_whole(problem, whole) if whole else found


def _sum_whole(problem: Problem, parts: "Sequence[tuple[JudgedRows, Mapping[str, Array]]]") -> dict[str, SliceSums]:
    """Sum up all partitions of a run together."""
    scores, labels, labelled = zip(*((part.scores, part.labels, part.labelled) for part, _ in parts), strict=True)
    joined = JudgedRows(np.concatenate(scores), np.concatenate(labels), np.concatenate(labelled), None)
    found = {}
    for name in dict.fromkeys(name for _, slices in parts for name in slices):
        masks = (slices.get(name, np.full(len(part.scores), False)) for part, slices in parts)
        found[name] = joined.sum_up(problem, np.concatenate(list(masks)), ())
    return found


def judge_scores(
    database: Database,
    run: RunRecord,
    question: Question,
    keys: Sequence[tuple[str, ...]],
    scores: Array,
    groups: Array | None = None,
) -> "JudgedRows":
    """Return scores of a run with their labels.

    Args:
        keys: of the rows, as `write_key_forms` returns them.
        scores: of the rows, NaN without a score. Of a model with several classes shape (n, k).
        groups: of a ranking: the number of each row's group.

    Raises:
        LabelValue: a label of a binary model is neither 0 nor 1.
        NotMeasured: the scores are no probabilities.
    """
    problem = question.problem_of(run)
    known = find_labels(database, run.pipeline, keys, question.as_of, question.upto)
    found = [known.get(forms[0]) if forms else None for forms in keys]
    values = number_labels(question.pipeline, problem, found, question.classes_of(run))
    labelled = ~np.isnan(values)
    if question.labels.missing == "negative":  # labels of young rows are mostly positive, so they do not count yet
        values = np.nan_to_num(values, nan=0.0) if question.is_mature(run) else np.full(len(values), np.nan)
    check_rows(question.pipeline, problem, scores, values)
    return JudgedRows(scores, values, labelled, groups)


def score_column(pipeline: Pipeline) -> str:
    """Return the column whose values are judged: the run's main score."""
    if SCORE in pipeline.decide:
        return SCORE
    return pipeline.name_output(pipeline.steps[-1], SCORE)


def score_columns(question: Question, run: RunRecord) -> tuple[str, ...]:
    """Return the columns whose values are judged: the main score, or the probability of each class.

    Raises:
        NotMeasured: `decide:` makes a score of a model with several classes.
    """
    pipeline = question.pipeline
    if question.problem_of(run) != "multiclass":
        return (score_column(pipeline),)
    refuse_made_score(pipeline, "multiclass", run.model)
    return tuple(pipeline.name_output(pipeline.steps[-1], f"{SCORE}_{name}") for name in question.classes_of(run))


@dataclass(frozen=True)
class JudgedRows:
    """Rows with their labels. NaN: no score, or no label that counts. A label may be `NO_CLASS`."""

    scores: Array
    labels: Array
    labelled: Array
    groups: Array | None
    """Of a ranking: the number of each row's group."""

    def sum_up(
        self, problem: Problem, chosen: Array, quantiles: tuple[float, ...], classes: tuple[str, ...] = ()
    ) -> SliceSums:
        absent = np.isnan(self.scores)
        has_score = chosen & ~(absent.any(axis=1) if absent.ndim > 1 else absent)
        judged = has_score & ~np.isnan(self.labels)
        scores, labels = self.scores[judged], self.labels[judged]
        sums: PerformanceSums
        if problem == "ranking":
            assert self.groups is not None
            sums = sum_groups(scores, labels, self.groups[judged])
        elif problem == "hazard":
            sums = sum_pairs(scores, labels)
        elif problem == "lifetime":
            sums = sum_pairs(-scores, labels)
        elif problem == "multiclass":
            known = labels != NO_CLASS
            sums = replace(sum_classes(scores[known], labels[known], classes), no_class=int((~known).sum()))
        else:
            sums = sum_rows(problem, scores, labels, quantiles)
        return SliceSums(int(has_score.sum()), int((has_score & self.labelled).sum()), sums)

    def bin_waiting(self) -> BinnedScores:
        """Count the probabilities of the rows without a label that counts."""
        scores = self.scores[~np.isnan(self.scores) & np.isnan(self.labels)]
        return bin_scores(scores, np.zeros(len(scores), np.bool_))


def _group_column(pipeline: Pipeline) -> str:
    """Return the column whose rows are ranked together. No partition cuts a group of `partition_by`.

    Raises:
        NotMeasured: the spec has none, or it is not stored with the scores.
    """
    column = pipeline.partition_by
    if column is None or column not in (*pipeline.key, *pipeline.destination.keep):
        why = "its model ranks rows within groups, and the groups are not known"
        remedy = "Name the column of the groups in `partition_by`, and in `keep` too."
        raise NotMeasured(f"`{pipeline.name}`", why, remedy)
    return column


def _read_partitions(
    database: Database, run: RunRecord, question: Question, scores: Sequence[str], group: str | None
) -> Iterator[pa.Table]:
    """Yield key, scores, slices and group of a run's rows.

    Raises:
        NotMeasured: the table has no such columns, since the spec has changed.
    """
    wanted = _name_columns(question, scores, group)
    schema, _ = split_name(run.destination or "")
    name = history_name(run.destination_table, schema or None)
    with database.reading() as connection:
        table = reflect_history(connection, name.name, schema or None)
        numbers = sa.select(table.c.partition).where(table.c.run_id == run.run_id).distinct()
        partitions = sorted(connection.execute(numbers).scalars())
    if lacking := [column for column in wanted if column not in table.c]:
        raise NotMeasured(
            f"run {run.run_id[:8]}",
            f"`{table.name}` has no column `{lacking[0]}`",
            "Score its interval again with `penstock run --restate`.",
        )
    columns = [table.c[column] for column in wanted]
    for partition in partitions:
        mine = (table.c.run_id == run.run_id, table.c.partition == partition)
        yield read(database, sa.select(*columns).where(*mine), exact=question.pipeline.key)


def _name_columns(question: Question, scores: Sequence[str], group: str | None) -> list[str]:
    """Return key, scores, slices and group, each once."""
    needed = (*question.pipeline.key, *scores, *question.labels.slices, *([] if group is None else [group]))
    return list(dict.fromkeys(needed))


def _read_recorded(
    database: Database, run: RunRecord, question: Question, scores: Sequence[str], group: str | None
) -> Iterator[pa.Table]:
    """Yield key, scores, slices and group of the recorded rows of a run that were scored.

    Raises:
        NotMeasured: there are no such columns, since the spec has changed or because they are private.
    """
    served = find_served_run(database, run.run_id)
    wanted = _name_columns(question, scores, group)
    for rows in read_served_rows(database, served):
        outputs, features = rows.outputs, rows.features
        known = set(outputs.column_names) | set(features.column_names)
        if lacking := [column for column in wanted if column not in known]:
            why = f"its recorded rows have no column `{lacking[0]}` that is shown"
            raise NotMeasured(
                f"run {run.run_id[:8]}", why, "Labels join recorded rows by columns that are not private."
            )
        tables = [outputs if column in outputs.column_names else features for column in wanted]
        yield pa.table([each[column] for each, column in zip(tables, wanted, strict=True)], names=wanted)


def _slices(rows: pa.Table, question: Question) -> Mapping[str, Array]:
    """Return which rows are in each slice.

    Raises:
        TooManySlices: a column has too many values.
    """
    chosen: dict[str, Array] = {ALL_ROWS: np.full(rows.num_rows, True)}
    for column in question.labels.slices:
        texts = [None if value is None else write_value(value) for value in rows[column].to_pylist()]
        names = np.array([name_slice(column, text) for text in texts], object)
        values = set(names.tolist())
        if len(values) > MOST_SLICES:
            raise TooManySlices(question.pipeline.name, column, MOST_SLICES)
        chosen |= {name: names == name for name in values}
    return chosen


def name_slice(column: str, value: str | None) -> str:
    """Return a slice's name in the ledger."""
    return json.dumps({column: value}, ensure_ascii=False)


def floats_of(values: Sequence[Any]) -> Array:
    """Return numbers as an array, with NaN for None."""
    return np.array([_or_nan(value) for value in values], np.float64)


def _number_values(column: "pa.ChunkedArray[Any]") -> Array:
    """Return a number for each value, equal for equal values."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    numbers: Array = encoded.indices.to_numpy(zero_copy_only=False)
    return numbers


def _or_nan(value: Any) -> float:
    return np.nan if value is None else float(value)
