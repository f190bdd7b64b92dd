"""When a task is tried again, and after how long."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.states import Failed

from penstock.errors import DatabaseLocked, DatabaseUnavailable, MissingTable, PenstockError
from penstock.settings import Settings
from penstock.tasks.interval import prepare_partitions, publish_run, resolve_model
from penstock.tasks.retries import if_transient
from penstock.tasks.steps import add_step, decide_rows, extract, load_rows, score_rows, validate


@dataclass
class TaskRun:
    """What Prefect hands over."""

    run_count: int


@pytest.mark.parametrize(
    ("error", "again"),
    [(DatabaseUnavailable("shop", "refused"), True), (MissingTable("shop", "payments", ()), False), (None, False)],
)
def test_only_a_transient_error_is_worth_another_try(error: PenstockError | None, again: bool) -> None:
    assert if_transient(None, TaskRun(run_count=1), Failed(data=error or ValueError("a bug"))) is again


@pytest.mark.parametrize(("dialect", "tries"), [("sqlite", 4), ("duckdb", 11)])
def test_a_file_that_one_process_at_a_time_can_open_is_waited_for_longer(
    use_settings: Callable[..., Settings], tmp_path: Path, dialect: str, tries: int
) -> None:
    use_settings(warehouse=f"{dialect}:///{tmp_path}/warehouse.db")
    locked = Failed(data=DatabaseLocked("warehouse", "Could not set lock on file"))

    assert [if_transient(None, TaskRun(run_count=n), locked) for n in (tries, tries + 1)] == [True, False]


@pytest.mark.parametrize("step", [resolve_model, prepare_partitions, extract, score_rows, add_step, load_rows])
def test_what_talks_to_a_database_or_a_store_waits_twice_as_long_each_time_and_not_all_at_once(step: object) -> None:
    assert step.retry_delay_seconds == [1, 2, 4, 8]  # type: ignore[attr-defined] # a task
    assert step.retry_jitter_factor == 0.5  # type: ignore[attr-defined] # a task


def test_publishing_is_tried_for_minutes_because_all_is_scored_by_then() -> None:
    condition, gone = publish_run.retry_condition_fn, Failed(data=DatabaseUnavailable("warehouse", "refused"))
    assert condition is not None

    assert publish_run.retries == 8
    assert all(condition(publish_run, TaskRun(run_count=n), gone) for n in range(1, 9))
    assert not condition(publish_run, TaskRun(run_count=1), Failed(data=MissingTable("shop", "payments", ())))
    assert sum(publish_run.retry_delay_seconds) == 255  # type: ignore[arg-type] # a list


@pytest.mark.parametrize("step", [validate, decide_rows])
def test_what_computes_is_never_tried_again(step: object) -> None:
    assert step.retries == 0  # type: ignore[attr-defined] # a task
