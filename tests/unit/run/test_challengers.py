"""Which rows a challenger scores, which challengers a command has, and what their errors become."""

from decimal import Decimal

import pyarrow as pa
import pytest

from penstock.errors import ModelNotFound
from penstock.run.challengers import choose_by_key
from penstock.run_types import ModelPin, pin_challengers
from penstock.spec.steps import Challenger, ModelRef

CHAMPION = ModelPin("risk", "1", "a")
CHOSEN = [18, 29, 47, 55, 66, 71, 72, 90, 99]
CHOSEN_OF_TWO = [False, True, False]


def keys(*values: object, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"key": pa.array(list(values), kind)})


def test_a_share_has_about_its_part_of_the_keys_and_a_larger_one_contains_it() -> None:
    numbers = keys(*range(20_000))
    tenth, half = choose_by_key(numbers, 0.1), choose_by_key(numbers, 0.5)

    assert 1_850 < sum(tenth) < 2_150
    assert 9_750 < sum(half) < 10_250
    assert all(in_half for in_tenth, in_half in zip(tenth, half, strict=True) if in_tenth)


def test_the_choice_of_a_key_never_changes() -> None:
    """Intervals that were scored with an older version must have the same keys."""
    assert [key for key, taken in enumerate(choose_by_key(keys(*range(100)), 0.1)) if taken] == CHOSEN
    two = pa.table({"one": ["a", "ab", "a"], "two": ["bc", "c", None]})
    assert choose_by_key(two, 0.5) == CHOSEN_OF_TWO


@pytest.mark.parametrize(
    "same",
    [
        (keys(5, 17), keys(5.0, 17.0), keys(Decimal("5.00"), Decimal("17.00"))),
        (keys(Decimal("2.50")), keys(Decimal("2.5")), keys(2.5)),
        (keys("a", None), keys("a", None, kind=pa.large_string())),
    ],
)
def test_a_key_is_chosen_alike_whatever_type_a_database_gives_it(same: tuple[pa.Table, ...]) -> None:
    for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        first, *others = (choose_by_key(table, share) for table in same)
        assert all(other == first for other in others)


def test_a_challenger_that_adds_nothing_or_is_not_there_is_left_out() -> None:
    known = {"risk@new": ModelPin("risk", "2", "b"), "risk@2": ModelPin("risk", "2", "b"), "risk@1": CHAMPION}

    def resolve(ref: ModelRef) -> ModelPin:
        if str(ref) not in known:
            raise ModelNotFound(str(ref), "models", ())
        return known[str(ref)]

    wanted = [Challenger(model=ModelRef.model_validate(name)) for name in ("risk@new", "risk@2", "risk@1", "risk@odd")]

    found = pin_challengers(wanted, CHAMPION, resolve)

    assert [each.variant for each in found.pinned] == ["shadow:risk/2"]
    assert [(each.model, each.failed) for each in found.left_out] == [
        ("risk@2", False),
        ("risk@1", False),
        ("risk@odd", True),
    ]
