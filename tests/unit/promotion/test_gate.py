"""What a challenger must show, requirement by requirement."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.promotion.gate import Shown, judge_gate
from penstock.spec.promotion import Requirements

ALL = Requirements.model_validate(
    {
        "intervals": 14,
        "labelled": 2000,
        "auc": {"not_worse_by": 0.005},
        "log_loss": {"not_worse_by": 0.01},
        "flips": {"at_most": 0.02},
        "drift": "none",
    }
)
GOOD = Shown(14, 5000, 2000, {"auc": (0.8, 0.795), "log_loss": (0.3, 0.31)}, 100, (), 0)


def failed(**other: Any) -> list[str]:
    return [check.requirement for check in judge_gate(ALL, replace(GOOD, **other)) if not check.passed]


def test_all_requirements_are_met_at_their_limits() -> None:
    assert failed() == []
    assert [check.requirement for check in judge_gate(ALL, GOOD)] == [
        *("intervals", "labelled", "auc", "log_loss", "flips", "drift")
    ]


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        ({"intervals": 13}, ["intervals"]),
        ({"labelled": 1999}, ["labelled"]),
        ({"metrics": {"auc": (0.8, 0.7949), "log_loss": (0.3, 0.31)}}, ["auc"]),
        ({"metrics": {"auc": (0.8, 0.9), "log_loss": (0.3, 0.3101)}}, ["log_loss"]),
        ({"flips": 101}, ["flips"]),
        ({"drifted": ("amount in 2026-01-02",)}, ["drift"]),
    ],
)
def test_one_step_beyond_a_limit_fails_its_requirement(other: dict[str, Any], wanted: list[str]) -> None:
    assert failed(**other) == wanted


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        ({"metrics": {}}, ["auc", "log_loss"]),
        ({"flips": None}, ["flips"]),
        ({"rows": 0, "flips": 0}, ["flips"]),
        ({"uncounted": 1}, ["drift"]),
        ({"intervals": 0}, ["intervals", "drift"]),
    ],
)
def test_what_was_not_measured_has_not_passed(other: dict[str, Any], wanted: list[str]) -> None:
    assert failed(**other) == wanted


def test_only_what_the_spec_names_is_required() -> None:
    nothing = Shown(3, 0, 0, {}, None, ("amount",), 3)

    assert all(check.passed for check in judge_gate(Requirements(intervals=3), nothing))


@given(better=st.floats(0, 0.2), worse=st.floats(0, 0.2))
def test_a_better_challenger_passes_whenever_a_worse_one_does(better: float, worse: float) -> None:
    low, high = sorted((better, worse))
    require = Requirements.model_validate({"auc": {"not_worse_by": 0.05}, "rmse": {"not_worse_by": 0.05}})

    def passes(loss: float) -> tuple[bool, ...]:
        shown = replace(GOOD, metrics={"auc": (0.8, 0.8 - loss), "rmse": (1.0, 1.0 + loss)})
        return tuple(check.passed for check in judge_gate(require, shown))

    assert passes(low) >= passes(high)
