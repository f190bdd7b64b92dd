"""What a release changes: which intervals are due, and what the gates let through."""

from datetime import UTC, datetime

import pyarrow as pa

from penstock.ledger.coverage import NOTHING_DONE
from penstock.privacy.masking import NO_MASKING
from penstock.run.partition_options import PartitionOptions
from penstock.run.planning import Mode, PlanRequest, plan_intervals
from penstock.run.validate import validate_partition
from penstock.run_types import ExtractedRows, Features, ModelPin, NullKey, Partition, ScoringRun
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC
from tests.unit.run.test_planning import GRID, NOW, coverage, days_of, pipeline, same

KEYS = [interval.key for interval in GRID]
RATES = """
name: card-risk
sources:
  payments: {kind: sql, connection: shop, table: payments, key: [payment_id]}
  rates: {kind: sql, connection: shop, table: rates}
expectations:
  rates:
    - {type: expect_column_values_to_be_between, column: rate, min_value: 0, severity: warning}
features: select payment_id, rate from payments join rates using (country)
model: card-risk@champion
destination: {table: scores}
"""


def reasons(mode: Mode, *released: int) -> dict[int, str]:
    keys = {KEYS[day] for day in released}
    plan = plan_intervals(PlanRequest(pipeline(lookback=2), coverage(*range(9)), NOW, same, mode, released=keys))
    return {(p.interval.start - GRID[0].start).days: p.reason for p in plan.intervals if p.interval}


def test_a_release_makes_its_published_interval_due_however_old_it_is() -> None:
    assert reasons("due", 1) == {1: "release", 9: "due"}


def test_a_run_for_releases_takes_nothing_else() -> None:
    assert reasons("release", 1, 4) == {1: "release", 4: "release"}
    assert reasons("release") == {}


def test_a_released_interval_that_was_never_published_is_scored_too() -> None:
    assert reasons("release", 9) == {9: "due"}


def test_a_withdrawn_interval_is_not_brought_back_by_a_release() -> None:
    done = coverage(*range(1, 10), withdrawn=[0])

    plan = plan_intervals(PlanRequest(pipeline(), done, NOW, same, "due", released={KEYS[0]}))

    assert days_of(plan) == []


def test_a_snapshot_is_scored_for_a_release_only_where_there_is_one() -> None:
    data = pipeline().model_dump(mode="json", by_alias=True) | {"interval": None}
    snapshot = Pipeline.model_validate(data)

    assert plan_intervals(PlanRequest(snapshot, NOTHING_DONE, NOW, same, "release")).intervals == ()
    assert (
        len(plan_intervals(PlanRequest(snapshot, NOTHING_DONE, NOW, same, "release", released={"snapshot"})).intervals)
        == 1
    )


def pass_rates(waivers: dict[str, frozenset[str]], rate: float = -1.0) -> Features:
    spec = parse_pipeline(RATES.encode(), "x")
    run = ScoringRun("r", spec, None, ModelPin("card-risk", "1", "d"), "t")
    payments = pa.table({"payment_id": [1, 2], "country": ["DE", "FR"]})
    rates = pa.table({"country": ["DE", "FR"], "rate": [1.0, rate]})
    return validate_partition(
        run,
        Partition(0, 1, None, None, 2),
        ExtractedRows(payments, {"rates": rates}, waivers),
        PartitionOptions(NO_MASKING, 60),
    )


def test_a_released_row_of_another_source_is_joined_again_until_it_changes() -> None:
    [refusal] = pass_rates({}).refusals
    waivers = {refusal.digest: frozenset(reason.text for reason in refusal.reasons)}

    passed, changed = pass_rates(waivers), pass_rates(waivers, rate=-2.0)

    assert (passed.refusals, passed.table["payment_id"].to_pylist()) == ((), [1, 2])
    assert len(changed.refusals) == 1
    assert [v.outcome for v in passed.validations] == ["noted"]
    assert "1 of them released before" in passed.validations[0].detail


def test_a_row_without_a_key_stays_refused_whatever_was_released() -> None:
    spec = parse_pipeline(SPEC.encode(), "x")
    run = ScoringRun("r", spec, None, ModelPin("card-risk", "1", "d"), "t")
    table = pa.table(
        {
            "payment_id": pa.array([None], pa.int64()),
            "created_at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            "amount": pa.array([-1.0]),
        }
    )
    partition = Partition(0, 1, None, None, 1)
    [refusal] = validate_partition(run, partition, ExtractedRows(table, {}), PartitionOptions(NO_MASKING, 60)).refusals

    waivers = {refusal.digest: frozenset(r.text for r in refusal.reasons if r != NullKey())}
    [again] = validate_partition(
        run, partition, ExtractedRows(table, {}, waivers), PartitionOptions(NO_MASKING, 60)
    ).refusals

    assert again.reasons == (NullKey(),)
