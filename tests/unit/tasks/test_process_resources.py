"""What a task takes from the settings of its process, and hands to the kernel as parameters."""

from collections.abc import Iterator

import pytest

from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks import process_resources
from tests.shop import SPEC


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    """Read the settings anew before and after the test: a process reads them once."""
    process_resources.settings.cache_clear()
    yield
    process_resources.settings.cache_clear()


def test_a_partition_has_the_seconds_of_a_statement_that_the_settings_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_STATEMENT_SECONDS", "7")

    options = process_resources.scoring_steps(parse_pipeline(SPEC.encode(), "x.yaml")).options(0.5)

    assert (options.statement_seconds, options.sample_share) == (7, 0.5)


def test_sources_may_read_the_folders_that_the_settings_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_ROOTS", "/data/lake")

    assert process_resources.connector().allowed_roots == ("/data/lake",)
