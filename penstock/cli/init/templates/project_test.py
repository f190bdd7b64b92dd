"""Score one day of the pipeline, in a warehouse of its own. Run it with `pytest`, after `pip install pytest`."""

from pathlib import Path

import pytest

import penstock

PROJECT = Path(__file__).parents[1]
PIPELINE = "PIPELINE_NAME"


def test_one_day_is_scored_and_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)  # `.env` and relative paths are looked up there
    monkeypatch.setenv("PENSTOCK_CONNECTIONS__WAREHOUSE", f"sqlite:///{tmp_path}/test.db")
    project = penstock.Project()
    pipeline = project.load_pipeline(PIPELINE)

    result = project.score_interval(pipeline, project.plan(pipeline).intervals[0])

    assert result.state == "published"
    assert result.scored > 100
    assert result.quarantined == 0
    assert result.to_pandas()["score"].between(0, 1).all()
