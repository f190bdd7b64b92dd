"""Score recorded rows again, as partitions of a run, and compare them with what was served, to the bit.

Scores from recorded features must be equal, always. Features that are made again of the recorded row must be equal if
the rows of the other sources are those of then: the request brought them, or a snapshot of now has the same digest.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa

from penstock.database.connections import Connector, Database
from penstock.database.exact_json import write_values
from penstock.errors import PenstockError, ServedDiffers
from penstock.interval import DataInterval
from penstock.ledger.served_rows import ServedRow, ServedRows, ServedRun, list_served_runs, read_served_rows
from penstock.ledger.served_spool import settle_before_run
from penstock.models.registry import Registry
from penstock.privacy.masking import make_masking
from penstock.run.partition_options import PartitionOptions
from penstock.run_types import Features, Partition
from penstock.serving.judged_grains import JudgedGrain, judge_grains
from penstock.serving.released import release_files
from penstock.serving.scored_request import RequestRows, ScoredRequest
from penstock.serving.scorer import Scorer
from penstock.serving.source_snapshot import SourceSnapshot, take_snapshot
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.query_text import parameters_in
from penstock.spec.serve import Serve
from penstock.spec.sources import FilesSource, SqlSource
from penstock.wording import plural

Finding = Literal["score differs", "features differ"]
_EXAMPLES = 5
_BATCH_ROWS = 5_000


@dataclass
class RescoredRows:
    """What scoring recorded rows again has found."""

    rows: int = 0
    scores: int = 0
    """Rows whose score was made again of the recorded features."""
    features: int = 0
    """Rows whose features and score were made again of the recorded row, with the other sources' rows of then."""
    moved: int = 0
    """Rows that came out otherwise, with rows of the other sources that are other ones now."""
    unmoved: int = 0
    """Rows that came out the same with such rows."""
    differ: dict[str, int] = field(default_factory=dict)
    """How many rows came out otherwise and should not have."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why rows could not be scored again, and how many."""
    examples: list[tuple[str, str, str, int]] = field(default_factory=list)
    """Some of the rows that differ: what differs, run, request and position."""

    def refuse_difference(self, pipeline: str) -> None:
        """Raise an error if something came out otherwise that should not have.

        Raises:
            ServedDiffers: it did.
        """
        if self.differ:
            counts = self.differ.get("score differs", 0), self.differ.get("features differ", 0)
            named = (f"run {run}, request {request}, row {seq}" for _, run, request, seq in self.examples)
            raise ServedDiffers(pipeline, *counts, tuple(named))

    def note(self, finding: Finding, row: ServedRow) -> None:
        """Count a row that should have come out the same."""
        self.differ[finding] = self.differ.get(finding, 0) + 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append((finding, row.run.run_id, row.request_id, row.seq))

    def leave_out(self, why: str, rows: int) -> None:
        """Count rows that could not be scored again."""
        if rows:
            self.left_out[why] = self.left_out.get(why, 0) + rows

    def describe_examples(self) -> list[str]:
        """Return a line of Markdown for each of some rows that differ."""
        return [f"{what}: run `{run}`, request `{request}`, row {seq}" for what, run, request, seq in self.examples]

    def describe(self) -> list[str]:
        """Return lines for people."""
        score, features = self.differ.get("score differs", 0), self.differ.get("features differ", 0)
        lines = [
            f"{plural(self.rows, 'recorded row')}",
            f"scores from recorded features: {self.scores - score:,} of {self.scores:,} are equal",
            f"features and scores from recorded rows: {self.features - features:,} of {self.features:,} are equal",
        ]
        if moved := self.moved + self.unmoved:
            lines.append(
                f"rows of other sources are not those of then for {plural(moved, 'row')}: {self.unmoved:,} are equal, "
                f"the source moved for {self.moved:,}"
            )
        return lines + [f"{plural(rows, 'row')} left out, because {why}" for why, rows in self.left_out.items()]


def rescore(
    pipeline: Pipeline, settings: Settings, connect: Connector, registry: Registry, since: datetime, now: datetime
) -> RescoredRows:
    """Score the rows again that were recorded since a time, those of this machine's spool too.

    Raises:
        DatabaseUnavailable: the warehouse does not answer, or is busy.
    """
    warehouse = connect(pipeline.destination.connection)
    settle_before_run(warehouse, settings.home, pipeline)
    options = PartitionOptions(make_masking(pipeline, settings), settings.statement_seconds)
    return Rescoring(pipeline, connect, registry, options, now).check(warehouse, since)


