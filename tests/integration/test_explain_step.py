"""The step that explains a run's rows: the same ones whatever cut them up, once, and whole or not at all."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from threading import Barrier, BrokenBarrierError
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from penstock.errors import PartitionMoved, ReconciliationFailed, TakenOver
from penstock.interval import DataInterval
from penstock.ledger.reader import RunRecord, list_runs
from penstock.privacy.masking import NO_MASKING
from penstock.privacy.row_key import RowKey
from penstock.run import explained_rows
from penstock.run.key_hash import hash_keys
from penstock.run.planning import PlannedInterval
from penstock.run_types import ChosenRows, Receipt, ScoringRun
from penstock.scoring_steps import ScoringSteps
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.erasure import ErasureRequest, erase
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.driver import Driver, lapse_leases
from tests.integration.test_reasons import contributions_of_the_shop, reasons_of
from tests.shop import SPEC, START, Place, payments

A_DAY, MOST = 120, 12
LATER = datetime.fromisoformat("2026-01-02T00:00:00+00:00")
DAY = DataInterval(START, LATER)
GERMAN = "\nreasons: {when: country = 'DE', top: 3, budget: {rows: 12}}\n"
LIVE = "card_risk_scores_reasons"


def lowest(keys: list[int], count: int) -> set[int]:
    """The keys with the lowest hashes, found without the product's choice."""
    ranked = sorted(zip(hash_keys(pa.table({"payment_id": keys}), DAY.key), keys, strict=True))
    return {key for _, key in ranked[:count]}


def german_keys() -> list[int]:
    rows: Any = payments(days=1, a_day=A_DAY).to_pylist()
    return [row["payment_id"] for row in rows if row["country"] == "DE"]


def shown(place: Place) -> list[tuple[Any, ...]]:
    """The reasons of the live runs, without their run."""
    return [tuple(v for name, v in row.items() if name != "run_id") for row in reasons_of(place.warehouse, LIVE)]


def score(place: Place, partition_rows: int = 100, **fields: Any) -> RunRecord:
    """Score the day again and return its published run."""
    pipeline = load_pipeline(place.spec).model_copy(update={"partition_rows": partition_rows, **fields})
    assert Driver(pipeline, connect, place.registry).run(LATER, "restate", START, LATER)[-1] == "publish"
    [run] = list_runs(place.warehouse, states=["published"])
    return run


