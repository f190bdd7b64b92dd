"""What the benchmarks compare, without a run of them."""

import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import gpu_check
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


def test_the_check_of_a_gpu_finds_the_processor_equal_to_itself(tmp_path: Path) -> None:
    kinds = [case for case in gpu_check.CASES if case.name in ("logistic", "classes", "DART")]

    compared = list(gpu_check.compare_devices(tmp_path, "cpu", kinds))

    assert [(each.name, each.apart, each.is_equal) for each in compared] == [(case.name, 0.0, True) for case in kinds]


def test_the_check_of_a_gpu_measures_distance_against_the_largest_score() -> None:
    here, there = pa.table({"score": [0.0, 100.0], "class": ["a", "b"]}), pa.table({"score": [0.0, 101.0]})

    assert gpu_check.measure_distance(here, there.append_column("class", pa.array(["a", "c"]))) == 0.01
    assert not gpu_check.Compared("any", 2, 0.01).is_equal


def test_the_check_of_a_gpu_says_that_it_checked_nothing_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu-check"])
    monkeypatch.setattr(gpu_check, "find_gpu_fault", lambda: "XGBoost finds no GPU that it can use")

    assert gpu_check.main() == 0
    assert capsys.readouterr().out.startswith("not checked: XGBoost finds no GPU")


def test_the_table_of_a_gpu_has_a_line_for_each_model_and_number_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "TREES", (2, 3))
    monkeypatch.setattr(gpu_check, "DEPTHS", (2,))
    monkeypatch.setattr(gpu_check, "ROWS", (10, 20))

    cells = list(gpu_check.time_devices(tmp_path, "cpu", time.monotonic() + 600))

    assert [(cell.trees, cell.depth, cell.rows) for cell in cells] == [(2, 2, 10), (2, 2, 20), (3, 2, 10), (3, 2, 20)]
    assert list(gpu_check.time_devices(tmp_path, "cpu", time.monotonic() - 1)) == []