def judge_ended_grains(
    pipeline: Pipeline, settings: Settings, connect: Connector, registry: Registry, since: datetime, now: datetime
) -> list[JudgedGrain]:
    """Judge the recorded rows of the intervals that have ended between two times, and store what was found.

    Raises:
        DatabaseUnavailable: the warehouse does not answer, or is busy.
        DriftRefused: a model version has no reference, or not a column that `drift` watches.
    """
    options = PartitionOptions(make_masking(pipeline, settings), settings.statement_seconds)
    return judge_grains(pipeline, connect(pipeline.destination.connection), registry, options, since, now)


@dataclass
class Rescoring:
    """Scores the recorded rows of a pipeline again. It writes nothing."""

    pipeline: Pipeline
    connect: Connector
    registry: Registry
    options: PartitionOptions
    now: datetime
    _snapshots: dict[DataInterval | None, SourceSnapshot | PenstockError] = field(default_factory=dict)

    def check(self, warehouse: Database, since: datetime) -> RescoredRows:
        """Score the rows again that were recorded since then."""
        found = RescoredRows()
        for run in list_served_runs(warehouse, self.pipeline.name, since):
            for chunk in read_served_rows(warehouse, run):
                rows = tuple(row for row in chunk.rows if row.recorded_at >= since)
                found.rows += len(rows)
                if rows:
                    self._check_rows(run, rows, found)
        return found

    def _check_rows(self, run: ServedRun, rows: tuple[ServedRow, ...], found: RescoredRows) -> None:
        if run.scoring != self.pipeline.scoring_fingerprint:
            found.leave_out("the spec scores in another way since", len(rows))
            return
        try:
            scorer = self._open_scorer(run)
        except PenstockError as error:
            found.leave_out(f"their model cannot be opened: {error}", len(rows))
            return
        if not run.keeps_features:
            found.leave_out("features are private, and hidden", len(rows))
            return
        _check_scores(scorer, ServedRows(run, rows), found)
        if run.keeps_rows:
            self._check_features(scorer, run, rows, found)
        else:
            found.leave_out("columns of the rows are private, and hidden: only the scores were made again", len(rows))

    def _open_scorer(self, run: ServedRun) -> Scorer:
        """Return what scores as a run with the models that scored the rows."""
        models = {step: self.registry.load(pin) for step, pin in run.pins.items()}
        serve = Serve() if len(run.layout.sources) == len(self.pipeline.sources) else Serve(features="snapshot")
        served = self.pipeline.model_copy(update={"serve": serve}).for_requests
        return Scorer(served, run.pins, models, {}, self.options)

    def _check_features(self, scorer: Scorer, run: ServedRun, rows: tuple[ServedRow, ...], found: RescoredRows) -> None:
        """Make the features again of the recorded rows, score them, and compare all of it."""
        erased = [row for row in rows if not row.is_whole]
        found.leave_out("rows that the request brought were erased", len(erased))
        held = scorer.pipeline.holds_snapshot
        snapshot = self._take_snapshot(run.interval) if held else None
        if isinstance(snapshot, PenstockError):
            found.leave_out(f"no snapshot can be taken: {snapshot}", len(rows) - len(erased))
            return
        for batch in _cut(rows, alone=self.pipeline.partition_by is not None):
            if not all(row.is_whole for row in batch):
                continue
            for row, again in zip(batch, _score_again(replace(scorer, snapshot=snapshot), run, batch), strict=True):
                is_equal = again == _recorded(row)
                if snapshot is not None and snapshot.digest != row.snapshot:
                    found.unmoved += is_equal
                    found.moved += not is_equal
                    continue
                found.features += 1
                if not is_equal:
                    found.note("features differ", row)

    def _take_snapshot(self, interval: DataInterval | None) -> SourceSnapshot | PenstockError:
        """Read the other sources as a server would have, which is in this interval. Only some depend on it."""
        key = interval if self._depends_on_interval else None
        if key not in self._snapshots:
            moment = interval.start if interval else self.now
            serve = self.pipeline.serve or Serve()
            try:
                with release_files(self.connect) as connect:
                    taken = take_snapshot(self.pipeline, connect, self.options.masking, serve.limit.snapshot, moment)
                    self._snapshots[key] = taken
            except PenstockError as error:
                self._snapshots[key] = error
        return self._snapshots[key]

    @cached_property
    def _depends_on_interval(self) -> bool:
        others = [source for name, source in self.pipeline.sources.items() if name != self.pipeline.primary]
        return any(
            (isinstance(each, SqlSource) and each.query is not None and bool(parameters_in(each.query)))
            or (isinstance(each, FilesSource) and (each.is_named_by_interval or each.is_documents))
            for each in others
        )


