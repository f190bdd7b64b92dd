"""Score requests with one version of each model. A request's rows are a partition of a run that is never claimed."""

import logging
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from penstock.database.unstorable import to_records
from penstock.errors import ExpressionError, FeaturesError, Halted, PenstockError, RequestError, RowsRefused
from penstock.models.chain import judge_steps, score_step
from penstock.models.needs import given_columns
from penstock.models.scoring import score_features
from penstock.run.partition_options import PartitionOptions
from penstock.run.validate import to_json, validate_partition
from penstock.run_types import ExtractedRows, Features, Partition, Pins, Refusal, ScoredRows, ScoringRun, deciding_model
from penstock.serving.request_rows import SourceColumns
from penstock.serving.scored_request import RequestRows, RowOutcome, ScoredRequest
from penstock.serving.source_snapshot import SourceSnapshot
from penstock.spec.pipeline import Pipeline

if TYPE_CHECKING:
    from penstock.models.booster import ModelVersion

logger = logging.getLogger(__name__)

Scored = ScoredRequest | Exception


@dataclass(frozen=True)
class Scorer:
    """A pipeline with its model versions, which have been opened and verified. A move of an alias makes a new one."""

    pipeline: Pipeline
    """As it scores requests, see `Pipeline.for_requests`."""
    pins: Pins
    models: Mapping[str, "ModelVersion"]
    """By step."""
    columns: Mapping[str, SourceColumns]
    """By source whose rows requests bring."""
    options: PartitionOptions
    snapshot: SourceSnapshot | None = None
    """The rows of the other sources. None: requests bring them."""

    @property
    def other_columns(self) -> Mapping[str, SourceColumns]:
        """The columns of the other sources whose rows requests may bring."""
        return {name: columns for name, columns in self.columns.items() if name != self.pipeline.primary}

    def score_together(self, requests: Sequence[RequestRows]) -> list[Scored]:
        """Score requests as one partition. If that fails, score each of them alone.

        So the answer to a request does not depend on those beside it: they may have the same key, or a row that the
        features query fails on.

        Returns:
            A result or an error for each request.
        """
        if len(requests) > 1:
            try:
                return list(self._score(requests))
            except Exception:  # noqa: BLE001 # whatever it is, only the request that has it gets it
                logger.debug("%s: %d requests are scored one by one", self.pipeline.name, len(requests))
        return [self._score_alone(request) for request in requests]

    def _score_alone(self, request: RequestRows) -> Scored:
        try:
            [scored] = self._score([request])
        except PenstockError as error:
            return _of_request(error)
        except Exception as error:  # noqa: BLE001 # the requests beside it get their answers
            return error
        return scored

    def _score(self, requests: Sequence[RequestRows]) -> Iterator[ScoredRequest]:
        primary = pa.concat_tables([each.primary for each in requests]) if len(requests) > 1 else requests[0].primary
        others = requests[0].others if self.snapshot is None else self.snapshot.tables
        scored = self._score_partition(primary, dict(others))
        if scored.halts:
            raise Halted(self.pipeline.name, "request", scored.halts)
        outcomes = find_outcomes(self.pipeline, primary, scored, self.options)
        deciding = self.models[self.pipeline.steps[-1].name]
        left_out = tuple(each for each in scored.refusals if each.stage in requests[0].others)
        first = 0
        for request in requests:
            mine = outcomes[first : first + request.rows]
            first += request.rows
            yield ScoredRequest(request, self.pipeline, self.pins, deciding, scored, mine, left_out, self.snapshot)

    def _score_partition(self, primary: pa.Table, others: dict[str, pa.Table]) -> ScoredRows:
        """Do what a run does with a partition."""
        partition = Partition(0, 1, None, None, primary.num_rows)
        features = validate_partition(self._run, partition, ExtractedRows(primary, others), self.options)
        return self.score_features(partition, features)

    def score_features(self, partition: Partition, features: Features) -> ScoredRows:
        """Score a partition whose features have been built, as a run does."""
        pipeline, run, options = self.pipeline, self._run, self.options
        if not run.steps:
            return score_features(run, partition, features, self.models[pipeline.steps[0].name], options)
        for step in pipeline.steps if not features.halts else ():
            features = score_step(pipeline, features, step, self.models[step.name], options)
        return judge_steps(run, partition, features, options)

    @cached_property
    def _run(self) -> ScoringRun:
        steps = self.pins if self.pipeline.models else {}
        return ScoringRun("request", self.pipeline, None, deciding_model(self.pins), "", "served", steps=steps)


def _of_request(error: PenstockError) -> PenstockError:
    """Return the error as the answer to a request says it."""
    if isinstance(error, Halted):
        reasons = "; ".join(error.reasons).removesuffix(".")
        return RowsRefused(reasons, f"`{error.pipeline}`", "Correct the rows and send the request again.")
    if isinstance(error, FeaturesError | ExpressionError):
        if isinstance(error.__cause__, duckdb.InterruptException):
            what = f"`{error.pipeline}` takes longer than a request may"
            return RequestError(what, "", "Send fewer rows, or make the query in the spec faster.", 422)
        return RequestError(str(error), "", "Correct the rows, or the spec.", 422)
    return error


def find_outcomes(
    pipeline: Pipeline, primary: pa.Table, scored: ScoredRows, options: PartitionOptions
) -> tuple[RowOutcome, ...]:
    """Return what became of each primary row, by its key. Keys are unique, but for those with NULL.

    Raises:
        FeaturesError: a scored row has a key that no primary row has, because the query changes its type.
    """
    key = list(pipeline.key)
    keys = primary.select(key)
    if scored.table.num_rows == primary.num_rows and scored.table.select(key).equals(keys):
        return tuple(RowOutcome("scored", place) for place in range(primary.num_rows))
    outcomes = [RowOutcome("excluded")] * primary.num_rows
    for at, refusal in _place_refusals(pipeline, keys, scored.refusals, options):
        outcomes[at] = RowOutcome("refused", refusal=refusal)
    places = {tuple(row.values()): at for at, row in enumerate(keys.to_pylist())}
    for place, row in enumerate(scored.table.select(key).to_pylist()):
        position = places.get(tuple(row.values()))
        if position is None:
            raise _changed_key(pipeline)
        outcomes[position] = RowOutcome("scored", place)
    return tuple(outcomes)


def _place_refusals(
    pipeline: Pipeline, keys: pa.Table, refusals: Sequence[Refusal], options: PartitionOptions
) -> Iterator[tuple[int, Refusal]]:
    """Yield each refused primary row's position. Of rows with the same incomplete key the first is refused first."""
    mine = [each for each in refusals if each.source == pipeline.primary]
    if not mine:
        return
    named: dict[str, deque[int]] = defaultdict(deque)
    for at, row in enumerate(to_records(keys.select(sorted(pipeline.key)))):  # as refusals name it
        named[to_json(options.masking.mask(row))].append(at)
    for refusal in mine:
        if not named[refusal.key]:
            raise _changed_key(pipeline)
        yield named[refusal.key].popleft(), refusal


def _changed_key(pipeline: Pipeline) -> FeaturesError:
    return FeaturesError(pipeline.name, "changes the type of the key. Select it as it is in the source.")


def output_columns(scorer: Scorer) -> dict[str, str]:
    """Return the outputs and decisions of each row, with the protocol's type of those that are numbers for sure."""
    given = given_columns(scorer.pipeline, {step: model.manifest for step, model in scorer.models.items()})
    return {name: "FP64" if kind == "float" else "BYTES" for name, kind in given.items()}
