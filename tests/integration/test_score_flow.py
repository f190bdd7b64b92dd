"""The main job end to end: the real flow on real databases and a real Prefect server."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Connector, Database
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import list_runs, partitions_of, validations_of
from penstock.ledger.writer import withdraw
from tests.conftest import view_rows
from tests.outcomes import outcome_of
from tests.shop import SPEC, Place, payments, payments_table

pytestmark = pytest.mark.usefixtures("prefect_api")


def run_score(place: Place, **parameters: Any) -> Any:
    from penstock.flows.score import score

    return score(str(place.spec), **({"end": "2026-01-04"} | parameters), return_state=True)


def dump_view(database: Database) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        return [tuple(r) for r in connection.execute(sa.text("select * from card_risk_scores order by payment_id"))]


def change(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(sa.text(statement))


def expected_scores(place: Place) -> dict[int, float]:
    """XGBoost's own prediction on the same rows, without Penstock in between."""
    import xgboost as xgb

    rows = payments()
    manifest = place.registry.manifest("card-risk", "1")
    booster = xgb.Booster()
    booster.load_model(place.registry.folder / "card-risk" / "1" / manifest.file)
    frame = rows.select(list(manifest.feature_names)).to_pandas()
    for feature in manifest.features:
        if feature.dtype == "category":
            frame[feature.name] = frame[feature.name].astype("category").cat.set_categories(list(feature.categories))
    last = manifest.best_iteration
    matrix = xgb.DMatrix(frame, enable_categorical=True)
    scores = booster.predict(matrix, iteration_range=(0, last + 1) if last is not None else (0, 0))
    return dict(zip(rows["payment_id"].to_pylist(), map(float, scores), strict=True))


@pytest.mark.parametrize(
    ("shop", "warehouse"),
    [
        ("sqlite", "sqlite"),
        ("postgresql", "postgresql"),
        ("duckdb", "duckdb"),
        ("postgresql", "sqlite"),
        ("sqlite", "duckdb"),
    ],
)
def test_every_database_gives_xgboosts_own_scores(make_place: Callable[..., Place], shop: str, warehouse: str) -> None:
    place = make_place(shop, warehouse)

    state = run_score(place, end="2026-01-03")

    assert state.is_completed(), state.message
    expected = {key: score for key, score in expected_scores(place).items() if key <= 500}
    rows = view_rows(place.warehouse)
    assert [row[0] for row in rows] == sorted(expected)
    assert max(abs(row[1] - expected[row[0]]) for row in rows) < 1e-6
    for run in list_runs(place.warehouse):
        assert (run.state, run.rows_extracted, run.rows_scored, run.partitions) == ("published", 250, 250, 2)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "duckdb"])
def test_dirty_rows_go_to_quarantine_and_a_halt_leaves_the_view_untouched(
    make_place: Callable[..., Place], dialect: str
) -> None:
    place = make_place(dialect, dialect, a_day=150)
    change(place.shop, "update payments set amount = null where payment_id in (3, 4)")
    change(place.shop, "update payments set amount = -5 where payment_id = 160")
    change(place.shop, "update payments set country = 'XX' where payment_id = 161")

    state = run_score(place, end="2026-01-03")

    assert state.is_completed(), state.message
    refused = {(q.stage, q.key): q.reasons for q in quarantined_rows(place.warehouse)}
    assert set(refused) == {
        ("payments", '{"payment_id": 3}'),
        ("payments", '{"payment_id": 4}'),
        ("payments", '{"payment_id": 160}'),
        ("model", '{"payment_id": 161}'),
    }
    assert "unseen category" in refused["model", '{"payment_id": 161}'][0]
    assert [(r.rows_extracted, r.rows_scored, r.rows_quarantined) for r in list_runs(place.warehouse)] == [
        (150, 148, 2),
        (150, 148, 2),
    ]

    before = dump_view(place.warehouse)
    change(place.shop, "update payments set amount = null where payment_id > 300 and payment_id <= 400")
    halted = run_score(place)
    assert outcome_of(halted) == "halted"
    assert "quarantine_limit" in halted.message or "refused" in halted.message
    assert dump_view(place.warehouse) == before
    assert list_runs(place.warehouse)[0].state == "halted"

    change(place.shop, "update payments set amount = 10 where amount is null and payment_id > 300")
    assert run_score(place).is_completed()
    assert len(dump_view(place.warehouse)) == 446


def test_a_second_run_changes_nothing_and_a_restate_supersedes_and_a_withdraw_takes_out(
    make_place: Callable[..., Place],
) -> None:
    place = make_place()
    run_score(place)
    first = dump_view(place.warehouse)

    again = run_score(place)
    assert outcome_of(again) == "skipped"
    assert dump_view(place.warehouse) == first
    assert len(list_runs(place.warehouse)) == 3

    restated = run_score(place, mode="restate", start="2026-01-02", end="2026-01-03")
    assert restated.is_completed(), restated.message
    assert view_rows(place.warehouse) == [row[:2] + row[2:4] for row in first]
    states = sorted((r.interval_key[:10], r.state) for r in list_runs(place.warehouse))
    assert states == [
        ("2026-01-01", "published"),
        ("2026-01-02", "published"),
        ("2026-01-02", "superseded"),
        ("2026-01-03", "published"),
    ]

    newest = next(
        r for r in list_runs(place.warehouse) if r.interval_key[:10] == "2026-01-02" and r.state == "published"
    )
    withdraw(place.warehouse, newest.run_id)
    assert len(dump_view(place.warehouse)) == 500
    assert outcome_of(run_score(place)) == "skipped"


