"""A source's columns come, go and change their type: what is used halts by name, the rest is noted."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import Database
from penstock.errors import Halted
from penstock.interval import DataInterval
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.reader import list_runs, validations_of
from penstock.ledger.schema_contracts import read_contracts
from penstock.ledger.writer import Totals, end_run, publish
from penstock.run.schema_contract import keep_contract, used_columns
from penstock.run_types import ModelPin, ScoringRun
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.process_resources import connector
from tests.conftest import DIALECTS
from tests.shop import SPEC, Place

DAY = DataInterval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
MODEL = ModelPin("card-risk", "1", "d" * 64)
FEATURES = ("amount", "items")
EVOLVE = parse_pipeline(SPEC.encode(), "x")
FREEZE = parse_pipeline(SPEC.replace("table: payments", "table: payments\n    contract: freeze").encode(), "x")


@pytest.fixture(params=DIALECTS)
def place(request: Any, make_place: Callable[..., Place]) -> Place:
    return make_place(request.param, request.param, days=1, a_day=20)


def score(database: Database, pipeline: Pipeline = EVOLVE) -> ScoringRun:
    """Go as far as the contract, and publish."""
    run = claim(database, ClaimRequest(pipeline, DAY, MODEL, "restate", 60.0, again=True))
    assert run is not None
    try:
        keep_contract(run, connector(), FEATURES, read_contracts(database, run.pipeline.name))
    except Halted as error:
        end_run(database, run, "halted", str(error))
        raise
    publish(database, run, Totals(0, 0, 0, 0), [])
    return run


def change(place: Place, *statements: str) -> None:
    with place.shop.writing() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def noted(database: Database, run: ScoringRun) -> list[str]:
    return [v.detail for v in validations_of(database, run.run_id)]


def retype(place: Place, column: str) -> None:
    """Make a column text, its values kept."""
    change(place, f"alter table payments drop column {column}", f"alter table payments add column {column} text")


def test_an_added_column_is_noted_once_and_halts_a_frozen_source(place: Place) -> None:
    score(place.warehouse)
    change(place, "alter table payments add column note text")

    with pytest.raises(Halted, match=r"source `payments`: `note` \(text\) was added"):
        score(place.warehouse, FREEZE)
    assert noted(place.warehouse, score(place.warehouse)) == ["`note` (text) was added"]
    assert noted(place.warehouse, score(place.warehouse)) == []
    score(place.warehouse, FREEZE)


@pytest.mark.parametrize("column", ["amount", "country", "updated_at"])
def test_a_dropped_column_that_is_used_halts_by_name(place: Place, column: str) -> None:
    score(place.warehouse)
    change(place, f"alter table payments drop column {column}")

    with pytest.raises(Halted, match=rf"`{column}` was \w+ and is gone"):
        score(place.warehouse)

    assert [r.state for r in list_runs(place.warehouse)] == ["halted", "published"]


def test_a_retyped_column_that_is_used_halts_with_both_types_until_it_is_accepted(place: Place) -> None:
    score(place.warehouse)
    retype(place, "items")

    for _ in range(2):
        with pytest.raises(Halted, match=r"`items` was int and is text now.*penstock check card-risk --accept"):
            score(place.warehouse)
    told = CliRunner().invoke(app, ["check", str(place.spec), "--json"])
    assert "`items` was int and is text now" in told.stdout
    CliRunner().invoke(app, ["check", str(place.spec), "--accept"])

    score(place.warehouse)


def test_a_column_that_nothing_uses_may_go(place: Place) -> None:
    score(place.warehouse)
    change(place, 'alter table payments drop column "first"')

    assert noted(place.warehouse, score(place.warehouse)) == ["`first` was bool and is gone"]


def test_columns_that_only_an_unpublished_run_saw_are_no_contract(place: Place) -> None:
    run = claim(place.warehouse, ClaimRequest(EVOLVE, DAY, MODEL, "due", 60.0))
    assert run is not None
    keep_contract(run, connector(), FEATURES, read_contracts(place.warehouse, run.pipeline.name))
    end_run(place.warehouse, run, "failed", "later")
    retype(place, "items")

    assert noted(place.warehouse, score(place.warehouse)) == []


def test_a_source_that_is_defined_otherwise_begins_anew(place: Place) -> None:
    score(place.warehouse)
    retype(place, "items")
    text = SPEC.replace("table: payments", "query: select * from payments")

    score(place.warehouse, parse_pipeline(text.encode(), "x"))


def test_a_flow_halts_before_a_row_is_read(make_place: Callable[..., Place], prefect_api: str) -> None:
    from penstock.flows.score import score as score_flow

    place = make_place(days=2, a_day=30)
    assert score_flow(str(place.spec), end="2026-01-02", return_state=True).is_completed()
    change(place, "alter table payments drop column amount")

    score_flow(str(place.spec), end="2026-01-03", return_state=True)

    run = list_runs(place.warehouse)[0]
    assert (run.state, run.rows_planned) == ("halted", None)
    assert "`amount` was float and is gone" in str(run.error)
    assert validations_of(place.warehouse, run.run_id)[0].outcome == "halted"


FILES = """
name: sales
sources:
  sales: {{kind: files, path: "{folder}/*.csv", format: csv, key: [id]}}
model: card-risk@champion
destination: {{table: sales_scores, keep: [amount]}}
"""


def test_text_files_may_hold_whole_numbers_or_nothing_for_a_day(make_place: Callable[..., Place]) -> None:
    place = make_place(days=1, a_day=20)
    pipeline = parse_pipeline(FILES.format(folder=place.folder).encode(), "x")

    def score_file(text: str) -> None:
        Path(place.folder / "day.csv").write_text(text)
        run = claim(place.warehouse, ClaimRequest(pipeline, None, MODEL, "snapshot", 60.0, again=True))
        assert run is not None
        try:
            keep_contract(run, connector(), FEATURES, read_contracts(place.warehouse, run.pipeline.name))
        finally:
            publish(place.warehouse, run, Totals(0, 0, 0, 0), [])

    for text in ("id,amount\n1,2.5\n", "id,amount\n1,2\n", "id,amount\n1,\n", "id,amount\n1,3.5\n"):
        score_file(text)
    with pytest.raises(Halted, match=r"`amount` was number, and line 2 of .*day\.csv has `much`"):
        score_file("id,amount\n1,much\n")


def test_what_a_query_names_is_used_and_what_a_star_brings_is_used_by_the_model() -> None:
    columns = {"payment_id", "created_at", "updated_at", "amount", "items", "country", "note", "Mixed Case"}

    def used(features: str) -> set[str]:
        text = SPEC.replace("model: card", f"features: {json.dumps(features)}\nmodel: card")
        return used_columns(parse_pipeline(text.encode(), "x"), "payments", columns, ("items",))

    role = {"payment_id", "created_at", "updated_at", "amount", "country"}
    assert used("select p.payment_id, p.NOTE from payments p") == role | {"note"}
    assert used('select "Mixed Case" from payments') == role | {"Mixed Case"}
    assert used("select * from payments") == role | {"items"}
