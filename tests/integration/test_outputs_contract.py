"""A model with other outputs does not publish into the same table until a person accepts them."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock import Halted, Pipeline, Project
from penstock.cli.app import app
from penstock.ledger.reader import list_runs, validations_of
from penstock.ledger.schema_contracts import OUTPUTS
from penstock.ledger.tables import source_columns
from penstock.ledger.writer import CONTRACT_STAGE
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS, view_rows
from tests.shop import SPEC, START, Place, payments
from tests.steps import STEPS, train_steps

DAY = timedelta(days=1)


ONE = re.sub("  scores:\n.*\n", "", SPEC)
"""Without the expectation that names `score`."""


@pytest.fixture(params=DIALECTS)
def place(request: Any, make_place: Callable[..., Place]) -> Place:
    place = make_place(request.param, request.param, days=4, a_day=30)
    place.spec.write_text(ONE)
    return place


def register_classes(registry: Registry, name: str = "card-risk") -> None:
    """Register and promote a model with the outputs `score_0`, `score_1`, `score_2` and `predicted_class`."""
    rows = payments(days=2, a_day=200, seed=99).select(["amount", "items", "country", "first"])
    label = pa.array([value % 3 for value in rows["items"].to_pylist()])
    train(rows.append_column("label", label), "label", objective="multi:softprob", rounds=3).register(
        registry, name, "champion"
    )


def register_again(registry: Registry, name: str = "card-risk") -> None:
    """Register and promote another version with the output `score`."""
    rows = payments(days=2, a_day=200, seed=98).select(["amount", "items", "country", "first"])
    label = pa.array([int(value > 4) for value in rows["items"].to_pylist()])
    train(rows.append_column("label", label), "label", rounds=3).register(registry, name, "champion")


def score(pipeline: Pipeline, day: int) -> str:
    """Score one day; return the run's ID."""
    project = Project()
    [planned] = project.plan(pipeline, "restate", START + day * DAY, START + (day + 1) * DAY).intervals
    return project.score_interval(pipeline, planned).run_id


def noted(place: Place, run_id: str) -> list[str]:
    """Return what a run found of its contracts."""
    return [v.detail for v in validations_of(place.warehouse, run_id) if v.partition == CONTRACT_STAGE]


def spec(text: str = ONE) -> Pipeline:
    return parse_pipeline(text.encode(), "x")


def scores(place: Place) -> list[object]:
    return [row[1] for row in view_rows(place.warehouse)]


def test_other_outputs_halt_before_a_row_is_read_until_they_are_accepted(place: Place) -> None:
    score(spec(), 0)
    register_classes(place.registry)

    with pytest.raises(Halted, match=r"outputs: `score` was float and is gone.*penstock check card-risk --accept"):
        score(spec(), 1)
    halted = list_runs(place.warehouse)[0]
    assert (halted.state, halted.rows_planned) == ("halted", None)
    assert noted(place, halted.run_id)[:1] == ["`score` was float and is gone"]
    assert None not in scores(place)

    checked = CliRunner().invoke(app, ["check", str(place.spec)])
    assert checked.exit_code == 1
    assert "✗ outputs: `score` was float and is gone" in checked.stdout
    accepted = CliRunner().invoke(app, ["check", str(place.spec), "--accept"])
    assert accepted.exit_code == 0, accepted.stdout
    run = score(spec(), 1)
    assert noted(place, run) == []
    assert scores(place).count(None) == 30


def test_the_way_back_is_a_change_too(place: Place) -> None:
    score(spec(), 0)
    register_classes(place.registry)
    CliRunner().invoke(app, ["check", str(place.spec), "--accept"])
    score(spec(), 1)
    place.registry.promote("card-risk", "1", "champion")

    with pytest.raises(Halted, match="`predicted_class` was text and is gone"):
        score(spec(), 2)


def test_another_version_with_the_same_outputs_is_no_change(place: Place) -> None:
    score(spec(), 0)
    register_again(place.registry)

    run = score(spec(), 1)

    assert noted(place, run) == []


def test_a_decision_that_is_gone_halts_and_a_new_one_is_noted(place: Place) -> None:
    decided = ONE.replace("\ndestination", '\ndecide: {band: "score > 0.5"}\ndestination')
    score(spec(), 0)

    run = score(spec(decided), 1)

    assert noted(place, run) == ["`band` (decided) was added"]
    with pytest.raises(Halted, match="outputs: `band` was decided and is gone"):
        score(spec(), 2)


def test_the_outputs_of_steps_are_compared_too(make_place: Callable[..., Place]) -> None:
    place = make_place(days=4, a_day=30)
    train_steps(place.registry.folder)
    score(spec(STEPS), 0)
    register_classes(place.registry, "risk-screen")

    with pytest.raises(Halted, match=r"outputs: `screen_score` was float and is gone"):
        score(spec(STEPS.replace("screen_score", "screen_score_1")), 1)
    renamed = STEPS.replace("screen_score", "sieve_score").replace("name: screen", "name: sieve")
    place.registry.promote("risk-screen", "1", "champion")
    with pytest.raises(Halted, match=r"outputs: `screen_score` was float and is gone"):
        score(spec(renamed), 1)


def test_a_decision_may_take_the_place_of_a_models_output(make_place: Callable[..., Place]) -> None:
    place = make_place(days=4, a_day=30)
    train_steps(place.registry.folder)
    score(spec(), 0)

    run = score(spec(STEPS), 1)

    added = noted(place, run)
    assert added == [
        "`screen_score` (float) was added",
        "`deep_score` (float) was added",
        "`decision` (decided) was added",
    ]


def test_another_table_begins_anew(make_place: Callable[..., Place]) -> None:
    place = make_place(days=4, a_day=30)
    score(spec(), 0)
    register_classes(place.registry)

    score(spec(ONE.replace("table: card_risk_scores", "table: class_scores")), 1)

    assert "class_scores" in sa.inspect(place.warehouse.engine).get_view_names()


def test_a_ledger_of_before_takes_the_outputs_of_the_last_published_models(place: Place) -> None:
    score(spec(), 0)
    with place.warehouse.writing() as connection:
        connection.execute(sa.delete(source_columns).where(source_columns.c.source == OUTPUTS))
    register_classes(place.registry)

    with pytest.raises(Halted, match="outputs: `score` was float and is gone"):
        score(spec(), 1)


def test_a_ledger_of_before_takes_the_outputs_of_its_steps(make_place: Callable[..., Place]) -> None:
    place = make_place(days=4, a_day=30)
    train_steps(place.registry.folder)
    score(spec(STEPS), 0)
    with place.warehouse.writing() as connection:
        connection.execute(sa.delete(source_columns).where(source_columns.c.source == OUTPUTS))

    with pytest.raises(Halted, match=r"`screen_score` was float and is gone.*`deep_score` was float and is gone"):
        score(spec(), 1)


def test_a_flow_halts_for_other_outputs(make_place: Callable[..., Place], prefect_api: str) -> None:
    from penstock.flows.score import score as score_flow

    place = make_place(days=2, a_day=30)
    assert score_flow(str(place.spec), end="2026-01-02", return_state=True).is_completed()
    register_classes(place.registry)

    score_flow(str(place.spec), end="2026-01-03", return_state=True)

    run = list_runs(place.warehouse)[0]
    assert (run.state, run.rows_planned) == ("halted", None)
    assert "`score` was float and is gone" in str(run.error)
