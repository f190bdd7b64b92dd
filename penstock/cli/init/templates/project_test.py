"""Score one day of the pipeline, in a warehouse of its own. Run it with `pytest`, after `pip install pytest`."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PIPELINE = "PIPELINE_NAME"
DAY, DAY_AFTER = "FIRST_DAY", "SECOND_DAY"


def run_penstock(home: Path, *arguments: str) -> str:
    """Run a command with the project's pipelines and models, and with another folder for all that it writes."""
    changed = {"PENSTOCK_HOME": str(home), "PENSTOCK_MODEL_STORE": str(PROJECT / ".penstock" / "models")}
    program = [sys.executable, "-c", "from penstock.cli import main; main()", *arguments]
    done = subprocess.run(
        program, cwd=PROJECT, env={**os.environ, **changed}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def test_one_day_is_scored_and_published(tmp_path: Path) -> None:
    run_penstock(tmp_path, "run", PIPELINE, "--start", DAY, "--end", DAY_AFTER)

    [run] = json.loads(run_penstock(tmp_path, "runs", PIPELINE, "--json"))
    assert run["state"] == "published"
    assert run["rows_scored"] + run["rows_quarantined"] + run["rows_excluded"] == run["rows_extracted"]
    assert run["rows_scored"] > 100
