"""One pipeline that is served: its models as their aliases name them now, and its requests in flight."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock

import pyarrow as pa

from penstock.database.connections import Connector
from penstock.errors import NotReady, PenstockError, RowsRefused, ServeRefused, TooManyRequests, TransientError
from penstock.interval import iso
from penstock.ledger.schema_contracts import Contracts, read_contracts
from penstock.models.needs import given_columns, needed_columns
from penstock.models.registry import Registry
from penstock.quality.predicates import may_compile
from penstock.run.partition_options import PartitionOptions
from penstock.run.row_types import read_row_types
from penstock.run.schema_contract import compare_outputs, refuse_breaks
from penstock.run_types import Pins
from penstock.serving.batches import Batches
from penstock.serving.recorder import Recorder
from penstock.serving.released import release_files
from penstock.serving.scored_request import RequestRows
from penstock.serving.scorer import Scorer
from penstock.serving.source_columns import choose_columns
from penstock.serving.source_snapshot import SourceSnapshot, take_snapshot
from penstock.spec.pipeline import Pipeline
from penstock.spec.serve import Serve

logger = logging.getLogger(__name__)

STATEMENT_SECONDS = 10
"""Most seconds of a request's features query, conditions and decisions. A pipeline has one thread for its requests."""
_TRY_AGAIN = 60.0
"""Seconds until a version that could not be used is opened again."""


