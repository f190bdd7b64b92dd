"""Where a flow run finds its project."""

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.deployments.pull import enter_project, record_project
from penstock.errors import SettingsError


def test_a_flow_run_enters_the_folder_that_was_deployed_from(tmp_path: Path) -> None:
    assert enter_project(str(tmp_path)) == {"directory": str(tmp_path)}


def test_the_workers_own_project_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PROJECT", str(tmp_path))

    assert enter_project("/where/it/was/deployed") == {"directory": str(tmp_path)}


def test_a_folder_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Set PENSTOCK_PROJECT on the worker"):
        enter_project(str(tmp_path / "gone"))


def test_the_working_folder_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert record_project() == {"folder": str(tmp_path)}


def test_entering_a_project_imports_nothing_heavy() -> None:
    heavy = "{'pandas', 'pyarrow', 'duckdb', 'sqlalchemy', 'prefect', 'xgboost', 'great_expectations', 'yaml'}"
    code = f"import sys, penstock.deployments.pull; print({heavy} & set(sys.modules))"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert told.strip() == "set()"
