"""One pipeline that is served: its models as their aliases name them now, and its requests in flight."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa

from penstock.database.connections import Connector
from penstock.errors import NotReady, PenstockError, RowsRefused, ServeRefused, TooManyRequests, TransientError
from penstock.ledger.schema_contracts import Contracts, read_contracts
from penstock.models.needs import given_columns, needed_columns
from penstock.models.registry import Registry
from penstock.quality.predicates import may_compile
from penstock.run.partition_options import PartitionOptions
from penstock.run.row_types import read_row_types
from penstock.run.schema_contract import compare_outputs, refuse_breaks, used_columns
from penstock.run_types import Pins
from penstock.serving.batches import Batches
from penstock.serving.released import release_files
from penstock.serving.request_rows import SourceColumns
from penstock.serving.scored_request import RequestRows
from penstock.serving.scorer import Scorer
from penstock.spec.pipeline import Pipeline
from penstock.spec.serve import Serve
from penstock.spec.sources import ROW_ID, SqlSource

logger = logging.getLogger(__name__)

_TAKES_ALL = re.compile(
    r"(^|[\s,(.])\*\s*(,|\)|$|\b(from|exclude|replace|rename)\b)|(^|\()\s*from\b|\b(columns|pivot|unpivot|natural)\b",
    re.IGNORECASE,
)
"""What may stand for columns that a query does not name."""
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
    problem: str = ""
    """Why the model that the alias names now does not score. Empty: it does."""
    coming: int = 0
    """Requests in flight."""
    _types: dict[str, dict[str, pa.DataType]] = field(default_factory=dict)
    _contracts: Contracts | None = None
    _refused: tuple[Pins, float] | None = None

    def __post_init__(self) -> None:
        limits = self.limits
        seconds = min(self.options.statement_seconds, STATEMENT_SECONDS)
        self.options = replace(self.options, statement_seconds=seconds, threads=1)
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
            raise NotReady(self.name, self.problem or "its model is being opened.")
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

        Returns:
            Whether the scorer is another one now.
        """
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
        self.scorer, self.problem, self._refused = scorer, "", None
        logger.info("%s is scored with %s", self.name, ", ".join(str(pin) for pin in pins.values()))
        return True

    def _note(self, error: Exception) -> None:
        if isinstance(error, TransientError):
            self._refused = None
        problem = str(error) if isinstance(error, PenstockError) else f"{type(error).__name__}: see the server's log"
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
        columns = {name: choose_columns(served, name, types[name], needed) for name in served.sources}
        scorer = Scorer(served, pins, models, columns, self.options)
        _try_out(scorer)
        return scorer

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
            for name in self.pipeline.sources:
                types = read_row_types(self.pipeline, name, connect, contracts)
                if types is None:
                    reason = f"the types of the columns of `{name}` are not known before a run has published"
                    raise ServeRefused(reason, f"Run `penstock run {self.name}` once.")
                found[name] = types
        self._types = found
        return found


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


def choose_columns(
    pipeline: Pipeline, name: str, types: Mapping[str, pa.DataType], needed: tuple[str, ...]
) -> SourceColumns:
    """Return the columns of a source that requests bring.

    Columns that nothing uses are left out, unless the features query may take all of them: then they may be sent.

    Args:
        needed: columns that models, conditions and decisions take.
    """
    source = pipeline.sources[name]
    if isinstance(source, SqlSource) and source.updated_column:  # it tells runs what has changed, and requests nothing
        source = source.model_copy(update={"updated_column": None})
    bare = pipeline.model_copy(update={"interval": None, "sources": {**pipeline.sources, name: source}})
    used = used_columns(bare, name, set(types), needed)
    missing = [c for c in source.key if name == pipeline.primary and c not in types]
    if missing:
        raise ServeRefused(f"`{name}` has no column `{missing[0]}`", "Correct `key` in the spec.")
    takes_all = pipeline.features is None or _TAKES_ALL.search(pipeline.features)
    wanted = types if takes_all else {c: types[c] for c in types if c in used}
    # The row ID of landed lines is the key of their own rows only.
    required = used if name == pipeline.primary else used - {ROW_ID}
    return SourceColumns(name, dict(wanted), frozenset(required))


def refuse_unservable(pipeline: Pipeline) -> None:
    """Refuse a pipeline whose rows cannot be judged within a request.

    Raises:
        ServeRefused: an expectation about rows cannot be compiled, so that Great Expectations would judge it.
    """
    for stage, listed in pipeline.expectations.items():
        for each in listed:
            if each.is_row and not may_compile(each):
                raise ServeRefused(
                    f"`{pipeline.name}` cannot be served: `{each.label}` of `{stage}` is judged by Great Expectations, "
                    "which takes longer than a request may",
                    "Write it as another expectation, or as a column of `features`.",
                )
