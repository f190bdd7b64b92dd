"""Write a new project: settings, pipeline, test, made-up rows, and a model that was trained on them."""

import re
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_hex

from penstock.api.project import Project
from penstock.cli.init.scenario import DAYS, SCORED_DAYS, TRAINING_DAYS, Kind, Scenario, draw_labels, open_scenario
from penstock.cli.opening import open_settings
from penstock.models.manifest import Manifest
from penstock.models.training import train
from penstock.spec.yaml_file import parse_pipeline

TEMPLATES = Path(__file__).with_name("templates")
LABEL = "happened"
PRIVATE_FILE = 0o600
DAY = timedelta(days=1)


def write_project(kind: Kind, now: datetime) -> tuple[Scenario, Manifest]:
    """Write a project into the empty working folder."""
    scenario = open_scenario(kind)
    _write_settings(scenario)
    file = Path("pipelines", f"{scenario.pipeline}.yaml")
    start = _write_pipeline(file, now)
    Path(".gitignore").write_text(_template("gitignore"), encoding="utf-8")
    test = _template("project_test.py").replace("PIPELINE_NAME", scenario.pipeline)
    Path("tests").mkdir()
    Path("tests", "test_pipeline.py").write_text(test, encoding="utf-8")
    first = start - TRAINING_DAYS * DAY
    with closing(Project(open_settings())) as project:
        scenario.write_rows(project.connect, [first + number * DAY for number in range(DAYS)])
        return scenario, _train(scenario, project, first, start)


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _write_settings(scenario: Scenario) -> None:
    text = _template("settings.env").replace("@connections@\n", f"{scenario.settings}\n")
    file = Path(".env")
    file.touch(PRIVATE_FILE)
    file.write_text(text.replace("@private_key@", token_hex(32)), encoding="utf-8")


def _write_pipeline(file: Path, now: datetime) -> datetime:
    """Write the spec. Return the first day that it scores, a midnight in UTC."""
    text = _template(file.name)
    interval = parse_pipeline(text.encode(), file.name).interval
    assert interval is not None  # every template has one
    until = interval.grid.align_down(now - interval.delay)
    start = interval.grid.previous(until, SCORED_DAYS)
    file.parent.mkdir()
    text = re.sub(r"(\bstart: )[\d-]+T[\d:]+Z", rf"\g<1>{start:%Y-%m-%dT%H:%M:%SZ}", text)
    file.write_text(text, encoding="utf-8")
    return start


def _train(scenario: Scenario, project: Project, start: datetime, end: datetime) -> Manifest:
    """Train on the days before the first one to score, with the pipeline's own sources and features query."""
    pipeline = project.load_pipeline(scenario.pipeline)
    features = project.read_features(pipeline, start, end)
    learned = [name for name in features.column_names if name not in (*pipeline.key, *scenario.carried)]
    labelled = features.append_column(LABEL, draw_labels(scenario, features))
    ref = pipeline.steps[0].model
    return train(labelled, LABEL, learned).register(project.registry, ref.name, ref.selector)
