"""Which specs are deployed, and which stop a deploy before it begins."""

from pathlib import Path

import pytest

from penstock.deployments.deploy.specs import load_specs
from penstock.errors import SettingsError, SpecError, SpecErrors
from penstock.settings import Settings
from tests.project import write_spec


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, pipelines=tmp_path / "pipelines")


def test_the_whole_folder_is_read_in_the_order_of_names(settings: Settings) -> None:
    write_spec(settings.pipelines, "fraud")
    write_spec(settings.pipelines, "churn")

    assert [pipeline.name for pipeline in load_specs(settings, None).values()] == ["churn", "fraud"]


def test_only_the_files_that_were_asked_for_are_read(settings: Settings) -> None:
    fraud = write_spec(settings.pipelines, "fraud")
    write_spec(settings.pipelines, "churn", "colour: blue")

    assert list(load_specs(settings, [fraud])) == [fraud]


def test_all_problems_of_all_files_are_told(settings: Settings) -> None:
    write_spec(settings.pipelines, "churn", "colour: blue")
    write_spec(settings.pipelines, "fraud", "grain: 1d", file="cards")

    with pytest.raises(SpecErrors) as refused:
        load_specs(settings, None)

    assert "churn.yaml: 1 problem" in str(refused.value)
    assert "cards.yaml: 1 problem" in str(refused.value)


def test_a_name_that_two_files_bear_is_refused_with_both(settings: Settings) -> None:
    write_spec(settings.pipelines, "card-risk")
    write_spec(settings.pipelines, "card-risk", file="copy")

    with pytest.raises(SpecError, match=r"copy\.yaml: .*\n.*`card-risk`; that name belongs to .*card-risk\.yaml"):
        load_specs(settings, None)


def test_a_file_that_is_not_named_as_its_pipeline_is_refused(settings: Settings) -> None:
    write_spec(settings.pipelines, "card-risk", file="cards")

    with pytest.raises(SpecError, match=r"named `card-risk`; name it `cards`, or move the file to .*card-risk\.yaml"):
        load_specs(settings, None)


def test_a_file_outside_the_pipelines_folder_is_refused_for_the_flow_would_not_find_it(
    settings: Settings, tmp_path: Path
) -> None:
    elsewhere = write_spec(tmp_path / "elsewhere", "churn")

    with pytest.raises(SpecError, match="move the file to"):
        load_specs(settings, [elsewhere])


def test_a_missing_folder_is_an_error_and_not_a_folder_without_pipelines(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="there is no pipelines folder"):
        load_specs(settings, None)
