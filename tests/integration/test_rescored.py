"""Recorded rows that are scored again come out as they were served, to the bit, unless a source has moved."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import yaml

from penstock.deployments.deploy.definition import define_pipeline
from penstock.errors import ServedDiffers
from penstock.explain.as_object import explanation_object
from penstock.explain.one_score import Explainer
from penstock.explain.scores import read_key
from penstock.explain.sections import build_sections
from penstock.labels.performance import add_up, list_judged_runs, read_performance, refresh_performance
from penstock.ledger.profiles import newest_profiled, read_profiles
from penstock.ledger.reader import validations_of
from penstock.ledger.served_rows import find_served_keys, served_table
from penstock.ledger.served_spool import open_spool, settle_served_runs
from penstock.ledger.tables import runs
from penstock.privacy.masking import NO_MASKING, MaskingPolicy
from penstock.privacy.row_key import RowKey
from penstock.report.card import run_card, write_sections
from penstock.run.partition_options import PartitionOptions
from penstock.serving.judged_grains import JudgedGrain, judge_grains
from penstock.serving.recorded_request import RecordedRequests
from penstock.serving.recorder import Recorder
from penstock.serving.rescored import RescoredRows, rescore
from penstock.serving.served_pipeline import ServedPipeline
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.erasure import ErasureRequest, erase
from penstock.upkeep.prune import prune
from penstock.upkeep.prune_plan import plan_prune
from penstock.upkeep.verify import verify_ledger
from tests.driver import SETTINGS
from tests.integration.test_labels import LATER, Shop, guess_labels, make_shop
from tests.integration.test_recorded import RECORDING
from tests.integration.test_serving import ROWS, make_served_place
from tests.integration.test_serving_snapshot import JOINED, TABLES, rows_of_shop
from tests.served import client_of, serve_pipeline
from tests.shop import SPEC, Place
from tests.steps import STEPS, train_steps

__all__ = ["make_shop"]

SCORE = "/pipelines/card-risk/score"
SENT: list[dict[str, Any]] = [{"rows": ROWS}, *({"rows": rows_of_shop(at, at + 40)} for at in range(0, 160, 20))]
"""Requests that repeat keys, and have rows that are refused."""
HELD = JOINED.replace("serve: {features: snapshot", "serve: {record: before_answer, features: snapshot")
BROUGHT = RECORDING.replace(
    "expectations:",
    "  customers: {kind: sql, connection: shop, table: customers, key: [customer_id]}\nexpectations:",
    1,
).replace(
    "select payment_id, amount * 1.5 as amount, items, country, first, country || '!' as shout from payments",
    "select p.payment_id, p.amount * coalesce(c.factor, 1.0) as amount, p.items, p.country, p.first from payments p "
    "left join customers c on c.customer_id = p.payment_id",
)

GROUPED = RECORDING.replace("amount * 1.5 as amount", "sum(amount) over (partition by country) as amount", 1).replace(
    "partition_rows:", "partition_by: country\npartition_rows:"
)


def serve_recorded(place: Place, requests: list[dict[str, Any]], masking: MaskingPolicy = NO_MASKING) -> ServedPipeline:
    """Answer requests by a server that records them."""
    pipeline = load_pipeline(place.spec)
    served = serve_pipeline(place, pipeline, masking)
    if pipeline.holds_snapshot:
        assert served.take_snapshot(), served.snapshot_problem
    assert served.scorer or served.take_models(), served.problem
    served.recorder = Recorder(
        RecordedRequests(pipeline, masking), served.connect, open_spool(place.folder), timedelta(minutes=1)
    )
    with client_of(served, poll_seconds=3600) as client:
        for body in requests:
            answer = client.post(SCORE, json=body)
            assert answer.status_code == 200, answer.text
    return served


def rescore_rows(place: Place, served: ServedPipeline, days: float = 1.0) -> RescoredRows:
    settings = SETTINGS.model_copy(update={"home": place.folder})
    now = datetime.now(UTC)
    return rescore(load_pipeline(place.spec), settings, served.connect, place.registry, now - timedelta(days=days), now)


@pytest.mark.parametrize("warehouse", ["sqlite", pytest.param("duckdb", marks=pytest.mark.slow)])
def test_recorded_rows_come_out_as_they_were_served(tmp_path: Path, warehouse: str) -> None:
    place = make_served_place(tmp_path, warehouse, RECORDING)
    served = serve_recorded(place, SENT)

    found = rescore_rows(place, served)

    assert found.rows == found.features == 324
    assert found.scores == 322  # two rows were refused
    assert (found.differ, found.left_out, found.moved) == ({}, {}, 0)
    found.refuse_difference("card-risk")
    assert rescore_rows(place, served, days=-1).rows == 0


def test_steps_come_out_as_they_were_served(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, spec=STEPS + "serve: {record: before_answer}\n", train=train_steps)

    found = rescore_rows(place, serve_recorded(place, SENT[1:3]))

    assert found.scores == found.features == 80
    assert found.differ == {}


def change(place: Place, **values: Any) -> None:
    """Change the recorded rows with a score of the first position of their requests."""
    table = served_table("card_risk_scores", None)
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(table).where(table.c.seq == 0).values(**values))


def test_a_score_that_is_not_equal_is_an_error(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, spec=RECORDING)
    served = serve_recorded(place, SENT[:2])
    with place.warehouse.reading() as connection:
        table = served_table("card_risk_scores", None)
        [outputs, _] = connection.execute(sa.select(table.c.outputs).where(table.c.seq == 0)).scalars().all()
    other = json.loads(outputs)
    other["score"] += 2**-53
    change(place, outputs=json.dumps(other))

    found = rescore_rows(place, served)

    assert found.differ == {"score differs": 2, "features differ": 2}
    with pytest.raises(ServedDiffers, match="the score of 2 rows from recorded features, 2 rows from the recorded row"):
        found.refuse_difference("card-risk")


def test_a_snapshot_of_the_same_digest_must_give_the_same_and_another_one_may_not(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, spec=HELD, changes=TABLES)
    served = serve_recorded(place, SENT[1:3])

    same = rescore_rows(place, served)
    with place.shop.writing() as connection:
        connection.execute(sa.text("update customers set factor = factor * 2 where customer_id < 11"))
    moved = rescore_rows(place, served)

    assert (same.scores, same.features, same.moved, same.differ) == (80, 80, 0, {})
    assert (moved.scores, moved.features, moved.differ) == (80, 0, {})
    assert (moved.moved, moved.unmoved) == (9, 71)  # payments 1 to 10, of which customer 7 is refused


def test_rows_that_a_request_brought_are_used_again(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, spec=BROUGHT, changes=TABLES)
    rows = rows_of_shop(0, 3)
    customers = [{"customer_id": number, "factor": number * 0.7 - 1.0} for number in (1, 2)]
    served = serve_recorded(place, [{"rows": rows, "sources": {"customers": customers}}, {"rows": rows}])

    found = rescore_rows(place, served)

    assert (found.scores, found.features, found.differ, found.moved) == (6, 6, {}, 0)


def test_the_rest_of_a_group_is_left_out_after_a_row_was_erased(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, spec=GROUPED)
    rows = [{**row, "country": "DE"} for row in rows_of_shop(0, 6)]
    served = serve_recorded(place, [{"rows": rows[:3]}, {"rows": rows[3:]}])

    whole = rescore_rows(place, served)
    request = ErasureRequest(load_pipeline(place.spec), RowKey({"payment_id": "1"}))
    erase(place.warehouse, request, NO_MASKING, b"x" * 16)
    left = rescore_rows(place, served)

    assert (whole.features, whole.differ) == (6, {})
    assert (left.scores, left.features, left.differ) == (5, 3, {})
    assert left.left_out == {"rows that the request brought were erased": 2}


def test_rows_that_another_spec_has_scored_are_left_out(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, spec=RECORDING)
    served = serve_recorded(place, SENT[:1])
    place.spec.write_text(RECORDING.replace("score > 0.5", "score > 0.6"))

    found = rescore_rows(place, served)

    assert found.left_out == {"the spec scores in another way since": 4}
    assert found.scores == 0


@pytest.mark.usefixtures("prefect_api")
def test_the_flow_fails_where_a_score_is_not_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.flows.served import served as flow

    place = make_served_place(tmp_path, spec=RECORDING)
    serve_recorded(place, SENT[:1])
    for name, database in (("SHOP", place.shop), ("WAREHOUSE", place.warehouse)):
        monkeypatch.setenv(f"PENSTOCK_CONNECTIONS__{name}", str(database.url))
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))

    good = flow(str(place.spec), return_state=True)
    change(place, outputs=json.dumps({"score": 0.5, "decision": "pass"}))
    bad = flow(str(place.spec), return_state=True)

    assert good.is_completed(), good.message
    assert "scores from recorded features: 2 of 2 are equal" in (good.message or "")
    assert bad.is_failed()
    assert "the score of 1 row from recorded features, 1 row from the recorded row" in (bad.message or "")


def test_a_pipeline_that_records_is_checked_each_night() -> None:
    def deployed(serve: dict[str, str]) -> list[str]:
        spec = yaml.safe_load(SPEC) | {"serve": serve}
        return [each.full_name for each in define_pipeline(Pipeline.model_validate(spec), "card-risk.yaml")]

    assert deployed({"record": "async"}) == ["score/card-risk", "served/card-risk"]
    assert deployed({}) == ["score/card-risk"]


JUDGED = RECORDING.replace(
    "    - {type: expect_table_row_count_to_be_between, min_value: 10}\n",
    "    - {type: expect_table_row_count_to_be_between, min_value: 1000}\n"
    "    - {type: expect_column_mean_to_be_between, column: amount, max_value: 0.5}\n",
)


def judge(place: Place, days: float) -> list[JudgedGrain]:
    """Judge what was recorded, as a call in so many days does it."""
    pipeline, now = load_pipeline(place.spec), datetime.now(UTC)
    settle_served_runs(place.warehouse, place.folder, pipeline)
    later = now + timedelta(days=days)
    return judge_grains(pipeline, place.warehouse, place.registry, PartitionOptions(NO_MASKING, 60), now, later)


def test_whole_columns_volume_and_drift_are_judged_when_the_interval_has_ended(tmp_path: Path) -> None:
    drifting = JUDGED + "drift: {against: model, watch: {amount: warning}, least_rows: 100}\n"
    place = make_served_place(tmp_path, spec=RECORDING)
    place.spec.write_text(drifting)
    dear = [{**row, "amount": 900.0 + row["payment_id"]} for row in rows_of_shop(0, 300)]
    serve_recorded(place, [{"rows": dear}])
    serve_recorded(place, [{"rows": ROWS}])  # by another process, so in another run

    early, [grain], again = judge(place, 0), judge(place, 2), judge(place, 2)

    assert early == []
    assert again == [grain]
    assert grain.rows == 304
    assert [(each.stage, each.outcome) for each in grain.failed] == [
        ("payments", "halted"),
        ("payments", "halted"),
        ("drift", "noted"),
    ]
    kept = {(each.stage, each.expectation): each for each in validations_of(place.warehouse, grain.run_id)}
    assert kept["volume", "quarantine_limit"].unexpected == 2
    profile = read_profiles(place.warehouse, grain.run_id)["amount"]
    assert profile.alarm == "warning"
    assert profile.counts.rows == 302
    card = run_card(place.warehouse, grain.run_id)
    assert "quarantine_limit" in card
    assert "Drift" in card
    shown = newest_profiled(place.warehouse, "card-risk")
    assert shown is None or shown.run_id != grain.run_id
    assert verify_ledger(place.warehouse) == ()


def test_what_was_served_for_a_key_is_found(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, spec=RECORDING)
    served = serve_recorded(place, [{"rows": ROWS}, {"rows": ROWS[:2]}])
    pipeline = load_pipeline(place.spec)
    explainer = Explainer(pipeline, SETTINGS, place.warehouse, served.connect, place.registry)

    scored, refused = (explainer.explain(RowKey({"payment_id": key})) for key in ("1", "2"))
    shown = "\n".join(write_sections(build_sections(pipeline, scored.record, (), "", "")))

    assert [row["status"] for row in explanation_object(pipeline, scored)["served"]] == ["scored", "scored"]
    assert [row.status for row in refused.record.served] == ["refused", "refused"]
    assert scored.record.served[0].outputs is not None
    assert "Served to requests, the newest first" in shown
    assert scored.record.served[0].request_id in shown


def test_only_the_newest_rows_of_a_key_are_read(tmp_path: Path) -> None:
    place = make_served_place(tmp_path, spec=RECORDING)
    serve_recorded(place, [{"rows": ROWS[:1]} for _ in range(4)])
    pipeline, keys = load_pipeline(place.spec), ['{"payment_id": "1"}']
    settle_served_runs(place.warehouse, place.folder, pipeline)
    every = find_served_keys(place.warehouse, pipeline.name, pipeline.destination, keys, 9)

    read: list[int] = []
    sa.event.listen(place.warehouse.engine, "after_cursor_execute", lambda *of: read.append("LIMIT" in of[2]))
    newest = find_served_keys(place.warehouse, pipeline.name, pipeline.destination, keys, 2)
    shown = read_key(place.warehouse, pipeline, RowKey({"payment_id": "1"}), NO_MASKING, None)

    assert len(every) == 4
    assert newest == every[:2]
    assert sum(read) == 1  # the database leaves the other rows out
    assert shown.served == ()


def test_labels_join_recorded_rows(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(spec=SPEC + "serve: {record: before_answer}\n")
    scores = shop.scores()
    labels = guess_labels({key: scores[key] for key in range(1, 101)})
    serve_recorded(shop.place, [{"rows": rows_of_shop(0, 100)}, {"rows": rows_of_shop(0, 100)}])
    shop.report([(key, label, LATER - timedelta(days=1)) for key, label in labels.items()])
    shop.collect()
    first = refresh_performance(shop.warehouse, shop.question())
    serve_recorded(shop.place, [{"rows": rows_of_shop(0, 50)}])
    shop.report([(1, None, LATER)])  # it is taken back
    shop.collect(LATER + timedelta(days=1))
    second = refresh_performance(shop.warehouse, shop.question())

    judged = read_performance(shop.warehouse, list_judged_runs(shop.warehouse, "card-risk", recorded=LATER))
    live, served = add_up(judged)

    assert (first.runs, second.runs) == (4, 3)  # the run of its day, and those of the requests
    assert (live.variant, served.variant, served.runs) == ("live", "served", 2)
    assert (served.rows.scored, served.rows.labelled) == (250, 247)
    counted = [key for most in (100, 100, 50) for key in range(2, most + 1)]
    brier = float(np.mean([(scores[key] - labels[key]) ** 2 for key in counted]))
    assert dict(served.rows.sums.metrics())["brier"].value == pytest.approx(brier)
    assert {run.variant for run in list_judged_runs(shop.warehouse, "card-risk")} == {"live"}


def test_performance_of_recorded_rows_stays_when_they_are_erased_and_pruned(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(spec=SPEC + "serve: {record: before_answer}\n")
    now = datetime.now(UTC)
    serve_recorded(shop.place, [{"rows": rows_of_shop(0, 50)}])
    shop.report([(key, key % 2, now) for key in range(1, 51)])
    erase(shop.warehouse, ErasureRequest(shop.pipeline, RowKey({"payment_id": "2"})), NO_MASKING, b"x" * 16)
    with shop.warehouse.writing() as connection:  # its process lives, and no request comes any more
        connection.execute(sa.update(runs).where(runs.c.variant == "served").values(state="recording"))
    shop.collect(now + timedelta(days=1))

    def refresh(days: int) -> tuple[int, list[int]]:
        question = shop.question(now + timedelta(days=days))
        computed = refresh_performance(shop.warehouse, question).runs
        judged = list_judged_runs(shop.warehouse, "card-risk", recorded=question.now)
        found = [each.all_rows for each in read_performance(shop.warehouse, judged) if each.run.variant == "served"]
        return computed, [sums.scored for sums in found]

    early, [first, again] = refresh(-2), [refresh(2) for _ in range(2)]
    prune(shop.warehouse, plan_prune(shop.warehouse, shop.pipeline, now + timedelta(days=31)))
    mature = refresh(60)

    assert early[1] == []
    assert (first, again, mature) == ((1, [49]), (0, [49]), (0, [49]))