@pytest.mark.parametrize(("dialect", "cuts"), [("sqlite", (1, 4, 40)), ("postgresql", (1, 4)), ("duckdb", (1, 4))])
def test_the_same_rows_have_the_same_reasons_however_many_partitions_there_are(
    make_place: Callable[..., Place], dialect: str, cuts: tuple[int, ...]
) -> None:
    place = make_place(dialect, dialect, spec=SPEC + GERMAN, days=1, a_day=A_DAY)
    seen = []
    for partitions in cuts:
        run = score(place, A_DAY // partitions)
        assert run.partitions == partitions
        assert (run.rows_explained, run.rows_over_budget) == (MOST, len(german_keys()) - MOST)
        seen.append(shown(place))
    assert verify_ledger(place.warehouse) == ()

    assert all(each == seen[0] for each in seen)
    found = reasons_of(place.warehouse, LIVE)
    explained = {row["payment_id"] for row in found if row["text"] != "budget"}
    assert {row["payment_id"] for row in found} == set(german_keys())
    assert explained == lowest(german_keys(), MOST)
    theirs = contributions_of_the_shop(place, A_DAY)
    for row in found:
        if row["rank"]:
            assert row["contribution"] == pytest.approx(theirs[row["payment_id"]][row["feature"]], abs=1e-6)
        else:
            assert (row["feature"], row["contribution"], row["value"]) == (None, None, None)


def test_a_selective_condition_on_many_partitions_explains_every_chosen_row(make_place: Callable[..., Place]) -> None:
    spec = SPEC + "\nreasons: {when: payment_id % 100 = 7, budget: {rows: 5}, over_budget: halt}\n"
    place = make_place(spec=spec, days=1, a_day=400)

    run = score(place, 10)

    assert (run.partitions, run.rows_explained, run.rows_over_budget) == (40, 4, 0)
    assert {row["payment_id"] for row in reasons_of(place.warehouse, LIVE)} == {7, 107, 207, 307}
    assert all(row["rank"] for row in reasons_of(place.warehouse, LIVE))


def test_the_budget_in_seconds_explains_as_many_rows_as_the_estimate_says(make_place: Callable[..., Place]) -> None:
    place = make_place(spec=SPEC + GERMAN, days=1, a_day=A_DAY)
    a_row = place.registry.load(place.registry.resolve("card-risk@champion")).explained_row_seconds
    reasons = load_pipeline(place.spec).reasons
    assert reasons is not None
    budget = reasons.budget.model_copy(update={"seconds": 7.5 * a_row})

    run = score(place, 30, reasons=reasons.model_copy(update={"budget": budget}))

    assert (run.rows_explained, run.rows_over_budget) == (7, len(german_keys()) - 7)
    explained = {row["payment_id"] for row in reasons_of(place.warehouse, LIVE) if row["rank"]}
    assert explained == lowest(german_keys(), 7)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("rows", [0, MOST])
def test_a_budget_of_no_rows_and_a_condition_of_no_rows_leave_clean_ledgers(
    make_place: Callable[..., Place], dialect: str, rows: int
) -> None:
    spec = SPEC + GERMAN.replace(str(MOST), str(rows)).replace("'DE'", "'DE'" if not rows else "'XX'")
    place = make_place(dialect, dialect, spec=spec, days=1, a_day=40)

    run = score(place, 10)

    counted = {row["country"] for row in payments(days=1, a_day=40).to_pylist()}
    assert "DE" in counted
    assert run.rows_explained == 0
    assert bool(run.rows_over_budget) is (rows == 0)
    assert verify_ledger(place.warehouse) == ()


class Begun:
    """A run whose partitions are loaded, and that has not explained its rows."""

    def __init__(self, place: Place, partition_rows: int = 60) -> None:
        pipeline = load_pipeline(place.spec).model_copy(update={"partition_rows": partition_rows})
        self.steps: ScoringSteps = Driver(pipeline, connect, place.registry).does
        self.steps.open_ledger()
        pins = {step.name: place.registry.resolve(step.model) for step in pipeline.steps}
        run = self.steps.claim(PlannedInterval(DAY, "due"), pins)
        assert run is not None
        self.run: ScoringRun = run
        self.receipts: list[Receipt] = []
        self.chosen = ChosenRows()
        with ExitStack() as snapshots:
            for partition in self.steps.prepare(run, None, snapshots).partitions:
                features = self.steps.validate(run, partition, self.steps.extract(run, partition), 1.0)
                receipt = self.steps.load(run, partition, self.steps.score(run, partition, features, 1.0), {})
                self.chosen = self.chosen.add(receipt.chosen)
                self.receipts.append(replace(receipt, chosen=None))

    def explain(self) -> Any:
        return self.steps.explain(self.run, self.receipts, self.chosen)

    def publish(self) -> None:
        self.steps.publish(self.run, self.steps.audit(self.run, self.receipts))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_second_call_of_the_step_changes_nothing(make_place: Callable[..., Place], dialect: str) -> None:
    place = make_place(dialect, dialect, spec=SPEC + GERMAN, days=1, a_day=A_DAY)
    begun = Begun(place)
    before = reasons_of(place.warehouse)
    assert {(row["rank"], row["text"]) for row in before} == {(0, "budget")}

    first = begun.explain()
    stored = reasons_of(place.warehouse)
    again = begun.explain()
    begun.publish()

    assert first == again
    assert reasons_of(place.warehouse) == stored
    assert {row["payment_id"] for row in stored} == {row["payment_id"] for row in before}
    assert verify_ledger(place.warehouse) == ()


def test_of_two_calls_of_the_step_at_once_the_second_waits_and_finds_the_reasons(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place("postgresql", "postgresql", spec=SPEC + GERMAN, days=1, a_day=A_DAY)
    begun = Begun(place)
    both, select_counts = Barrier(2, timeout=2), explained_rows._select_counts

    def meet_first(run: ScoringRun) -> Any:
        """Let both look at the run's row at the same time, unless one of them waits for the other."""
        with contextlib.suppress(BrokenBarrierError):
            both.wait()
        return select_counts(run)

    monkeypatch.setattr(explained_rows, "_select_counts", meet_first)
    with ThreadPoolExecutor(2) as pool:
        first, second = (each.result() for each in [pool.submit(begun.explain) for _ in range(2)])
    begun.publish()

    assert first == second
    assert both.broken  # the second one waited
    assert verify_ledger(place.warehouse) == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_run_that_dies_around_the_step_leaves_a_clean_ledger_and_the_next_has_the_same_reasons(
    make_place: Callable[..., Place], dialect: str
) -> None:
    place = make_place(dialect, dialect, spec=SPEC + GERMAN, days=1, a_day=60)
    for explains in (False, True):
        begun = Begun(place)
        if explains:
            begun.explain()
        assert verify_ledger(place.warehouse) == ()
        lapse_leases(place.warehouse)
        begun.steps.abandon_dead_runs()
        assert shown(place) == []
    twin = score(place, 60)
    expected = shown(place)

    healed = score(place, 20)

    assert shown(place) == expected
    assert (healed.rows_explained, healed.rows_over_budget) == (twin.rows_explained, twin.rows_over_budget)
    assert verify_ledger(place.warehouse) == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_run_that_was_given_up_explains_nothing(make_place: Callable[..., Place], dialect: str) -> None:
    place = make_place(dialect, dialect, spec=SPEC + GERMAN, days=1, a_day=60)
    begun = Begun(place)
    stored = reasons_of(place.warehouse)
    lapse_leases(place.warehouse)
    begun.steps.abandon_dead_runs()

    with pytest.raises(TakenOver):
        begun.explain()

    assert reasons_of(place.warehouse) == stored


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kept", [True, False])
def test_a_key_that_is_erased_before_the_step_gets_no_reasons_and_the_run_fails(
    make_place: Callable[..., Place], dialect: str, kept: bool
) -> None:
    place = make_place(dialect, dialect, spec=SPEC + GERMAN, days=1, a_day=A_DAY)
    begun = Begun(place)
    explained = lowest(german_keys(), MOST)
    key = next(key for key in german_keys() if (key in explained) is kept)
    erase(place.warehouse, ErasureRequest(begun.run.pipeline, RowKey({"payment_id": str(key)})), NO_MASKING, b"s" * 16)
    stored = reasons_of(place.warehouse)

    with pytest.raises(ReconciliationFailed, match=r"rows are chosen, but the table of reasons has"):
        begun.explain()

    assert reasons_of(place.warehouse) == stored
    assert key not in {row["payment_id"] for row in stored}
    [run] = list_runs(place.warehouse)
    assert run.rows_explained is None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_second_copy_of_a_partition_with_other_scores_is_refused(
    make_place: Callable[..., Place], dialect: str
) -> None:
    place = make_place(dialect, dialect, spec=SPEC + GERMAN, days=1, a_day=60)
    begun = Begun(place)
    [receipt] = begun.receipts
    run, partition = begun.run, replace(receipt.partition, snapshots={})
    extracted = begun.steps.extract(run, partition)
    dearer = pc.multiply(extracted.primary["amount"], 100.0)
    position = extracted.primary.schema.get_field_index("amount")
    changed = replace(extracted, primary=extracted.primary.set_column(position, "amount", dearer))
    same, other = (
        begun.steps.score(run, partition, begun.steps.validate(run, partition, each, 1.0), 1.0)
        for each in (extracted, changed)
    )

    again = begun.steps.load(run, partition, same, {})
    with pytest.raises(PartitionMoved):
        begun.steps.load(run, partition, other, {})

    assert again.chosen is not None
    assert again.chosen.kept_rows == begun.chosen.kept_rows
    assert len(reasons_of(place.warehouse)) == begun.chosen.total


def test_an_audit_without_the_step_refuses_to_publish(make_place: Callable[..., Place]) -> None:
    place = make_place(spec=SPEC + GERMAN, days=1, a_day=A_DAY)
    begun = Begun(place)

    with pytest.raises(ReconciliationFailed, match="no reasons were made of its scores"):
        begun.publish()


def test_a_partition_that_a_gate_halts_leaves_the_rows_of_the_others_unexplained(
    make_place: Callable[..., Place],
) -> None:
    amounts: Any = payments(days=1, a_day=40)["amount"].to_pylist()
    most = sorted(amounts)[-2]
    critical = f"{{type: expect_column_values_to_be_between, column: amount, max_value: {most}, severity: critical}}"
    spec = SPEC.replace("  payments:\n    - {", f"  payments:\n    - {critical}\n    - {{", 1) + GERMAN
    place = make_place(spec=spec, days=1, a_day=40)
    pipeline = load_pipeline(place.spec).model_copy(update={"partition_rows": 10})

    steps = Driver(pipeline, connect, place.registry).run(LATER)

    assert steps[-1].startswith("halted: ")
    assert "explain" not in steps
    assert {row["text"] for row in reasons_of(place.warehouse)} <= {"budget"}
    [run] = list_runs(place.warehouse)
    assert run.rows_explained is None
    assert verify_ledger(place.warehouse) == ()
