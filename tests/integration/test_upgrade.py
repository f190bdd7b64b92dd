"""A ledger of version 0.1.0 is read and continued; `tests/fixtures/ledger_0_1_0` says what is in it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import close_engines
from penstock.tasks.process_resources import settings
from tests.conftest import DIALECTS
from tests.fixtures.ledger_0_1_0.ledgers import HERE, read_facts, restore

pytestmark = pytest.mark.slow

EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
PIPELINES = ("card-risk", "order-review")


class OldProject:
    """A project of 0.1.0 in the working folder, with its warehouse."""

    def __init__(self, url: str) -> None:
        self.url = url

    def penstock(self, *words: str) -> str:
        """Run a command; return what it wrote."""
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, done.output
        return done.stdout

    def runs(self, *words: str) -> list[dict[str, Any]]:
        return [run for name in PIPELINES for run in json.loads(self.penstock("runs", name, "--json", *words))]

    def facts(self) -> dict[str, Any]:
        """Return what the warehouse holds; the version of the ledger is this code's own."""
        close_engines()
        return without_version(read_facts(self.url))


def without_version(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in PIPELINES}


@pytest.fixture(params=DIALECTS)
def old(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database_url: Callable[[str, str], str],
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[OldProject]:
    empty = database_url("postgresql", "old") if request.param == "postgresql" else ""
    url = restore(request.param, tmp_path / "project", empty)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("PENSTOCK_CONNECTIONS__WAREHOUSE", url)
    settings.cache_clear()
    yield OldProject(url)
    settings.cache_clear()
    close_engines()


def test_a_ledger_of_the_version_before_is_read_and_continued(old: OldProject, request: pytest.FixtureRequest) -> None:
    dialect = request.node.callspec.params["old"]
    before = [run["run_id"] for run in old.runs()]

    assert len(before) == 15
    assert old.facts() == without_version(EXPECTED["kept"][dialect])

    old.penstock("run", "card-risk")  # 01-07 that failed, 01-08 whose process was killed, 01-09 that is new
    old.penstock("run", "order-review")

    assert old.facts() == without_version(EXPECTED["after_due"][dialect])

    [first] = [run for run in old.runs("--state", "published") if run["interval_key"].startswith("2026-01-01")][:1]
    old.penstock("run", "card-risk", "--start", "2026-01-06", "--end", "2026-01-07", "--restate")
    old.penstock("withdraw", first["run_id"], "--yes")

    assert old.facts() == without_version(EXPECTED["after_restate_and_withdraw"][dialect])
    for run_id in before:
        assert run_id in old.penstock("show", run_id)