@dataclass
class ServedPipeline:
    """A pipeline that answers requests. It keeps the last good model if a new one cannot be used."""

    pipeline: Pipeline
    connect: Connector
    registry: Registry
    options: PartitionOptions
    scorer: Scorer | None = None
    """None until a model stands."""
    recorder: Recorder | None = None
    """None: what is served is not recorded."""
    problem: str = ""
    """Why the model that the alias names now does not score. Empty: it does."""
    coming: int = 0
    """Requests in flight."""
    snapshot: SourceSnapshot | None = None
    """The rows of the other sources, with `features: snapshot`. None until they have been read."""
    snapshot_problem: str = ""
    """Why the last attempt to read them again has failed. Empty: it has not."""
    _types: dict[str, dict[str, pa.DataType]] = field(default_factory=dict)
    _contracts: Contracts | None = None
    _refused: tuple[Pins, float] | None = None
    _swapping: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        limits = self.limits
        seconds = min(self.options.statement_seconds, STATEMENT_SECONDS)
        stand = self.pipeline.holds_snapshot
        self.options = replace(self.options, statement_seconds=seconds, threads=1, others_stand=stand)
        alone = self.pipeline.partition_by is not None
        self.batches = Batches(limits.batch.rows, limits.batch.wait, alone)

    @property
    def name(self) -> str:
        return self.pipeline.name

    @property
    def limits(self) -> Serve:
        """The `serve` of the spec, or its defaults."""
        return self.pipeline.serve or Serve()

    @property
    def ready(self) -> Scorer:
        """What scores.

        Raises:
            NotReady: no model stands yet.
        """
        if self.scorer is None:
            problem = self.problem or self.snapshot_problem
            raise NotReady(self.name, problem or "its model is being opened.")
        return self.scorer

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request while it is answered.

        Raises:
            TooManyRequests: there are as many as `limit.in_flight`.
        """
        if self.coming >= self.limits.limit.in_flight:
            raise TooManyRequests(f"`{self.name}` has {self.coming:,} requests in flight, which is its limit")
        self.coming += 1
        try:
            yield
        finally:
            self.coming -= 1

    def take_models(self, clock: Callable[[], float] = time.monotonic) -> bool:
        """Look the aliases up, and take the versions that they name if they are other ones. Keep the old ones if not.

        A version that could not be used is tried again after a minute.

        With `features: snapshot` nothing is opened before the first snapshot.

        Returns:
            Whether the scorer is another one now.
        """
        if self.pipeline.holds_snapshot and self.snapshot is None:
            return False
        try:
            pins: Pins = {step.name: self.registry.resolve(step.model) for step in self.pipeline.steps}
            if self.scorer is not None and self.scorer.pins == pins:
                self.problem = ""
                return False
            if self._refused and self._refused[0] == pins and clock() < self._refused[1]:
                return False
            self._refused = (pins, clock() + _TRY_AGAIN)
            scorer = self._open(pins)
        except Exception as error:  # noqa: BLE001 # whatever it is, the old ones go on scoring
            self._note(error)
            return False
        with self._swapping:
            self.scorer, self.problem, self._refused = replace(scorer, snapshot=self.snapshot), "", None
        logger.info("%s is scored with %s", self.name, ", ".join(str(pin) for pin in pins.values()))
        return True

    def take_snapshot(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> bool:
        """Read the rows of the other sources again, and score with them from now on. Keep the old ones if that fails.

        Returns:
            Whether they have been read.
        """
        try:
            with release_files(self.connect) as connect:
                most = self.limits.limit.snapshot
                snapshot = take_snapshot(self.pipeline, connect, self.options.masking, most, clock())
            if self.scorer is not None:
                _try_out(replace(self.scorer, snapshot=snapshot))
        except Exception as error:  # noqa: BLE001 # whatever it is, the old rows go on being used
            self._note_snapshot(error)
            return False
        with self._swapping:
            self.snapshot, self.snapshot_problem = snapshot, ""
            if self.scorer is not None:
                self.scorer = replace(self.scorer, snapshot=snapshot)
        logger.info("%s has a snapshot: %s", self.name, snapshot.summary)
        return True

    def _note_snapshot(self, error: Exception) -> None:
        problem = describe_problem(error)
        kept = f"that of {iso(self.snapshot.taken_at)} stays" if self.snapshot else "nothing scores"
        unknown = None if isinstance(error, PenstockError) else error
        logger.error("%s: no snapshot can be taken, and %s: %s", self.name, kept, problem, exc_info=unknown)
        self.snapshot_problem = problem

    def _note(self, error: Exception) -> None:
        if isinstance(error, TransientError):
            self._refused = None
        problem = describe_problem(error)
        if problem != self.problem:
            kept = (
                f"{next(reversed(list(self.scorer.pins.values())))} goes on scoring"
                if self.scorer
                else "nothing scores"
            )
            unknown = None if isinstance(error, PenstockError) else error
            logger.error("%s: the models cannot be used, and %s: %s", self.name, kept, error, exc_info=unknown)
        self.problem = problem

    def _open(self, pins: Pins) -> Scorer:
        """Open the versions, which checks digests and golden rows, and find the columns that requests bring.

        Raises:
            PenstockError: a version cannot be opened, lacks an output of the contract, or cannot score these columns.
        """
        models = {step: self.registry.load(pin) for step, pin in pins.items()}
        manifests = {step: model.manifest for step, model in models.items()}
        types, contracts = self._read_types_again(), self._read_contracts()
        # Without what the last run gave, which only its models' manifests say: the first contract comes with a run.
        outputs = compare_outputs(self.pipeline, contracts, given_columns(self.pipeline, manifests), lambda: None)
        refuse_breaks(self.pipeline, None, [outputs])
        needed, served = needed_columns(self.pipeline, manifests), self.pipeline.for_requests
        columns = {name: choose_columns(served, name, types[name], needed) for name in self._brought}
        scorer = Scorer(served, pins, models, columns, self.options, self.snapshot)
        _try_out(scorer)
        return scorer

    @property
    def _brought(self) -> tuple[str, ...]:
        """The sources whose rows requests bring."""
        return (self.pipeline.primary,) if self.pipeline.holds_snapshot else tuple(self.pipeline.sources)

    def _read_types_again(self) -> Mapping[str, dict[str, pa.DataType]]:
        """Return the types of now, or those of before while a database does not answer."""
        known, self._types = self._types, {}
        try:
            return self._read_types()
        except TransientError:
            if not known:
                raise
            self._types = known
            return known

    def _read_contracts(self) -> Contracts:
        """Return the contracts of now, or those of before while the warehouse does not answer."""
        try:
            with release_files(self.connect) as connect:
                self._contracts = read_contracts(connect(self.pipeline.destination.connection), self.name)
        except TransientError:
            if self._contracts is None:
                raise
        return self._contracts

    def _read_types(self) -> Mapping[str, dict[str, pa.DataType]]:
        """Return the types of each source's columns. They are kept."""
        if self._types:
            return self._types
        found: dict[str, dict[str, pa.DataType]] = {}
        with release_files(self.connect) as connect:
            contracts = read_contracts(connect(self.pipeline.destination.connection), self.name)
            for name in self._brought:
                types = read_row_types(self.pipeline, name, connect, contracts)
                if types is None:
                    reason = f"the types of the columns of `{name}` are not known before a run has published"
                    raise ServeRefused(reason, f"Run `penstock run {self.name}` once.")
                found[name] = types
        self._types = found
        return found


def describe_problem(error: Exception) -> str:
    """Return the message of an error that Penstock knows, and of others the type."""
    return str(error) if isinstance(error, PenstockError) else f"{type(error).__name__}: see the server's log"


def _try_out(scorer: Scorer) -> None:
    """Score a request without rows, so that a query or a decision that cannot take the new version is found now.

    Raises:
        PenstockError: it cannot.
    """
    tables = {name: columns.make_table(()) for name, columns in scorer.columns.items()}
    primary = tables.pop(scorer.pipeline.primary)
    [tried] = scorer.score_together([RequestRows("try", primary, tables)])
    if isinstance(tried, Exception) and not isinstance(tried, RowsRefused):
        raise tried


def refuse_unservable(pipeline: Pipeline) -> None:
    """Refuse a pipeline whose rows cannot be judged within a request.

    Raises:
        ServeRefused: an expectation about rows cannot be compiled, so that Great Expectations would judge it.
    """
    for stage, listed in pipeline.for_requests.expectations.items():
        for each in listed:
            if each.is_row and not may_compile(each):
                raise ServeRefused(
                    f"`{pipeline.name}` cannot be served: `{each.label}` of `{stage}` is judged by Great Expectations, "
                    "which takes longer than a request may",
                    "Write it as another expectation, or as a column of `features`.",
                )
