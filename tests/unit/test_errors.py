"""Errors are part of the product."""

import inspect
import pickle
from dataclasses import fields
from datetime import UTC, datetime
from typing import get_type_hints

import pytest

from penstock import errors

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.PenstockError)]
CONCRETE = [c for c in CLASSES if "message" in vars(c) and c is not errors.PenstockError]


def example(kind: type[errors.PenstockError]) -> errors.PenstockError:
    problem = errors.Problem(3, "a.b", "culprit")
    values = {
        bool: True,
        int: 3,
        float: 0.25,
        str: "culprit",
        datetime: datetime(2026, 1, 2, tzinfo=UTC),
        datetime | None: datetime(2026, 1, 2, tzinfo=UTC),
        tuple[str, ...]: ("culprit",),
        tuple[errors.Problem, ...]: (problem,),
        tuple[errors.Reading, ...]: (errors.Reading("culprit", "culprit"),),
        tuple[errors.WorkerDifference, ...]: (errors.WorkerDifference("culprit", "culprit", "culprit"),),
        tuple[errors.SpecError, ...]: (errors.SpecError("culprit.yaml", (problem,)),),
    }
    hints = get_type_hints(kind)
    return kind(*(values[hints[field.name]] for field in fields(kind)))


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda c: c.__name__)
def test_an_error_names_its_culprit_and_survives_pickling(kind: type[errors.PenstockError]) -> None:
    error = example(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert "culprit" in str(error)
    assert str(error).count("{") == 0


def test_a_reason_that_is_a_sentence_gets_no_second_full_stop() -> None:
    assert str(errors.Halted("p", "day", ("Write the right one.",))).count(".. ") == 0
    assert "the limit is 1%. Nothing" in str(errors.Halted("p", "day", ("the limit is 1%",)))


def test_exit_codes_are_those_of_the_design() -> None:
    assert (errors.Halted.exit_code, errors.SpecError.exit_code, errors.QueryFailed.exit_code) == (3, 2, 1)


def test_the_nearest_word_is_offered_whatever_its_case() -> None:
    assert errors.nearest("CREATED", ("created_at", "id")) == " Did you mean `created_at`?"
    assert errors.nearest("xyz", ("a", "b")) == " Known: `a`, `b`."
    assert errors.nearest("x", ()) == ""
