"""What the benchmarks compare, without a run of them."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks import gpu_check, peers, small_run
from benchmarks.peers import FOLDER, describe_lacking, has_environment, python_of, version_of
from benchmarks.processes import cpu_seconds, read_descendants, resident_mb
from benchmarks.ratios import Stored, find_regressions, read_stored, store
from benchmarks.results import compare_growth, ratios_of
from benchmarks.runner import Measured
from benchmarks.workload import NAMES, Growth, load

PEERS = sorted(file.stem for file in FOLDER.glob("*.in"))


def test_a_ratio_worse_by_more_than_a_quarter_is_told() -> None:
    stored = Stored(1000, {"penstock / floor": 1.0, "penstock / plain": 0.1})

    worse = find_regressions("W1", {"penstock / floor": 1.26, "penstock / plain": 0.12}, stored)

    assert worse == ["W1: penstock / floor is 1.260, and was 1.000: worse by 26%"]


def test_on_a_busy_machine_processor_time_and_memory_are_judged_alone() -> None:
    names = ("penstock / floor", "penstock / floor, cpu_seconds", "penstock / floor, peak_mb")
    stored = Stored(1000, dict.fromkeys(names, 1.0))

    worse = find_regressions("W1", dict.fromkeys(names, 2.0), stored, busy=True)

    assert [message.partition(" is ")[0] for message in worse] == [f"W1: {name}" for name in names[1:]]


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
    if workload.growth:
        compared |= {workload.growth.of_part, workload.growth.to_part}

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


def test_fixed_cost_and_slope_are_those_of_straight_lines() -> None:
    growth = Growth("penstock", "floor", "a-tenth", "floor-tenth", fixed=0.31, each=1.1)
    fixed, slope = 2.3, 2.8e-6
    seconds = {
        "penstock": fixed + slope * 10**7,
        "a-tenth": fixed + slope * 10**6,
        "floor": 0.2 + 2.4e-6 * 10**7,
        "floor-tenth": 0.2 + 2.4e-6 * 10**6,
    }

    compared = {each.name: each for each in compare_growth(growth, seconds, 10**7, 0.1)}

    share = compared["fixed cost of penstock / floor for 1,000,000 rows"]
    each = compared["each further row, penstock / floor"]
    assert (share.value, share.target) == (pytest.approx(2.3 / 2.6), 0.31)
    assert (each.value, each.target) == (pytest.approx(2.8 / 2.4), 1.1)


def test_the_guard_takes_the_quietest_rounds() -> None:
    workload = load("W3").WORKLOAD
    rounds = {
        "penstock": [Measured(9.0, 5.0, 0, 0), Measured(4.0, 3.0, 0, 0)],
        "floor": [Measured(2.0, 2.0, 0, 0), Measured(8.0, 2.5, 0, 0)],
    }

    assert ratios_of(workload, rounds, 1000) == {"penstock / floor": 2.0, "penstock / floor, cpu_seconds": 1.5}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc here")
def test_processor_time_and_memory_of_children_count() -> None:
    work = "import sys, time; held = bytearray(200_000_000); sum(range(5_000_000)); print(); sys.stdin.read()"
    before = cpu_seconds()
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        living = cpu_seconds() - before
        together = resident_mb(os.getpid())
        assert child.pid in read_descendants(os.getpid())
        child.communicate()
    ended = cpu_seconds() - before

    assert 0.02 < living <= ended + 0.02
    assert together > 190
    assert child.pid not in read_descendants(os.getpid())


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_has_pins_for_all_that_the_benchmarks_import(peer: str) -> None:
    pinned = (FOLDER / f"{peer}.txt").read_text(encoding="utf-8")
    names = {line.partition("==")[0] for line in pinned.splitlines() if not line.startswith("#")}

    assert {"numpy", "pandas", "pyarrow", "sqlalchemy", "xgboost"} <= names
    assert all("==" in line for line in pinned.splitlines() if not line.startswith("#"))
    assert "http" not in pinned
    assert version_of(peer).partition(" ")[0] in {peer, "ray"}


def test_every_peer_takes_part_in_a_workload() -> None:
    assert {name for each in NAMES for name in load(each).WORKLOAD.candidates if has_environment(name)} == set(PEERS)


def test_a_peer_imports_nothing_that_its_environment_lacks(tmp_path: Path) -> None:
    """The environments of peers have no Penstock, no Prefect and no ADBC."""
    code = f"""
import sys
from pathlib import Path
sys.modules |= dict.fromkeys(("penstock", "prefect", "great_expectations", "duckdb", "tests"))
import benchmarks.candidate
from benchmarks.place import Place
from benchmarks.workload import work_of
for name in ("W1", "W4"):
    place = Place({str(tmp_path)!r}, name, 10, "sqlite://", {{}}, "")
    assert work_of(place).features and place.model_file.name == "model.ubj"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_a_peer_without_its_environment_is_left_out_with_the_way_to_install_it(
    monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)

    assert describe_lacking("floor") == ""
    assert describe_lacking("dask") == "dask is not installed; `make bench-peers` installs it."
    (tmp_path / "dask").mkdir()
    (tmp_path / "dask" / ".installed").touch()
    assert describe_lacking("dask") == ""
    assert python_of("dask") == tmp_path / "dask" / "bin" / "python"
    assert python_of("floor") == Path(sys.executable)


def test_small_runs_are_compared_with_the_imports() -> None:
    commands = {small_run.IMPORTS: 2.0, "run": 3.0, "run with its own server": 8.0, "nothing to do": 1.5}
    rounds = {name: [small_run.Took(took, took / 2), small_run.Took(9.0, 9.0)] for name, took in commands.items()}

    assert small_run.ratios_of(rounds, min) == {
        f"{name} / imports, {figure}": ratio
        for name, ratio in (("run", 1.5), ("run with its own server", 4.0), ("nothing to do", 0.75))
        for figure in ("seconds", "cpu_seconds")
    }
    assert "| nothing to do / imports, seconds | 0.955 | 0.5 | **missed** |" in small_run.show_table(rounds)
