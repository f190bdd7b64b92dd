"""One validation of a spec: every entry refuses a wrong one with the same problems, before anything starts."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.objects import State
from prefect.logging import disable_run_logger
from pydantic import ValidationError
from typer.testing import CliRunner

from penstock.api.project import Project
from penstock.cli.app import app
from penstock.errors import SpecError
from penstock.flows.backfill import backfill
from penstock.flows.score import score
from penstock.ledger.reader import list_runs
from penstock.spec.pipeline import Pipeline
from tests.shop import Place

COUNT = "{type: expect_table_row_count_to_be_between, min_value: 10}"
NOT_NULL = "{type: expect_column_values_to_not_be_null, column: amount, severity: warning}"
KEPT = "keep: [amount, country]"
WRONG = {
    "row_condition on a row count": (
        COUNT,
        "{type: expect_table_row_count_to_be_between, min_value: 10, row_condition: amount > 5}",
        "line 15: `expectations.payments.2.row_condition`: `row_condition` is not allowed here; choose the rows",
    ),
    "mostly as a percentage": (
        NOT_NULL,
        "{type: expect_column_values_to_not_be_null, column: amount, mostly: 95}",
        "line 13: `expectations.payments.0.mostly`: `95` is not a share; write a number from 0 to 1",
    ),
    "a misspelled severity": (
        COUNT,
        "{type: expect_table_row_count_to_be_between, min_value: 10, severty: info}",
        "line 15: `expectations.payments.2.severty`: `expect_table_row_count_to_be_between` has no argument `severty`. "
        "Did you mean `severity`?",
    ),
    "a number in quotation marks": (
        COUNT,
        "{type: expect_table_row_count_to_be_between, min_value: '10'}",
        "line 15: `expectations.payments.2.min_value`: `10` is not a whole number; write it without quotation marks",
    ),
    "a parameter of a suite": (
        COUNT,
        "{type: expect_table_row_count_to_be_between, min_value: {$PARAMETER: least}}",
        "line 15: `expectations.payments.2.min_value`: `$PARAMETER` is not allowed here",
    ),
    "notes": (
        COUNT,
        "{type: expect_table_row_count_to_be_between, min_value: 10, notes: [seldom], meta: {}, id: x}",
        "line 15: `expectations.payments.2.meta`: `meta` is not allowed here",
    ),
    "a reserved name": (
        KEPT,
        "keep: [amount, penstock_rank]",
        "line 19: `destination.keep.1`: `penstock_rank` begins with `penstock_`",
    ),
    "names that differ only in case": (
        KEPT,
        "keep: [amount, Amount]",
        "line 19: `destination.keep.0`: `amount` differs from `Amount` only in case",
    ),
    "a wrong cron": (
        "partition_rows: 150",
        "schedule: {cron: 60 * * * *}",
        "line 20: `schedule.cron`: minute `60`: 60 is not from 0 to 59",
    ),
    "a wrong time zone": (
        "partition_rows: 150",
        "schedule: {rrule: FREQ=DAILY, timezone: Europe/Pariss}",
        "line 20: `schedule.timezone`: there is no time zone `Europe/Pariss`. Did you mean `Europe/Paris`?",
    ),
}


def command(*arguments: str, api: str | None = None) -> Callable[[Path], str]:
    """Return what a command prints about the pipeline of a path, which it must refuse as a usage error.

    Args:
        api: A Prefect server that does not answer, for a command that asks for one before it reads the spec.
    """

    def enter(file: Path) -> str:
        words = [str(file) if word == "FILE" else word for word in arguments]
        ended = CliRunner(env={"PREFECT_API_URL": api} if api else None).invoke(app, words)
        assert ended.exit_code == 2, ended.output
        return ended.output

    return enter


def raised(enter: Callable[[str], object]) -> Callable[[Path], str]:
    """Return the message of the SpecError that a call with the pipeline's path raises."""

    def call(file: Path) -> str:
        with pytest.raises(SpecError) as caught, disable_run_logger():
            enter(str(file))
        return str(caught.value)

    return call


def failed(enter: Callable[[str], State[object]]) -> Callable[[Path], str]:
    """Return the message of the final state of a flow that is called with the pipeline's path."""

    def call(file: Path) -> str:
        with disable_run_logger():
            state = enter(str(file))
        assert state.is_failed()
        return str(state.message)

    return call


ENTRIES = {
    "check": command("check", "FILE"),
    "plan": command("plan", "FILE"),
    "run": command("run", "FILE"),
    "dry run": command("run", "FILE", "--dry-run"),
    "backfill": command("backfill", "FILE", "--start", "2026-01-01", "--end", "2026-01-03"),
    "deploy": command("deploy", "FILE", api="http://127.0.0.1:9/api"),
    "prefect.yaml": command("deploy", "FILE", "--prefect-yaml"),
    "the flow": failed(score.fn),
    "the flow of backfills": failed(lambda file: backfill.fn(file, "2026-01-01", "2026-01-03")),
    "the Python face": raised(lambda file: Project().load_pipeline(file)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_entry_refuses_a_wrong_spec_with_the_same_problem(make_place: Callable[..., Place], wrong: str) -> None:
    old, new, problem = WRONG[wrong]
    place = make_place(a_day=20)
    assert old in place.spec.read_text()
    place.spec.write_text(place.spec.read_text().replace(old, new))

    told = {name: enter(place.spec) for name, enter in ENTRIES.items()}

    assert [name for name, text in told.items() if problem not in text] == [], told
    assert list_runs(place.warehouse) == []
    with pytest.raises(ValidationError):
        Pipeline.model_validate(yaml.load(place.spec.read_text(), yaml.BaseLoader))
