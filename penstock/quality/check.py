"""Check the expectations of a spec without data: what the library refuses, and what it ought to refuse."""

import re
from collections.abc import Iterable
from typing import Any

from penstock.errors import Problem, SpecError, nearest
from penstock.quality.engine import InvalidArguments, build_expectation, list_arguments
from penstock.spec.expectation import Expectation
from penstock.spec.pipeline import Pipeline

_OURS = {
    "batch_id", "catch_exceptions", "condition_parser", "id", "meta", "rendered_content", "result_format",
    "row_condition", "windows",
}  # fmt: skip
_BOUND_FREE = {"expect_column_kl_divergence_to_be_less_than"}


def check_expectations(pipeline: Pipeline, file: str = "") -> None:
    """Build every expectation of a pipeline.

    Raises:
        SpecError: with all problems at once, under `file`, or under the pipeline's name.
    """
    problems = [
        Problem(0, f"expectations.{stage}[{index}]", what)
        for stage, expectations in pipeline.expectations.items()
        for index, expectation in enumerate(expectations)
        for what in _find_problems(expectation)
    ]
    if problems:
        raise SpecError(file or pipeline.name, tuple(problems))


def _find_problems(expectation: Expectation) -> Iterable[str]:
    arguments = expectation.arguments
    ours = sorted(_OURS & set(arguments))
    if ours:
        for name in ours:
            yield f"`{name}` is not allowed here{_instead(name)}"
        return
    try:
        build_expectation(expectation.type, expectation.severity, arguments)
    except InvalidArguments as error:
        known = tuple(n for n in list_arguments(expectation.type) if n not in _OURS)
        for name, what in error.reasons:
            if name and name in arguments and name not in known:
                yield f"`{expectation.type}` has no argument `{name}`.{nearest(name, known)}"
            else:
                yield f"`{name}`: {what}" if name else what
        return
    yield from _find_broken_regexes(arguments)
    yield from _find_empty_bounds(expectation)


def _instead(name: str) -> str:
    if name in ("row_condition", "condition_parser"):
        return "; choose the rows in the source's `query:` or in the features"
    return "; leave it out"


def _find_broken_regexes(arguments: dict[str, Any]) -> Iterable[str]:
    for regex in (arguments.get("regex"), *(arguments.get("regex_list") or ())):
        try:
            re.compile(str(regex or ""))
        except re.error as error:
            yield f"`{regex}` is not a regular expression: {error}"


def _find_empty_bounds(expectation: Expectation) -> Iterable[str]:
    """Find bounds that every value passes or every value fails. The library accepts both."""
    known = list_arguments(expectation.type)
    if "min_value" not in known or expectation.type in _BOUND_FREE:
        return
    low, high = expectation.arguments.get("min_value"), expectation.arguments.get("max_value")
    if low is None and high is None:
        yield "give `min_value`, `max_value` or both; without them the expectation always passes"
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
        yield f"`min_value` {low} is above `max_value` {high}"
