"""Which ends of a flow run count as unexpected. Real flow runs are in `tests/integration/test_automations.py`."""

import logging
import os
import subprocess
import sys
from pathlib import Path
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
    imported_with, before = dict(os.environ), get_current_settings().flows.heartbeat_frequency
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "77")
    try:
        renew_settings(imported_with)
        assert get_current_settings().flows.heartbeat_frequency == 77
    finally:
        monkeypatch.delenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY")
        renew_settings(imported_with)
    assert get_current_settings().flows.heartbeat_frequency == before


@pytest.mark.parametrize(
    ("variable", "logger"),
    [
        ("PREFECT_LOGGING_LEVEL", "prefect"),
        ("PREFECT_INTERNAL_LOGGING_LEVEL", "prefect._internal"),
        ("PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL", "prefect.flow_runs"),  # a part of the file, no setting
    ],
)
def test_a_fork_logs_as_its_own_environment_says(monkeypatch: pytest.MonkeyPatch, variable: str, logger: str) -> None:
    imported_with, before = dict(os.environ), logging.getLogger(logger).level
    monkeypatch.setenv(variable, "CRITICAL")
    forked_with = dict(os.environ)
    try:
        renew_settings(imported_with)
        assert logging.getLogger(logger).level == logging.CRITICAL
    finally:
        monkeypatch.delenv(variable)
        renew_settings(forked_with)
        after = logging.getLogger(logger).level
        logging.getLogger(logger).setLevel(before)
    assert after != logging.CRITICAL


def test_a_fork_follows_a_logging_file_of_a_persons_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, imported_with = tmp_path / "logging.yml", dict(os.environ)
    file.write_text("{version: 1, loggers: {prefect.flow_runs: {level: $PREFECT_FLOWS_HEARTBEAT_FREQUENCY}}}")
    before = logging.getLogger("prefect.flow_runs").level
    monkeypatch.setenv("PREFECT_LOGGING_SETTINGS_PATH", str(file))
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "35")
    try:
        renew_settings(imported_with)
        with_file = dict(os.environ)
        monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "45")
        renew_settings(with_file)
        assert logging.getLogger("prefect.flow_runs").level == 45
    finally:
        monkeypatch.undo()
        renew_settings(with_file)
        logging.getLogger("prefect.flow_runs").setLevel(before)


def test_the_clients_of_a_flow_run_read_the_certificates_once() -> None:
    script = """
import ssl
made = []
make = ssl.create_default_context
ssl.create_default_context = lambda **how: made.append(how) or make(**how)
from penstock.deployments.worker.tls_context import share_tls_contexts
share_tls_contexts()
share_tls_contexts()
from prefect.client.orchestration import get_client
imported = len(made)
clients = [get_client(sync_client=True), get_client(sync_client=True), get_client(), get_client()]
print(len(made) - imported)
"""
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:1/api"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]
