"""Great Expectations held right: one ephemeral context a process, one batch at a time, positions complete.

Its objects are `Any` here: its annotations say other than what it takes and returns.
"""

import logging
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from penstock.spec.expectation_types import Severity

# No lists of values: samples are taken from the Arrow table. Positions are complete on a pandas batch.
_FORMAT = {
    "result_format": "COMPLETE",
    "return_unexpected_index_query": False,
    "exclude_unexpected_values": True,
    "partial_unexpected_count": 0,
}
_OBSERVED_FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": 3}

# The library reads these as float64, whatever was written.
_BOUNDS = ("min_value", "max_value", "sum_total")
_INEXACT = "is not a number that float64 holds exactly; round it"

# Warnings of pandas about how the library calls it, which no author of an expectation can heed.
_HARMLESS = (
    "This pattern is interpreted as a regular expression, and has match groups",
    "Series.values returning an ndarray that drops timezone information",
)

# A data source remembers its batch by name: two batches at once give wrong positions in silence (measured: 41 of 60).
# A source for each thread was no quicker, so one lock it is.
_lock = threading.RLock()
_engine: "_Engine | None" = None


@dataclass(frozen=True)
class _Engine:
    """The library's parts that are used here."""

    whole: Any
    """Batch definition: the whole frame."""
    suite: Any
    find_type: Any
    invalid: type[Exception]
    shared_fields: frozenset[str]
    """Fields that every expectation has, whatever its type."""


class InvalidArguments(Exception):
    """Great Expectations refuses to build an expectation; becomes a SpecError before it leaves this package.

    `reasons` are pairs of argument and complaint; the argument is empty where several are meant.
    """

    def __init__(self, reasons: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"`{name}`: {what}" if name else what for name, what in reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Finding:
    """What Great Expectations says of one expectation on one batch."""

    success: bool
    result: Mapping[str, Any]
    broken: str = ""
    """Why the expectation could not be judged at all; empty when it could."""

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
    # Read by the library at import: without it, every batch would be reported over the network.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # What it logs is either said by our own errors or noise on every batch.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    import great_expectations as gx
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.execution_engine import pandas_execution_engine
    from great_expectations.expectations.expectation import Expectation
    from great_expectations.expectations.registry import get_expectation_impl

    # Every batch is hashed for a mark that nobody reads here: half of the time of judging it.
    pandas_execution_engine.hash_pandas_dataframe = lambda _frame: ""
    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("penstock").add_dataframe_asset("batch")
    return _Engine(
        whole=asset.add_batch_definition_whole_dataframe("whole"),
        suite=gx.ExpectationSuite,
        find_type=get_expectation_impl,
        invalid=ValidationError,
        shared_fields=frozenset(Expectation.__fields__),
    )


def list_arguments(type_: str) -> tuple[str, ...]:
    """Return the arguments that belong to a type, without those that every type has."""
    engine = _loaded()
    return tuple(sorted(set(engine.find_type(type_).__fields__) - engine.shared_fields))


def build_expectation(type_: str, severity: Severity, arguments: Mapping[str, Any], position: int = 0) -> Any:
    """Build one expectation of the library; `position` finds its result again, which come in another order.

    Raises:
        InvalidArguments: an argument is missing, unknown or of the wrong kind.
    """
    engine = _loaded()
    inexact = [(n, _INEXACT) for n in _BOUNDS if isinstance(arguments.get(n), int) and not _is_exact(arguments[n])]
    if inexact:
        raise InvalidArguments(inexact)
    try:
        return engine.find_type(type_)(**arguments, severity=severity, meta={"position": position})
    except engine.invalid as error:
        raise InvalidArguments(_read_complaints(error)) from None


def _is_exact(number: int) -> bool:
    return abs(number) <= 2**1000 and int(float(number)) == number


def _read_complaints(error: Any) -> list[tuple[str, str]]:
    """Join the complaints of each argument's alternatives; the one about suite parameters is never meant."""
    by_argument: dict[str, list[str]] = {}
    for complaint in error.errors():
        name = ".".join(str(part) for part in complaint["loc"] if part != "__root__")
        by_argument.setdefault(name, []).append(complaint["msg"])
    reasons = []
    for name, messages in by_argument.items():
        meant = [m for m in dict.fromkeys(messages) if m != "value is not a valid dict"] or messages
        reasons.append((name, " or ".join(meant)))
    return reasons


def run_expectations(frame: pd.DataFrame, built: Sequence[Any], *, positions: bool) -> list[Finding]:
    """Judge one frame, whose index must be a fresh RangeIndex; one finding for each expectation, in their order."""
    engine = _loaded()
    suite = engine.suite(name="batch", expectations=list(built))
    for message in _HARMLESS:
        # Each time anew: others reset the filters, and two equal ones are one.
        warnings.filterwarnings("ignore", message=message)
    with _lock:
        store = engine.whole.data_asset.datasource.get_execution_engine().batch_manager
        try:
            batch = engine.whole.get_batch({"dataframe": frame})
            results = batch.validate(suite, result_format=_FORMAT if positions else _OBSERVED_FORMAT).results
        finally:
            # Else the last frame stays in memory until the next one comes.
            store.batch_data_cache.clear()
            store.reset_batch_cache()
    findings = {r.expectation_config.meta["position"]: _read_result(r) for r in results}
    return [findings[one.meta["position"]] for one in built]


def _read_result(result: Any) -> Finding:
    info = result.exception_info or {}
    parts = [info] if "raised_exception" in info else list(info.values())
    for part in parts:
        if part["raised_exception"]:
            lines = str(part["exception_message"] or part["exception_traceback"]).strip().splitlines()
            return Finding(False, {}, broken=lines[-1].strip() if lines else "it raised without a message")
    finding = Finding(bool(result.success), result.result)
    listed = result.result.get("unexpected_index_list")
    if listed is not None and len(listed) != result.result["unexpected_count"]:
        raise RuntimeError(
            f"Great Expectations counts {result.result['unexpected_count']} unexpected rows and lists {len(listed)} "
            f"for {result.expectation_config.type}; refusing to guess which rows to quarantine"
        )
    return finding
