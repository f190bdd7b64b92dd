"""`penstock logs` without Prefect: the ledger's own record of a run, in its order, with its source named."""

import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.ledger.tables import runs
from penstock.spec.yaml_file import parse_pipeline
from tests.large_ledger import fill_ledger, run_id_of
from tests.shop import SPEC, Place


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    made = make_place(a_day=1)
    fill_ledger(made.warehouse, parse_pipeline(SPEC.encode(), "x"), 3)
    return made


def logs(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["logs", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_without_a_server_the_ledger_tells_what_happened(place: Place) -> None:
    run_id = run_id_of(2)

    code, told = logs(run_id, "--timezone", "Asia/Tokyo")

    lines = told.splitlines()
    assert code == 0
    assert "from the ledger, since" in lines[0]
    assert "JST" in lines[1]
    assert "started:" in lines[1]
    assert any("partition 1:" in line for line in lines)
    assert "published" in lines[-1]


def test_a_failed_run_has_its_error_and_its_end(place: Place) -> None:
    failed = {"state": "failed", "published_at": None, "error": "the source is gone"}
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(runs).where(runs.c.run_id == run_id_of(1)).values(**failed))

    told = json.loads(logs(run_id_of(1), "--json")[1])

    kinds = [line["kind"] for line in told["lines"]]
    assert told["source"] == "ledger"
    assert kinds[0] == "started"
    assert kinds[-2:] == ["error", "ended"]
    assert told["lines"][-2]["message"] == "the source is gone"


def test_an_unknown_run_is_refused(place: Place) -> None:
    assert logs("ffff")[0] == 2
