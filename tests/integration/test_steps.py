"""Several models in one pipeline, end to end: real boosters, real databases, a real Prefect server."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import list_runs
from penstock.report.card import run_card
from tests.integration.test_cli import invoke
from tests.integration.test_failures import task_runs
from tests.integration.test_score_flow import change, run_score
from tests.shop import Place, payments
from tests.steps import STEPS, predict_steps, train_steps

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def make_steps(make_place: Callable[..., Place]) -> Callable[..., Place]:
    def make(dialect: str = "sqlite", spec: str = STEPS, **rows: Any) -> Place:
        place = make_place(dialect, dialect, spec=spec, **rows)
        train_steps(place.registry.folder)
        return place

    return make


def read_view(database: Database, columns: str = "payment_id, screen_score, deep_score, score, decision") -> list[Any]:
    with database.reading() as connection:
        return connection.execute(sa.text(f"select {columns} from card_risk_scores order by payment_id")).all()


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "duckdb"])
def test_chained_steps_give_xgboosts_own_chained_scores_and_null_to_skipped_rows(
    make_steps: Callable[..., Place], dialect: str
) -> None:
    place = make_steps(dialect)

    state = run_score(place, end="2026-01-02")

    assert state.is_completed(), state.message
    expected = [row for row in predict_steps(place.registry, payments()) if row[0] <= 250]
    found = read_view(place.warehouse)
    assert [row[0] for row in found] == [row[0] for row in expected]
    assert [row[2] is None for row in found] == [row[2] is None for row in expected]
    assert 0 < sum(row[2] is None for row in found) < 250
    for row, (_, screen, deep) in zip(found, expected, strict=True):
        score = screen if deep is None else deep
        assert row[1] == pytest.approx(screen, abs=1e-6)
        assert row[2] == (None if deep is None else pytest.approx(deep, abs=1e-6))
        assert row[3] == pytest.approx(score, abs=1e-6)
        assert row[4] == ("block" if row[3] >= 0.6 else "review" if row[3] >= 0.5 else "pass")
    [run] = list_runs(place.warehouse)
    assert (run.rows_extracted, run.rows_scored, run.partitions) == (250, 250, 2)
    assert run.models == "risk-screen/1, risk-deep/1"
    assert list(run.step_models) == ["screen", "deep"]
    assert run.model == "risk-deep/1"
    [told] = {row[0] for row in read_view(place.warehouse, "step_models")}
    assert json.loads(told)["screen"]["digest"] == place.registry.manifest("risk-screen", "1").sha256


def test_a_row_that_a_later_step_cannot_take_is_refused_whole_and_the_counts_reconcile(
    make_steps: Callable[..., Place],
) -> None:
    place = make_steps()
    deep = [key for key, _, score in predict_steps(place.registry, payments()) if score is not None and key <= 250]
    skipped = [key for key, _, score in predict_steps(place.registry, payments()) if score is None and key <= 250]
    change(place.shop, f"update payments set country = 'XX' where payment_id in ({deep[0]}, {skipped[0]})")

    state = run_score(place, end="2026-01-02")

    assert state.is_completed(), state.message
    [refused] = quarantined_rows(place.warehouse)
    assert (refused.stage, json.loads(refused.key)) == ("model", {"payment_id": deep[0]})
    assert refused.reasons == ("step deep: `country`: unseen category 'XX'",)
    assert json.loads(refused.row)["screen_score"] > 0.5
    [run] = list_runs(place.warehouse)
    assert (run.rows_extracted, run.rows_scored, run.rows_quarantined) == (250, 249, 1)
    keys = [row[0] for row in read_view(place.warehouse)]
    assert deep[0] not in keys
    assert skipped[0] in keys


def test_each_step_is_a_task_run_of_its_own_beside_the_decisions(make_steps: Callable[..., Place]) -> None:
    place = make_steps()

    run_score(place, end="2026-01-02")

    [run] = list_runs(place.warehouse)
    found = task_runs(run.flow_run_id)
    partitions = [name.removeprefix("partition ") for name in found if name.startswith("partition ")]
    assert len(partitions) == 2
    for partition in partitions:
        started = [found[f"{step} {partition}"].start_time for step in ("validate", "screen", "deep", "decide", "load")]
        assert None not in started
        assert started == sorted(started)  # type: ignore[type-var] # none is None
    assert not any(name.startswith("score ") for name in found)


def test_a_condition_that_fails_on_the_data_fails_the_run_once_and_the_mended_spec_scores_all(
    make_steps: Callable[..., Place],
) -> None:
    place = make_steps(spec=STEPS.replace("items > 1", "cast(country as integer) > 1"))

    failed = run_score(place, end="2026-01-02")
    place.spec.write_text(STEPS)
    mended = run_score(place, end="2026-01-02")

    assert failed.is_failed()
    assert mended.is_completed(), mended.message
    newest, oldest = list_runs(place.warehouse)
    assert (oldest.state, newest.state) == ("failed", "published")
    assert "`when` of step `deep` of `card-risk` fails" in str(oldest.error)
    assert len(read_view(place.warehouse)) == 250


def test_a_restatement_may_choose_one_steps_version_and_each_row_tells_every_version(
    make_steps: Callable[..., Place],
) -> None:
    place = make_steps()
    run_score(place, end="2026-01-02")
    before = read_view(place.warehouse)
    train_steps(place.registry.folder, rounds=9)
    for name in ("risk-screen", "risk-deep"):
        place.registry.promote(name, "1", "champion")

    state = run_score(place, start="2026-01-01", end="2026-01-02", mode="restate", model="deep=risk-deep@2")

    assert state.is_completed(), state.message
    newest, oldest = list_runs(place.warehouse)
    assert (newest.models, newest.state) == ("risk-screen/1, risk-deep/2", "published")
    assert (oldest.models, oldest.state) == ("risk-screen/1, risk-deep/1", "superseded")
    after = read_view(place.warehouse)
    assert [row[:2] for row in after] == [row[:2] for row in before]
    assert [row[2] for row in after] != [row[2] for row in before]
    [told] = {row[0] for row in read_view(place.warehouse, "step_models")}
    assert {step: pin["version"] for step, pin in json.loads(told).items()} == {"screen": "1", "deep": "2"}


def test_a_choice_of_a_model_that_names_no_step_is_told_before_anything_runs(make_steps: Callable[..., Place]) -> None:
    place = make_steps()

    state = run_score(place, end="2026-01-02", model="risk-deep@1")

    assert state.is_failed()
    assert "is chosen for no step, and the pipeline has 2" in str(state.message)
    assert list_runs(place.warehouse) == []


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "duckdb"])
def test_a_step_that_is_added_makes_the_history_grow_and_keeps_earlier_rows(
    make_steps: Callable[..., Place], dialect: str
) -> None:
    alone = STEPS[: STEPS.index("  - name: deep")] + "  - {name: screen, model: risk-screen@champion}\n"
    place = make_steps(dialect, spec=alone + STEPS[STEPS.index("destination:") :])
    run_score(place, end="2026-01-02")
    place.spec.write_text(STEPS)

    state = run_score(place, end="2026-01-03")

    assert state.is_completed(), state.message
    rows = read_view(place.warehouse)
    assert len(rows) == 500
    assert all(row[1] is not None and row[2:] == (None, None, None) for row in rows[:250])
    assert any(row[2] is not None for row in rows[250:])
    assert all(row[3] is not None and row[4] is not None for row in rows[250:])


def test_check_takes_sample_rows_through_every_step_and_the_page_of_a_run_tells_every_model(
    make_steps: Callable[..., Place],
) -> None:
    place = make_steps()

    checked = invoke("check", str(place.spec))
    run_score(place, end="2026-01-02")
    [run] = list_runs(place.warehouse)
    shown = invoke("show", run.run_id)

    assert checked.exit_code == 0, checked.text
    for told in ("step `screen`", "step `deep`", "sample rows: screen_score > 0.5", "`decision` (string)"):
        assert told in " ".join(checked.text.split())
    assert "Models screen risk-screen/1" in shown.text
    assert "deep risk-deep/1" in shown.text
    card = run_card(place.warehouse, run.run_id)
    assert "Models screen **risk-screen/1**" in card
    assert "deep **risk-deep/1**" in card


def test_check_tells_which_step_lacks_a_column(make_steps: Callable[..., Place]) -> None:
    place = make_steps(spec=STEPS.replace("inputs: {opinion: screen_score}", "inputs: []"))

    checked = invoke("check", str(place.spec))

    assert checked.exit_code != 0
    assert (
        "needs columns for step `deep` that are neither features nor outputs of earlier steps: `opinion`"
        in " ".join(checked.text.split())
    )


def test_a_run_of_steps_keeps_within_its_memory(
    make_steps: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_MEMORY", "8GiB")
    place = make_steps()

    state = run_score(place, end="2026-01-02")

    assert state.is_completed(), state.message
    [run] = list_runs(place.warehouse)
    assert run.memory is not None
    assert (run.rows_scored, run.models) == (250, "risk-screen/1, risk-deep/1")
