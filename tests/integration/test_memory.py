"""A run keeps within `PENSTOCK_MEMORY`, however large its table; measured from outside, on real rows in Postgres."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.database.connections import Database, open_database
from penstock.ledger.reader import RunRecord, list_runs
from penstock.report.card import run_card
from penstock.resources.memory import read_fit
from tests.shop import Place, train_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]

ROWS = 400_000
MIB = 2**20
SPEC = """
name: wide-risk
sources:
  payments: {kind: sql, connection: shop, table: payments, key: [payment_id]}
expectations:
  payments:
    - {type: expect_column_value_lengths_to_be_between, column: note, min_value: 1, max_value: 1000}
    - {type: expect_column_values_to_be_between, column: amount, min_value: 0}
model: card-risk@champion
destination: {table: wide_scores}
"""
CHILD = """
import json, sys
from penstock.flows.score import score
from penstock.resources.usage import peak_memory
state = score(sys.argv[1], return_state=True)
print(json.dumps({"state": state.name, "message": state.message, "peak": peak_memory()}))
"""


@dataclass(frozen=True)
class Wide:
    """A table whose rows are wide, and a spec that scores them."""

    folder: Path
    urls: dict[str, str]
    warehouse: Database

    def score(self, **environment: str) -> dict[str, Any]:
        """Score the table in a process of its own; return how it ended and the most memory that it held."""
        (self.folder / "wide-risk.yaml").write_text(SPEC)
        urls = {f"PENSTOCK_CONNECTIONS__{name.upper()}": url for name, url in self.urls.items()}
        env = os.environ | urls | {"PYTHONPATH": str(Path.cwd())} | environment
        command = [sys.executable, "-c", CHILD, "wide-risk.yaml"]
        ended = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return told

    def newest(self) -> RunRecord:
        return list_runs(self.warehouse)[0]


@pytest.fixture
def wide(tmp_path: Path, database_url: Callable[[str, str], str], use_settings: Callable[..., Any]) -> Wide:
    root = Path.cwd()
    urls = {name: database_url("postgresql", name) for name in ("shop", "warehouse")}
    settings = use_settings(**urls)
    os.chdir(root)
    train_model(settings.models_folder)
    made = sa.text(
        "create table payments as select g::bigint as payment_id, 1 + random() * 50 as amount, "
        "(1 + g % 8)::bigint as items, 'DE' as country, g % 3 = 0 as first, repeat(md5(g::text), 30) as note "
        f"from generate_series(1, {ROWS}) g"
    )
    with open_database(settings, "shop").writing() as connection:
        connection.execute(made)
    return Wide(tmp_path, urls, open_database(settings, "warehouse"))


def test_a_run_stays_within_its_memory_where_the_same_run_without_a_limit_takes_more(wide: Wide) -> None:
    free = wide.score()
    assert free["state"] == "Completed", free["message"]
    limit = 700 * MIB

    held = wide.score(PENSTOCK_MEMORY="700MiB")

    assert held["state"] == "Completed", held["message"]
    run = wide.newest()
    fit = read_fit(run.memory)
    assert held["peak"] <= limit < free["peak"]
    assert run.rows_scored == ROWS
    assert run.partitions >= 4
    assert fit.partition_rows < 150_000


def tell(*arguments: str) -> str:
    from penstock.cli.app import app

    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    return told.stdout


def test_what_was_decided_stands_in_card_page_list_and_the_next_plan(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.flows.score import score

    monkeypatch.setenv("PENSTOCK_MEMORY", "8GiB")
    place = make_place()
    assert "memory: no run has measured the rows yet" in tell("plan", str(place.spec))

    assert score(str(place.spec), end="2026-01-02", return_state=True).is_completed()

    [run] = list_runs(place.warehouse)
    fit = read_fit(run.memory)
    [listed] = json.loads(tell("runs", "--json"))
    assert (fit.partition_rows, fit.in_flight) == (150, 2)
    assert fit.describe() in run_card(place.warehouse, run.run_id)
    assert "8.0 GiB allow partitions of 150 rows" in tell("show", run.run_id)
    assert "memory: 8.0 GiB allow partitions of 150 rows, 2 at once" in tell("plan", str(place.spec))
    assert listed["memory"]["limit_bytes"] == 8 * 2**30


def test_too_little_memory_fails_the_run_before_a_partition_and_says_how_much_is_needed(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.flows.score import score

    monkeypatch.setenv("PENSTOCK_MEMORY", "64MiB")
    place = make_place(days=1)

    assert score(str(place.spec), end="2026-01-02", return_state=True).is_failed()

    [run] = list_runs(place.warehouse)
    assert "PENSTOCK_MEMORY is 64 MiB, which is too little for `card-risk`" in run.error
    assert ". Set " in run.error
    assert run.rows_scored in (None, 0)
