"""What the benchmarks compare, without a run of them."""

from pathlib import Path

import pytest

from benchmarks.ratios import Stored, find_regressions, read_stored, store
from benchmarks.workload import NAMES, load


def test_a_ratio_worse_by_more_than_a_quarter_is_told() -> None:
    stored = Stored(1000, {"penstock / floor": 1.0, "penstock / plain": 0.1})

    worse = find_regressions("W1", {"penstock / floor": 1.26, "penstock / plain": 0.12}, stored)

    assert worse == ["W1: penstock / floor is 1.260, and was 1.000: worse by 26%"]


def test_storing_one_workload_keeps_the_others(tmp_path: Path) -> None:
    file = tmp_path / "ratios.json"
    store("W1", 1000, {"penstock / floor": 1.0}, file)

    store("W3", 10, {"penstock / floor": 2.0}, file)

    assert read_stored(file) == {
        "W1": Stored(1000, {"penstock / floor": 1.0}),
        "W3": Stored(10, {"penstock / floor": 2.0}),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_compares_candidates_that_it_has(name: str) -> None:
    workload = load(name).WORKLOAD
    compared = {*workload.agree, *workload.rows_of}.union(*((ratio.of, ratio.to) for ratio in workload.ratios))

    assert workload.name == name
    assert compared - set(workload.candidates) == set()
