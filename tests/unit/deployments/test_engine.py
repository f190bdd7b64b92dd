"""Which ends of a flow run count as unexpected. Real flow runs are in `tests/integration/test_automations.py`."""

import logging
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Failed

from penstock.deployments.worker.flow_run import UNEXPECTED, is_unexpected, renew_settings
from penstock.errors import Halted, SettingsError
from penstock.tasks.outcome import failed, halted


def record_of(state: State[Any], message: str = UNEXPECTED) -> logging.LogRecord:
    """Return what Prefect logs when it raises the end of a flow run."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 # which one depends on the state
        state.result()
    raised = (caught.type, caught.value, caught.tb)
    return logging.LogRecord("prefect.flow_runs", logging.ERROR, __file__, 1, message, None, raised)


@pytest.mark.parametrize(
    "state",
    [
        halted("150 of 250 rows", Halted("card-risk", "2026-01-01", ("150 of 250 rows",))),
        failed(SettingsError("no such connection", "Add it.")),
        Failed(message="2 of 3 intervals not published"),
        Cancelled(message="1 of 3 intervals published"),
    ],
    ids=["halted", "failed", "a backfill", "cancelled"],
)
def test_an_end_of_our_own_is_not_logged_as_unexpected(state: State[Any]) -> None:
    assert not is_unexpected(record_of(state))
    assert is_unexpected(record_of(state, "could not score 2026-01-01"))


def test_an_exception_that_is_not_ours_is_logged() -> None:
    assert is_unexpected(record_of(failed(ZeroDivisionError("nobody expects it"))))


def test_a_fork_has_prefects_settings_of_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = get_current_settings().flows.heartbeat_frequency
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "77")
    try:
        renew_settings()
        assert get_current_settings().flows.heartbeat_frequency == 77
    finally:
        monkeypatch.delenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY")
        renew_settings()
    assert get_current_settings().flows.heartbeat_frequency == before
