"""When a task is tried again, and after how long."""

import pytest
from prefect.states import Failed

from penstock.errors import DatabaseUnavailable, MissingTable, PenstockError
from penstock.tasks.interval import prepare_partitions, resolve_model
from penstock.tasks.retries import if_transient
from penstock.tasks.steps import add_step, decide_rows, extract, load_rows, score_rows, validate


@pytest.mark.parametrize(
    ("error", "again"),
    [(DatabaseUnavailable("shop", "refused"), True), (MissingTable("shop", "payments", ()), False), (None, False)],
)
def test_only_a_transient_error_is_worth_another_try(error: PenstockError | None, again: bool) -> None:
    assert if_transient(None, None, Failed(data=error or ValueError("a bug"))) is again


@pytest.mark.parametrize("step", [resolve_model, prepare_partitions, extract, score_rows, add_step, load_rows])
def test_what_talks_to_a_database_or_a_store_waits_twice_as_long_each_time_and_not_all_at_once(step: object) -> None:
    assert step.retry_delay_seconds == [1, 2, 4, 8]  # type: ignore[attr-defined] # a task
    assert step.retry_jitter_factor == 0.5  # type: ignore[attr-defined] # a task


@pytest.mark.parametrize("step", [validate, decide_rows])
def test_what_computes_is_never_tried_again(step: object) -> None:
    assert step.retries == 0  # type: ignore[attr-defined] # a task
