"""Which model each step runs with, where a run chooses its own."""

import pytest

from penstock.errors import SettingsError
from penstock.spec.steps import ModelRef, ScoreStep, choose_models

ONE = [ScoreStep(name="score", model=ModelRef(name="a", selector="champion"))]
TWO = [ScoreStep(name=name, model=ModelRef(name=name, selector="champion")) for name in ("screen", "deep")]


def chosen(steps: list[ScoreStep], choice: str) -> list[str]:
    return [str(ref) for ref in choose_models(steps, choice).values()]


def test_without_a_choice_the_specs_own_models_run() -> None:
    assert chosen(TWO, "") == ["screen@champion", "deep@champion"]


def test_a_single_model_is_chosen_by_its_name_alone() -> None:
    assert chosen(ONE, "b@2") == ["b@2"]


def test_of_several_those_that_are_named_change_and_the_order_stays() -> None:
    assert chosen(TWO, "deep=d@3") == ["screen@champion", "d@3"]
    assert chosen(TWO, "deep=d@3,screen=s@4") == ["s@4", "d@3"]
    assert chosen(TWO, " deep = d@3 , screen = s@4 ") == ["s@4", "d@3"]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("d@3", "is chosen for no step, and the pipeline has 2"),
        ("dep=d@3", "a step that is not there. Did you mean `deep`?"),
        ("deep=d", "`d` is no model"),
        ("deep=d@1, deep=d@2", "the models of step `deep` are chosen twice"),
    ],
)
def test_a_choice_that_fits_no_step_is_told(choice: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        choose_models(TWO, choice)

    assert told in str(caught.value)