def _check_scores(scorer: Scorer, rows: ServedRows, found: RescoredRows) -> None:
    """Score the recorded features again, all at once, and compare the outputs."""
    scored = rows.scored
    again = _score_recorded(scorer, rows.features, rows.outputs.column_names)
    for at, row in enumerate(scored):
        text = again[at] if again is not None else _one(scorer, rows, at)
        found.scores += 1
        if text != _text(row.outputs):
            found.note("score differs", row)


def _one(scorer: Scorer, rows: ServedRows, at: int) -> str | None:
    again = _score_recorded(scorer, rows.features.slice(at, 1), rows.outputs.column_names)
    return again[0] if again else None


def _score_recorded(scorer: Scorer, features: pa.Table, outputs: Sequence[str]) -> list[str] | None:
    """Return the outputs of each row as text. None if a row gets none, or the rows cannot be scored together."""
    partition = Partition(0, 1, None, None, features.num_rows)
    try:
        scored = scorer.score_features(partition, Features(features, features.num_rows, 0, (), ()))
    except PenstockError:
        return None
    if scored.table.num_rows != features.num_rows:
        return None
    return [_text(row) for row in write_values(scored.table.select(list(outputs)))]


def _cut(rows: Iterable[ServedRow], *, alone: bool) -> Iterator[list[ServedRow]]:
    """Yield the rows of whole requests that may be scored together: their keys differ, and they bring no others."""
    batch: list[ServedRow] = []
    keys: set[str | None] = set()
    for _, group in groupby(rows, key=lambda row: row.request_id):
        request = list(group)
        mine = {row.key for row in request} - {None}
        by_itself = alone or any(row.other_rows for row in request) or not all(row.is_whole for row in request)
        if batch and (by_itself or keys & mine or len(batch) + len(request) > _BATCH_ROWS):
            yield batch
            batch, keys = [], set()
        if by_itself:
            yield request
            continue
        batch += request
        keys |= mine
    if batch:
        yield batch


_Came = tuple[str, str, str]
"""What became of a row, as text: its status and reasons, its features, its outputs."""


def _score_again(scorer: Scorer, run: ServedRun, batch: Sequence[ServedRow]) -> list[_Came]:
    """Return what becomes of the rows now. If they cannot be scored together, each request is scored alone."""
    rows = ServedRows(run, tuple(batch))
    [scored] = scorer.score_together([RequestRows("again", rows.primary, rows.others())])
    if isinstance(scored, ScoredRequest):
        return _list_came(scored)
    requests = [list(group) for _, group in groupby(batch, key=lambda row: row.request_id)]
    if len(requests) > 1:
        return [came for request in requests for came in _score_again(scorer, run, request)]
    return [(f"not scored: {scored}", "", "") for _ in batch]


def _list_came(scored: ScoredRequest) -> list[_Came]:
    features, outputs = iter(write_values(scored.features)), iter(write_values(scored.outputs))
    came = []
    for outcome in scored.outcomes:
        is_scored = outcome.place is not None
        known = (_text(next(features)), _text(next(outputs))) if is_scored else ("", "")
        came.append((_text([outcome.status, *(() if is_scored else outcome.reasons)]), *known))
    return came


def _recorded(row: ServedRow) -> _Came:
    if row.feature_row is None:
        return _text([row.status, *row.reasons]), "", ""
    return _text([row.status]), _text(row.feature_row), _text(row.outputs)


def _text(value: Mapping[str, Any] | Sequence[Any] | None) -> str:
    """Write a value so that equal texts are equal to the bit: `-0.0` is not `0.0`, and `1` is not `1.0`."""
    return json.dumps(value, sort_keys=True)
