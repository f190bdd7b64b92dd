"""The histogram in words."""

import re

import pytest

from penstock.report.chart import describe_histogram

RISING = [i / 100 for i in range(101)]


def test_the_bins_are_written_with_their_shares() -> None:
    assert describe_histogram(RISING) == (
        "Score histogram of this run: 20% from 0 to 0.2, 20% from 0.2 to 0.4, 20% from 0.4 to 0.6, "
        "20% from 0.6 to 0.8, 20% from 0.8 to 1."
    )


def test_two_runs_are_written_with_the_same_bins() -> None:
    half = [value / 2 for value in RISING]

    text = describe_histogram(RISING, half)

    now, before = text.split(" The run before: ")
    assert before == "40% from 0 to 0.2, 40% from 0.2 to 0.4, 20% from 0.4 to 0.6."
    assert len(re.findall("from", now)) == 5


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0])
def test_scores_of_one_value_are_one_bin(value: float) -> None:
    assert describe_histogram([value] * 101) == f"Score histogram of this run: all at {value:.3g}."
