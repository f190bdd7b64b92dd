"""A new project is checked, scored, and tested by its own test, right after `penstock init`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.cli.init.scenario import SCENARIOS, Kind

PENSTOCK = ("-c", "from penstock.cli import main; main()")


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("kind", SCENARIOS)
def test_a_new_project_runs_at_once(tmp_path: Path, kind: Kind) -> None:
    run(tmp_path, *PENSTOCK, "init", "shop", "--from", kind)
    shop = tmp_path / "shop"

    assert "all well" in run(shop, *PENSTOCK, "check")
    run(shop, *PENSTOCK, "run", SCENARIOS[kind].pipeline)

    runs = json.loads(run(shop, *PENSTOCK, "runs", "--json"))
    assert [(each["state"], each["rows_scored"]) for each in runs] == [("published", 300)] * 3


def test_the_test_of_a_new_project_passes(tmp_path: Path) -> None:
    run(tmp_path, *PENSTOCK, "init", "shop")

    assert "1 passed" in run(tmp_path / "shop", "-m", "pytest", "-q")
    assert json.loads(run(tmp_path / "shop", *PENSTOCK, "runs", "--json")) == []  # it wrote elsewhere
