"""Clients that are no part of Penstock, each in an environment of its own, which `make clients` creates.

A client has a file `<its name>.txt` here, which `make lock` writes from `<its name>.in`.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER.parents[1] / ".venv-clients"


def program_of(client: str, program: str = "python") -> Path:
    """Return a program of a client's environment. Skip the test if there is no such environment."""
    if not (ENVIRONMENTS / client / ".installed").exists():
        pytest.skip(f"{client} is not installed; `make clients` installs it")
    return ENVIRONMENTS / client / "bin" / program


def ask_with(client: str, script: str, given: Any) -> Any:
    """Run a script of this folder with a client, and return what it makes of a JSON value."""
    command = [program_of(client), FOLDER / script]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