def test_late_rows_restate_only_the_interval_they_touch(make_place: Callable[..., Place]) -> None:
    place = make_place()
    run_score(place)
    late = payments_table()
    record = payments().slice(0, 1).to_pylist()[0] | {"payment_id": 9001}
    for column in ("created_at", "updated_at"):
        record[column] = record[column].replace(tzinfo=None)
    with place.shop.writing() as connection:
        connection.execute(late.insert(), [record])

    state = run_score(place)

    assert state.is_completed(), state.message
    newest = list_runs(place.warehouse)[0]
    assert (newest.interval_key[:10], newest.reason, newest.rows_scored) == ("2026-01-01", "late rows", 251)
    assert len(list_runs(place.warehouse)) == 4


def test_an_empty_interval_halts_unless_the_spec_says_that_it_is_normal(make_place: Callable[..., Place]) -> None:
    place = make_place(days=2)

    state = run_score(place, start="2026-01-03")
    assert outcome_of(state) == "halted"
    assert "`payments` has no rows" in state.message

    text = SPEC.replace("partition_rows", "empty: publish\npartition_rows").replace(
        "    - {type: expect_table_row_count_to_be_between, min_value: 10}\n", ""
    )
    place.spec.write_text(text)
    assert run_score(place, start="2026-01-03").is_completed()
    run = list_runs(place.warehouse)[0]
    assert (run.state, run.rows_extracted) == ("published", 0)
    assert "vacuous" in {v.outcome for v in validations_of(place.warehouse, run.run_id)}


def test_features_that_drop_keys_are_counted_as_excluded(make_place: Callable[..., Place]) -> None:
    features = "features: |\n  select * from payments where country <> 'PL'\n"
    place = make_place(spec=SPEC + features)

    assert run_score(place, end="2026-01-02").is_completed()

    run = list_runs(place.warehouse)[0]
    poles = sum(c == "PL" for c in payments().slice(0, 250)["country"].to_pylist())
    assert (run.rows_extracted, run.rows_scored, run.rows_excluded) == (250, 250 - poles, poles)


@pytest.mark.parametrize(
    ("features", "culprit"),
    [
        ("select p.* from payments p join (values (1), (2)) t(n) on true", "more than one row for a key"),
        ("select payment_id + 100000 as payment_id, amount, items, country, first from payments", "does not have"),
    ],
)
def test_features_that_break_the_key_halt(make_place: Callable[..., Place], features: str, culprit: str) -> None:
    place = make_place(spec=SPEC + f"features: {features}\n")

    state = run_score(place, end="2026-01-02")

    assert outcome_of(state) == "halted"
    assert culprit in state.message


def test_a_critical_row_expectation_halts_with_its_findings_kept(make_place: Callable[..., Place]) -> None:
    spec = SPEC.replace("min_value: 0, severity: warning", "min_value: 0, severity: critical")
    place = make_place(spec=spec)
    change(place.shop, "update payments set amount = -1 where payment_id = 7")

    state = run_score(place, end="2026-01-02")

    assert outcome_of(state) == "halted"
    run = list_runs(place.warehouse)[0]
    halted = [v for v in validations_of(place.warehouse, run.run_id) if v.outcome == "halted"]
    assert [(v.stage, v.unexpected) for v in halted] == [("payments", 1)]
    assert "-1" in halted[0].detail


def test_a_snapshot_supersedes_the_one_before(make_place: Callable[..., Place]) -> None:
    interval = next(line for line in SPEC.splitlines() if line.startswith("interval:"))
    place = make_place(spec=SPEC.replace(interval + "\n", ""))

    run_score(place, end="")
    change(place.shop, "delete from payments where payment_id <= 50")
    state = run_score(place, end="")

    assert state.is_completed(), state.message
    assert [r.state for r in list_runs(place.warehouse)] == ["published", "superseded"]
    assert len(view_rows(place.warehouse)) == 700


def test_a_key_that_is_not_unique_halts_and_names_it(make_place: Callable[..., Place]) -> None:
    place = make_place()
    change(place.shop, "create table twice as select * from payments")
    change(place.shop, "insert into twice select * from payments where payment_id = 42")
    place.spec.write_text(SPEC.replace("table: payments", "table: twice"))

    state = run_score(place, end="2026-01-02")

    assert outcome_of(state) == "halted"
    assert "42 (2 rows)" in state.message


def test_arrow_is_what_travels(make_place: Callable[..., Place]) -> None:
    from penstock.sources import open_source
    from penstock.spec.yaml_file import load_pipeline

    place = make_place()
    table = open_source(load_pipeline(place.spec), "payments", Connector(lambda _: place.shop, ())).read(None)

    assert table.schema.field("created_at").type == pa.timestamp("us", "UTC")
    assert table.schema.field("first").type == pa.bool_()
    assert table.num_rows == 750


def test_partitions_run_in_processes_too(make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.tasks.process_resources import settings

    place = make_place(days=1)
    monkeypatch.setenv("PENSTOCK_RUNNER", "processes:2")
    settings.cache_clear()

    state = run_score(place, end="2026-01-02")

    assert state.is_completed(), state.message
    assert [row[0] for row in view_rows(place.warehouse)] == list(range(1, 251))
    [run] = list_runs(place.warehouse)
    loaded = partitions_of(place.warehouse, run.run_id)
    elsewhere = {p.process for p in loaded}
    assert run.lease_owner not in elsewhere
    assert run.processes == 1 + len(elsewhere)
    assert run.cpu_seconds > max(p.cpu_seconds for p in loaded)
    assert run.peak_bytes > max(p.peak_bytes for p in loaded)
