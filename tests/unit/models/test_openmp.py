"""XGBoost's threads wait for work without using a processor."""

import os
import subprocess
import sys

import pytest

SHOW = "import penstock.models, os; print(os.environ['OMP_WAIT_POLICY'])"


@pytest.mark.parametrize(("given", "used"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_without_a_processor_unless_the_environment_says_otherwise(
    given: dict[str, str], used: str
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}

    shown = subprocess.run(
        [sys.executable, "-c", SHOW], env=inherited | given, capture_output=True, text=True, check=True
    )

    assert shown.stdout.strip() == used
