"""Serve the model of `benchmarks.serving` with MLflow and with BentoML, each in an environment of its own.

python -m venv .venv-peers/mlflow && .venv-peers/mlflow/bin/pip install 'mlflow>=3.17' xgboost==3.2.0
python -m venv .venv-peers/bentoml && .venv-peers/bentoml/bin/pip install 'bentoml>=1.4' xgboost==3.2.0
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.serving import FEATURES, free_port
from tests.waiting import wait_until

ROW = [0.25 * at for at in range(len(FEATURES))]
_MLFLOW = """
import sys, mlflow.xgboost, xgboost
booster = xgboost.Booster(model_file=sys.argv[1])
mlflow.xgboost.save_model(booster, sys.argv[2])
"""
_BENTOML = """
import bentoml, numpy, xgboost

@bentoml.service
class Score:
    def __init__(self):
        self.booster = xgboost.Booster(model_file=MODEL)
        self.booster.set_param({"nthread": 1})

    @bentoml.api
    def score(self, rows: list[list[float]]) -> list[float]:
        return self.booster.inplace_predict(numpy.array(rows, numpy.float32)).tolist()
"""


@contextmanager
def serve_peer(name: str, python: Path, model: Path, folder: Path) -> Iterator[tuple[psutil.Process, int, str, bytes]]:
    """Serve the model with one worker. Give the process, its port, the path, and a request of one row.

    Args:
        python: the interpreter of the peer's environment.
        model: the model file.
    """
    own, port = folder / name, free_port()
    own.mkdir()
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": str(own),
        "BENTOML_DO_NOT_TRACK": "True",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
    }
    if name == "mlflow":
        subprocess.run([python, "-c", _MLFLOW, model, own / "model"], check=True, env=environment, **quiet)
        command = [python.parent / "mlflow", "models", "serve", "-m", own / "model", "--env-manager", "local"]
        path, health = "/invocations", "/ping"
        body: dict[str, Any] = {"dataframe_split": {"columns": FEATURES, "data": [ROW]}}
    else:
        (own / "service.py").write_text(_BENTOML.replace("MODEL", repr(str(model))), encoding="utf-8")
        command = [python.parent / "bentoml", "serve", "service:Score", "--host", "127.0.0.1"]
        path, body, health = "/score", {"rows": [ROW]}, "/livez"
    process = psutil.Popen([*command, "-p", str(port)], cwd=own, env=environment, **quiet)
    try:
        wait_until(lambda: _answers(port, health), 120)
        yield process, port, path, json.dumps(body).encode()
    finally:
        for each in [*process.children(recursive=True), process]:
            each.terminate()
        psutil.wait_procs([process], timeout=10)


def _answers(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 200
    except httpx.TransportError:
        return False
