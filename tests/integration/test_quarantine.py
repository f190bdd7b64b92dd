"""Refused rows on their way back: released, scored by a new run, and never lost or there twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import Database
from penstock.ledger.quarantine import count_reasons, quarantined_rows, standing_runs
from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.releases import pending_releases, release_rows
from tests.conftest import DIALECTS, view_rows
from tests.outcomes import outcome_of
from tests.shop import SPEC, Place

pytestmark = pytest.mark.usefixtures("prefect_api")

NOT_NULL = "amount column_values_to_not_be_null"
POSITIVE = "amount column_values_to_be_between (min_value=0)"


def run_score(place: Place, **parameters: Any) -> Any:
    from penstock.flows.score import score

    return score(str(place.spec), **({"end": "2026-01-03"} | parameters), return_state=True)


def change(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(sa.text(statement))


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def published(place: Place) -> list[RunRecord]:
    """Return the live runs, oldest interval first."""
    return sorted(list_runs(place.warehouse, states=("published",)), key=lambda run: run.interval_key)


def dirty_place(make_place: Callable[..., Place], dialect: str = "sqlite") -> Place:
    """Two published days: three negative amounts and an unseen country on the first, one empty amount on the second."""
    place = make_place(dialect, dialect, a_day=100)
    change(place.shop, "update payments set amount = -5 where payment_id in (3, 4, 5)")
    change(place.shop, "update payments set country = 'XX' where payment_id = 6")
    change(place.shop, "update payments set amount = null where payment_id = 150")
    assert run_score(place).is_completed()
    assert len(view_rows(place.warehouse)) == 195
    return place


@pytest.mark.parametrize("dialect", DIALECTS)
def test_released_rows_join_their_interval_through_a_new_run_and_only_that_interval(
    make_place: Callable[..., Place], dialect: str
) -> None:
    place = dirty_place(make_place, dialect)
    first, second = published(place)

    told = invoke("quarantine", "release", "card-risk.yaml", "--failed", POSITIVE, "--reason", "refunds", "--yes")

    assert "released 3 rows" in told
    new, untouched = published(place)
    assert untouched == second
    assert (new.reason, new.rows_extracted, new.rows_scored, new.rows_quarantined) == ("release", 100, 99, 1)
    keys = [row[0] for row in view_rows(place.warehouse)]
    assert keys == [key for key in range(1, 201) if key not in (6, 150)]
    assert pending_releases(place.warehouse, "card-risk") == {}
    fates = {row.key: row.fate for row in quarantined_rows(place.warehouse, run_id=first.run_id)}
    assert fates == {f'{{"payment_id": {n}}}': f"released in run {new.run_id[:8]}" for n in (3, 4, 5)} | {
        '{"payment_id": 6}': "held"
    }


def test_releasing_twice_changes_nothing(make_place: Callable[..., Place]) -> None:
    place = dirty_place(make_place)
    invoke("quarantine", "release", "card-risk.yaml", "--failed", POSITIVE, "--yes")
    runs, rows = list_runs(place.warehouse), view_rows(place.warehouse)

    told = invoke("quarantine", "release", "card-risk.yaml", "--failed", NOT_NULL, "--key", "3", "--yes")

    assert "nothing to release" in told
    assert (list_runs(place.warehouse), view_rows(place.warehouse)) == (runs, rows)


def test_a_release_left_to_the_next_run_is_scored_by_it_and_once(make_place: Callable[..., Place]) -> None:
    place = dirty_place(make_place)

    told = invoke("quarantine", "release", "card-risk.yaml", "--key", "150", "--yes", "--no-run")
    waiting = quarantined_rows(place.warehouse, run_id=published(place)[1].run_id)
    state, again = run_score(place), run_score(place)

    assert "1 released row of 1 interval: the next run of `card-risk` scores them" in told
    assert [row.fate for row in waiting] == ["released, waits for the next run"]
    assert (state.is_completed(), outcome_of(again)) == (True, "skipped")
    assert [(run.reason, run.rows_scored) for run in published(place)] == [("due", 96), ("release", 100)]
    assert 150 in [row[0] for row in view_rows(place.warehouse)]


def test_a_released_row_that_changed_since_is_judged_anew(make_place: Callable[..., Place]) -> None:
    place = dirty_place(make_place)
    first = published(place)[0]
    invoke("quarantine", "release", "card-risk.yaml", "--key", "3", "--key", "4", "--yes", "--no-run")
    change(place.shop, "update payments set amount = -6 where payment_id = 3")
    change(place.shop, "update payments set amount = 6 where payment_id = 4")

    run_score(place)

    new = published(place)[0]
    fates = {row.key: row.fate for row in quarantined_rows(place.warehouse, run_id=first.run_id)}
    assert fates['{"payment_id": 3}'] == f"refused again in run {new.run_id[:8]}"
    assert fates['{"payment_id": 4}'] == f"released in run {new.run_id[:8]}"
    assert [(row[0], row[2]) for row in view_rows(place.warehouse)][:4] == [
        (1, pytest.approx(1e9, abs=1e9)),
        *[(row[0], row[2]) for row in view_rows(place.warehouse)][1:4],
    ]
    assert {3, 4} & {row[0] for row in view_rows(place.warehouse)} == {4}


def test_the_models_contract_is_never_waived_and_a_mended_row_passes(make_place: Callable[..., Place]) -> None:
    place = dirty_place(make_place)

    stubborn = invoke("quarantine", "release", "card-risk.yaml", "--key", "6", "--yes")
    refused = {row[0] for row in view_rows(place.warehouse)}
    change(place.shop, "update payments set country = 'DE' where payment_id = 6")
    invoke("quarantine", "release", "card-risk.yaml", "--key", "6", "--yes")

    assert "1 row cannot be released as they are" in stubborn
    assert 6 not in refused
    assert 6 in {row[0] for row in view_rows(place.warehouse)}


def test_a_waiver_outlives_a_restate_and_the_run_card_tells_of_it(make_place: Callable[..., Place]) -> None:
    from penstock.report.card import run_card

    place = dirty_place(make_place)
    invoke("quarantine", "release", "card-risk.yaml", "--failed", POSITIVE, "--yes")

    run_score(place, mode="restate", start="2026-01-01", end="2026-01-02")

    run = published(place)[0]
    assert (run.reason, run.rows_scored) == ("restate", 99)
    assert "3 of them released before" in run_card(place.warehouse, run.run_id)


def test_a_release_lifts_a_halted_interval_under_its_limit(make_place: Callable[..., Place]) -> None:
    place = make_place(a_day=100)
    change(place.shop, "update payments set amount = -1 where payment_id between 1 and 30")
    assert outcome_of(run_score(place, end="2026-01-02")) == "halted"
    [halted] = list_runs(place.warehouse)

    told = invoke("quarantine", "release", "card-risk.yaml", "--yes")

    assert "released 30 rows" in told
    [run] = published(place)
    assert (run.rows_scored, run.rows_quarantined) == (100, 0)
    assert {row.fate for row in quarantined_rows(place.warehouse, run_id=halted.run_id)} == {
        f"released in run {run.run_id[:8]}"
    }


def test_a_run_that_was_claimed_before_a_release_does_not_settle_it(make_place: Callable[..., Place]) -> None:
    from penstock.ledger.claims import ClaimRequest, claim
    from penstock.ledger.writer import Totals, publish
    from penstock.run_types import ModelPin
    from penstock.spec.yaml_file import load_pipeline

    place = dirty_place(make_place)
    first = published(place)[0]
    early = claim(
        place.warehouse,
        ClaimRequest(load_pipeline(place.spec), first.interval, ModelPin("m", "1", "d"), "restate", 60.0, again=True),
    )
    assert early is not None

    rows = quarantined_rows(place.warehouse, run_id=first.run_id)
    release_rows(place.warehouse, first.run_id, rows, "me", "")
    publish(place.warehouse, early, Totals(0, 0, 0, 0), [])

    assert pending_releases(place.warehouse, "card-risk") == {first.interval_key: 4}


def test_a_row_that_failed_two_expectations_counts_in_both_and_is_released_for_both_or_not(
    make_place: Callable[..., Place],
) -> None:
    even = "    - {type: expect_column_values_to_be_in_set, column: items, value_set: [1, 2, 3], severity: warning}\n"
    spec = SPEC.replace("    - {type: expect_table_row", even + "    - {type: expect_table_row")
    place = make_place(a_day=100, spec=spec + "quarantine_limit: 1\n")
    change(place.shop, "update payments set items = 1, amount = 1")
    change(place.shop, "update payments set amount = -1, items = 7 where payment_id = 3")
    change(place.shop, "update payments set amount = -1 where payment_id = 4")
    run_score(place, end="2026-01-02")

    counts = count_reasons(place.warehouse, standing_runs(place.warehouse, "card-risk"))
    told = invoke("quarantine", "release", "card-risk.yaml", "--failed", POSITIVE, "--yes")

    assert {(c.reason, c.held, c.released) for c in counts} == {
        (POSITIVE, 2, 0),
        ("items column_values_to_be_in_set (value_set=[1, 2, 3])", 1, 0),
    }
    assert "released 1 row" in told
    assert "1 row also failed other expectations" in told
    assert {3, 4} & {row[0] for row in view_rows(place.warehouse)} == {4}


def test_a_score_that_a_gate_refused_is_released_as_it_is(make_place: Callable[..., Place]) -> None:
    gate = "    - {type: expect_column_values_to_be_between, column: score, max_value: 0.6, severity: warning}\n"
    place = make_place(a_day=100, spec=SPEC.replace("  scores:\n", f"  scores:\n{gate}") + "quarantine_limit: 1\n")
    run_score(place, end="2026-01-02")
    before = len(view_rows(place.warehouse))

    invoke("quarantine", "release", "card-risk.yaml", "--yes")

    assert before < 100
    assert len(view_rows(place.warehouse)) == 100


def test_an_export_that_cannot_be_written_is_told_and_leaves_nothing(
    make_place: Callable[..., Place], tmp_path: Path
) -> None:
    dirty_place(make_place, "sqlite")
    (tmp_path / "folder").mkdir()

    told = CliRunner().invoke(app, ["quarantine", "export", "card-risk.yaml", str(tmp_path / "folder")])

    assert told.exit_code == 2
    assert "cannot be written: Is a directory" in " ".join(told.output.replace("│", " ").split())
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_quarantine_is_exported_with_the_rows_own_fields(
    make_place: Callable[..., Place], dialect: str, tmp_path: Path
) -> None:
    place = dirty_place(make_place, dialect)
    file = tmp_path / "refused.parquet"

    told = invoke("quarantine", "export", "card-risk.yaml", str(file))
    one = invoke("quarantine", "export", published(place)[1].run_id[:8], str(tmp_path / "one.parquet"))

    rows = pq.read_table(file).to_pylist()
    assert told == f"wrote 5 rows to {file}\n"
    assert "wrote 1 row" in one
    assert [(r["row_payment_id"], r["row_amount"], r["row_country"], r["state"]) for r in rows[:2]] == [
        (3, -5.0, json.loads(rows[0]["row"])["country"], "held"),
        (4, -5.0, json.loads(rows[1]["row"])["country"], "held"),
    ]
    assert {(r["stage"], r["reasons"][0]) for r in rows} >= {("payments", POSITIVE), ("payments", NOT_NULL)}
