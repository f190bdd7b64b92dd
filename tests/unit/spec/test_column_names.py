"""Columns of the destination: reserved names, names twice, and names that differ only in case."""

import pytest

from penstock.errors import SpecError
from penstock.spec.column_names import RANK, RUN_COLUMNS, STEP_MODELS, find_taken
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC

KEPT = "keep: [amount, country]"


def problems(spec: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_pipeline(spec.encode(), "x.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", [*RUN_COLUMNS, STEP_MODELS, RANK, "partition", "RUN_ID", "Penstock_anything"])
def test_a_reserved_name_in_keep_is_refused_with_its_line(name: str) -> None:
    (told,) = problems(SPEC.replace(KEPT, f"keep: [amount, {name}]"))

    assert told.startswith(f"line 19: `destination.keep.1`: `{name}` ")
    assert told.endswith("Rename it in the features query.")


def test_a_reserved_name_in_the_key_and_in_decide_is_refused() -> None:
    (key,) = problems(SPEC.replace("key: [payment_id]", "key: [run_id]"))
    (decided,) = problems(SPEC + "decide: {scored_at: score}\n")

    assert key.startswith("line 9: `sources.payments.key.0`: `run_id` is a column of the live view itself")
    assert decided.startswith("line 21: `decide.scored_at`: `scored_at` is a column of the live view itself")


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ("amount, Amount", "`amount` differs from `Amount` only in case"),
        ("amount, amount", "`amount` appears twice"),
        ("Payment_ID", "`Payment_ID` differs from `payment_id` only in case"),
    ],
)
def test_one_name_twice_is_refused_whatever_its_case(kept: str, told: str) -> None:
    assert any(told in problem for problem in problems(SPEC.replace(KEPT, f"keep: [{kept}]")))


def test_a_key_that_is_kept_too_is_one_column() -> None:
    assert parse_pipeline(SPEC.replace(KEPT, "keep: [payment_id, amount]").encode(), "x").destination.keep


def test_classes_that_differ_only_in_case_are_named_with_what_to_do() -> None:
    outputs = ("score_A", "score_a", "predicted_class")

    first, second = find_taken(("id", *outputs, "amount"), outputs)

    assert str(first) == (
        "`score_A` differs from `score_a` only in case, and a database takes both for one column. "
        "Rename the class in the training data and register the model again."
    )
    assert second.column == "score_a"
