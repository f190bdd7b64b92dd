"""Which model each step runs with, where a run chooses its own."""

import pytest

from penstock.errors import SettingsError
from penstock.spec.steps import (
    Challenger,
    ModelRef,
    ScoreStep,
    choose_challengers,
    choose_models,
    write_challengers,
)

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


def beside(choice: str, *names: str) -> list[str | None]:
    wanted = [Challenger(model=ModelRef.model_validate(name), share=0.5) for name in names]
    chosen = choose_challengers(wanted, choice)
    assert list(chosen) == wanted  # with their shares
    return [ref and str(ref) for ref in chosen.values()]


def test_challengers_are_those_of_the_spec_unless_a_backfill_has_chosen_others() -> None:
    assert beside("", "r@new", "r@7") == ["r@new", "r@7"]
    choice = write_challengers({"r@new": "r@4", "r@odd": None})
    assert choice == "r@new=r@4,r@odd=none"
    assert beside(choice, "r@new", "r@odd", "r@7") == ["r@4", None, "r@7"]
    assert beside(" r@new = r@4 , r@gone = r@5 ".strip(), "r@new") == ["r@4"]


@pytest.mark.parametrize("choice", ["r@4", "r@new=4", "r@new=r@4;r@odd=r@5", "r@new=r@4,"])
def test_a_choice_of_challengers_that_cannot_be_read_is_told(choice: str) -> None:
    with pytest.raises(SettingsError, match="chooses no challengers"):
        beside(choice, "r@new")
