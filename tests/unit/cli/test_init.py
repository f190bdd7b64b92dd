"""What `penstock init` refuses, and what it writes."""

import os
import stat
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.cli.init import project
from penstock.cli.init.scenario import SCENARIOS
from penstock.spec.yaml_file import load_pipeline


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", *arguments])


def test_a_folder_that_holds_something_is_refused_and_left_alone(place: Path) -> None:
    (place / "shop").mkdir()
    (place / "shop" / "mine.txt").write_text("mine")

    refused = init("shop")

    assert refused.exit_code == 2
    assert "`shop` is not empty. Name a folder that is empty or does not exist." in refused.stderr
    assert [path.name for path in (place / "shop").iterdir()] == ["mine.txt"]


def test_a_file_is_refused(place: Path) -> None:
    (place / "shop").write_text("mine")

    assert init("shop").exit_code == 2


@pytest.mark.parametrize("existed", [True, False])
def test_an_error_in_the_middle_leaves_the_folder_as_it_was(
    place: Path, existed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ImportError("xgboost")

    monkeypatch.setattr(project, "_train", fail)
    if existed:
        (place / "shop").mkdir()

    assert isinstance(init("shop").exception, ImportError)

    assert (place / "shop").exists() is existed
    assert not existed or list((place / "shop").iterdir()) == []


@pytest.mark.parametrize("kind", SCENARIOS)
def test_a_new_project_names_what_it_made_and_what_to_type_next(place: Path, kind: str) -> None:
    made = init("shop", "--from", kind)

    name = SCENARIOS[kind].pipeline  # type: ignore[index] # a kind
    assert made.exit_code == 0, made.output
    for file in (f"pipelines/{name}.yaml", ".env", ".gitignore", "tests/test_pipeline.py", SCENARIOS[kind].made):  # type: ignore[index] # a kind
        assert (place / "shop" / file).exists(), file
        assert f"shop/{file}" in made.output
    assert "cd shop && " in made.output
    assert f"run {name}" in made.output
    assert load_pipeline(place / "shop" / "pipelines" / f"{name}.yaml").schedule is not None


def test_settings_are_for_their_owner_alone_and_out_of_git(place: Path) -> None:
    assert init(".").exit_code == 0  # the working folder is empty

    assert stat.S_IMODE(os.stat(".env").st_mode) == 0o600
    assert ".env" in Path(".gitignore").read_text().splitlines()
    assert "PENSTOCK_PIPELINES=pipelines\nPENSTOCK_HOME=.penstock\n" in Path(".env").read_text()


@pytest.mark.parametrize("file", sorted(project.TEMPLATES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_template_is_a_pipeline_of_its_name(file: Path) -> None:
    assert load_pipeline(file).name == file.stem
