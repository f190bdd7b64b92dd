"""Run Great Expectations: one ephemeral context a process, one batch at a time, complete positions.

Its objects are `Any` here, since its annotations differ from what it takes and returns.
"""

import logging
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.spec.expectation_types import Severity

if TYPE_CHECKING:
    import pandas as pd

# No lists of values, since samples come from the Arrow table. Positions are complete on a pandas batch.
_FORMAT = {
    "result_format": "COMPLETE",
    "return_unexpected_index_query": False,
    "exclude_unexpected_values": True,
    "partial_unexpected_count": 0,
}
_OBSERVED_FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": 3}

# Warnings of pandas about the library's calls. The author of an expectation cannot act on them.
_HARMLESS = (
    "This pattern is interpreted as a regular expression, and has match groups",
    "Series.values returning an ndarray that drops timezone information",
)

# A data source stores its batch by name. Two batches at once silently give wrong positions (measured: 41 of 60).
# One lock, since a data source for each thread was no faster.
_lock = threading.RLock()
_engine: "_Engine | None" = None


@dataclass(frozen=True)
class _Engine:
    """The parts of the library that are used here."""

    whole: Any
    """The batch definition of a whole frame."""
    suite: Any
    find_type: Any
    invalid: type[Exception]


class InvalidArguments(Exception):
    """Great Expectations refuses to build an expectation. This package turns it into a SpecError.

    `reasons` are pairs of argument and complaint. The argument is empty if a complaint is about several.
    """

    def __init__(self, reasons: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"`{name}`: {what}" if name else what for name, what in reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Evaluation:
    """The result of one expectation on one batch."""

    success: bool
    result: Mapping[str, Any]
    broken: str = ""
    """Why the expectation could not be judged. Empty if it could."""

    @property
    def positions(self) -> list[int]:
        """Positions of the unexpected rows in the batch, in order."""
        return [int(label) for label in self.result["unexpected_index_list"]]


def load_engine() -> None:
    """Import Great Expectations and make the process's one ephemeral context."""
    _loaded()


def _loaded() -> _Engine:
    global _engine
    with _lock:
        if _engine is None:
            _engine = _make_engine()
        return _engine


def _make_engine() -> _Engine:
    # The library reads it at import. Without it, every batch is reported over the network.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # Its log lines repeat our own errors, or come with every batch.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    import great_expectations as gx
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.execution_engine import pandas_execution_engine
    from great_expectations.expectations.registry import get_expectation_impl

    # The library hashes every batch for an id that is not used here; that takes half of the time.
    pandas_execution_engine.hash_pandas_dataframe = lambda _frame: ""
    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("penstock").add_dataframe_asset("batch")
    return _Engine(
        whole=asset.add_batch_definition_whole_dataframe("whole"),
        suite=gx.ExpectationSuite,
        find_type=get_expectation_impl,
        invalid=ValidationError,
    )


def build_expectation(type_: str, severity: Severity, arguments: Mapping[str, Any], position: int = 0) -> Any:
    """Build one expectation of the library. `position` identifies its result, since results come in another order.

    Raises:
        InvalidArguments: the library refuses what the spec's own check took.
    """
    engine = _loaded()
    try:
        return engine.find_type(type_)(**arguments, severity=severity, meta={"position": position})
    except engine.invalid as error:
        raise InvalidArguments(_read_complaints(error)) from None


def _read_complaints(error: Any) -> list[tuple[str, str]]:
    """Join the complaints about each argument, without the one about suite parameters, which a spec cannot use."""
    by_argument: dict[str, list[str]] = {}
    for complaint in error.errors():
        name = ".".join(str(part) for part in complaint["loc"] if part != "__root__")
        by_argument.setdefault(name, []).append(complaint["msg"])
    reasons = []
    for name, messages in by_argument.items():
        meant = [m for m in dict.fromkeys(messages) if m != "value is not a valid dict"] or messages
        reasons.append((name, " or ".join(meant)))
    return reasons


def run_expectations(frame: "pd.DataFrame", built: Sequence[Any], *, positions: bool) -> list[Evaluation]:
    """Judge a frame with a fresh RangeIndex. Return one evaluation for each expectation, in their order."""
    engine = _loaded()
    suite = engine.suite(name="batch", expectations=list(built))
    for message in _HARMLESS:
        # On each call, since other code resets the filters; an equal filter is not added twice.
        warnings.filterwarnings("ignore", message=message)
    with _lock:
        store = engine.whole.data_asset.datasource.get_execution_engine().batch_manager
        try:
            batch = engine.whole.get_batch({"dataframe": frame})
            results = batch.validate(suite, result_format=_FORMAT if positions else _OBSERVED_FORMAT).results
        finally:
            # Otherwise the frame stays in memory until the next batch.
            store.batch_data_cache.clear()
            store.reset_batch_cache()
    evaluations = {r.expectation_config.meta["position"]: _read_result(r) for r in results}
    return [evaluations[one.meta["position"]] for one in built]


def _read_result(result: Any) -> Evaluation:
    info = result.exception_info or {}
    parts = [info] if "raised_exception" in info else list(info.values())
    for part in parts:
        if part["raised_exception"]:
            lines = str(part["exception_message"] or part["exception_traceback"]).strip().splitlines()
            return Evaluation(False, {}, broken=lines[-1].strip() if lines else "it raised without a message")
    evaluation = Evaluation(bool(result.success), result.result)
    listed = result.result.get("unexpected_index_list")
    if listed is not None and len(listed) != result.result["unexpected_count"]:
        raise RuntimeError(
            f"Great Expectations counts {result.result['unexpected_count']} unexpected rows and lists {len(listed)} "
            f"for {result.expectation_config.type}; refusing to guess which rows to quarantine"
        )
    return evaluation
