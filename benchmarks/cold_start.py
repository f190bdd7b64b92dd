"""Measure how long a scheduled run waits for Python: `python -m benchmarks.cold_start [--rounds N] [--write]`.

The time runs from the start of a flow run's process to its first running task. In turn with it, a second process is
timed that only does `import prefect, pandas, xgboost`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from benchmarks.results import write_section
from penstock.deployments.server.local import client_environment, full_server
from penstock.settings import load_settings

TITLE = "Cold start: from the start of a flow run's process to its first task"
IMPORTS = "import prefect, pandas, xgboost"


@contextmanager
def deployed_project(folder: Path) -> Iterator[Any]:
    """Yield a Prefect client of a full server with one deployed pipeline and nothing to score."""
    from tests.shop import SPEC, payments, train_model, write_payments

    os.chdir(folder)
    os.environ |= {"PENSTOCK_PIPELINES": str(folder), "PENSTOCK_CONNECTIONS__SHOP": f"sqlite:///{folder / 'shop.db'}"}
    settings = load_settings()
    with full_server(settings.home, port=0) as server:
        os.environ.update(client_environment(server.api_url))
        from penstock.database.connections import open_database
        from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
        from penstock.deployments.up import client_of

        write_payments(open_database(settings, "shop"), payments())
        train_model(settings.models_folder)
        (folder / "card-risk.yaml").write_text(SPEC.replace("2026-01-01T00:00:00Z", "2126-01-01T00:00:00Z"))
        deploy_pipelines(server.api_url, settings, None)
        with client_of(server.api_url) as client:
            yield client


def time_first_task(client: Any) -> float:
    """Return the seconds from the start of a flow run's process to its first task running."""
    deployment = client.read_deployment_by_name("score/card-risk")
    run = client.create_flow_run_from_deployment(deployment.id)
    environment = os.environ | {"PREFECT__FLOW_RUN_ID": str(run.id)}
    began = time.time()
    subprocess.run(
        [sys.executable, "-m", "penstock.deployments.engine"], env=environment, check=True, capture_output=True
    )
    return _first_start(client, run.id) - began


def _first_start(client: Any, flow_run: UUID) -> float:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        body = {"flow_runs": {"id": {"any_": [str(flow_run)]}}, "limit": 50}
        runs = client.request("POST", "/task_runs/filter", json=body).json()
        starts = [each["start_time"] for each in runs if each["start_time"]]
        if starts:
            from datetime import datetime

            return min(datetime.fromisoformat(start) for start in starts).timestamp()
        time.sleep(0.2)
    raise TimeoutError("the server shows no task of the flow run")


def time_imports() -> float:
    began = time.time()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.time() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description="Measure the cold start.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="write the result into benchmarks/RESULTS.md")
    asked = parser.parse_args()
    checkout = Path.cwd()
    os.environ["PYTHONPATH"] = str(checkout)
    tasks, imports = [], []
    with TemporaryDirectory() as folder, deployed_project(Path(folder)) as client:
        for number in range(asked.rounds):
            tasks.append(time_first_task(client))
            imports.append(time_imports())
            print(f"round {number + 1}: first task {tasks[-1]:.2f} s, imports {imports[-1]:.2f} s", flush=True)
        os.chdir(checkout)
    ratio = statistics.median(tasks) / statistics.median(imports)
    rows = [
        "| | median s | all rounds |\n|---|---:|---|",
        f"| first task running | {statistics.median(tasks):.2f} | {', '.join(f'{s:.2f}' for s in tasks)} |",
        f"| `{IMPORTS}` | {statistics.median(imports):.2f} | {', '.join(f'{s:.2f}' for s in imports)} |",
    ]
    body = (
        "\n".join(rows) + f"\n\nRatio of the medians: {ratio:.2f}. Repeat: `python -m benchmarks.cold_start --write`."
    )
    print(f"\n{body}")
    if asked.write:
        print(f"wrote {write_section(TITLE, body)}")


if __name__ == "__main__":
    main()
