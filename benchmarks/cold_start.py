"""Measure what a flow run of `penstock up` pays beside its rows: `python -m benchmarks.cold_start [--check] [--write]`.

The start of a flow run is compared with a process that only does `import prefect, pandas, xgboost`, in turn with it.
A backfill, with a flow run for each interval, is compared with the same intervals in one `penstock run`.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from benchmarks.results import write_section
from penstock.deployments.server.local import _bound_socket, client_environment, full_server, running_server
from penstock.settings import load_settings

TITLE = "Flow runs of `penstock up`: their start, and a backfill"
IMPORTS = "import prefect, pandas, xgboost"
COMMAND = "import sys; from penstock.cli import main; sys.argv[0] = 'penstock'; main()"
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, ROWS_A_DAY = 90, 200
SECONDS = 900.0
UP_SECONDS = 20.0
BACKFILL_AT_MOST = 1.5
FORK_SERVER = "penstock-benchmark"


FIRST_TASK = "first task of a flow run from the fork server, since its start / imports"
FIRST_TASK_AT_MOST = 0.25


def spend(command: list[str], **environment: str) -> float:
    """Run a command and return its seconds."""
    began = time.monotonic()
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[-1]} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - began


def penstock(*arguments: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, *arguments]


def make_project(folder: Path) -> None:
    """Make a project of many days and a model, and enter its folder."""
    from penstock.database.connections import open_database
    from tests.shop import SPEC, payments, train_model, write_payments

    os.chdir(folder)
    os.environ |= {
        "PENSTOCK_HOME": str(folder / ".penstock"),
        "PENSTOCK_PIPELINES": str(folder),
        "PENSTOCK_CONNECTIONS__SHOP": f"sqlite:///{folder / 'shop.db'}",
        "PENSTOCK_CONNECTIONS__WAREHOUSE": f"sqlite:///{folder / 'warehouse.db'}",
    }
    settings = load_settings()
    write_payments(open_database(settings, "shop"), payments(days=DAYS, a_day=ROWS_A_DAY))
    train_model(settings.home / "models")
    (folder / "card-risk.yaml").write_text(SPEC.replace("lookback: 3", f"lookback: 3, max_intervals: {DAYS}"))


@contextmanager
def served_project(folder: Path) -> Iterator[Any]:
    """Yield a Prefect client of a full server with the project's deployments."""
    make_project(folder)
    settings, environment = load_settings(), dict(os.environ)
    with full_server(settings.home, port=0) as server:
        os.environ.update(client_environment(server.api_url))
        from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
        from penstock.deployments.up import client_of

        spec = folder / "card-risk.yaml"  # of later days, so that there is nothing to score
        spec.write_text(spec.read_text().replace("2026-01-01T00:00:00Z", "2126-01-01T00:00:00Z"))
        deploy_pipelines(server.api_url, settings, None)
        with client_of(server.api_url) as client:
            yield client
    os.environ.clear()
    os.environ.update(environment)


@contextmanager
def fork_server() -> Iterator[None]:
    """Let flow runs of this process's children start from a fork server."""
    from penstock.deployments.worker.fork_client import SOCKET, address_of

    command = [sys.executable, "-P", "-m", "penstock.deployments.worker.fork_server", FORK_SERVER]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until(lambda: _listens(address_of(FORK_SERVER)), "the fork server is not ready")
            os.environ[SOCKET] = FORK_SERVER
            yield
        finally:
            os.environ.pop(SOCKET, None)
            process.kill()


def _listens(address: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        return asked.connect_ex(address) == 0


def _wait_until(true: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(otherwise)
        time.sleep(0.1)


def time_first_task(client: Any) -> float:
    """Return the seconds from the start of a flow run's process to its first task running."""
    deployment = client.read_deployment_by_name("score/card-risk")
    run = client.create_flow_run_from_deployment(deployment.id)
    began = time.time()
    spend([sys.executable, "-m", "penstock.deployments.engine"], PREFECT__FLOW_RUN_ID=str(run.id))
    return _first_start(client, run.id) - began


def _first_start(client: Any, flow_run: UUID) -> float:
    starts: list[str] = []

    def find() -> bool:
        body = {"flow_runs": {"id": {"any_": [str(flow_run)]}}, "limit": 50}
        runs = client.request("POST", "/task_runs/filter", json=body).json()
        starts.extend(each["start_time"] for each in runs if each["start_time"])
        return bool(starts)

    _wait_until(find, "the server shows no task of the flow run")
    return min(datetime.fromisoformat(start) for start in starts).timestamp()


def measure_first_task(rounds: int) -> float:
    """Return the median of the seconds until the first task, divided by those of the imports."""
    found, checkout = [], Path.cwd()
    with TemporaryDirectory() as folder:
        with served_project(Path(folder)) as client, fork_server():
            for number in range(rounds + 1):
                first, imports = time_first_task(client), spend([sys.executable, "-c", IMPORTS])
                if number:
                    found.append(first / imports)
        os.chdir(checkout)
    return statistics.median(found)


@contextmanager
def deployed_up(folder: Path) -> Iterator[None]:
    """Run `penstock up` on the project, until it has scored the first day."""
    with closing(_bound_socket(None)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(penstock("up", "--port", str(port)), stdout=subprocess.DEVNULL) as up:
        try:
            _wait_until(lambda: running_server(folder / ".penstock") is not None, "`penstock up` is not ready")
            time.sleep(UP_SECONDS)  # deployments are made and the fork server has imported everything
            backfill(0, 1)
            yield
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(SECONDS)


def backfill(first: int, days: int) -> float:
    """Score days in a flow run each. Return the seconds."""
    start, end = (f"{FIRST_DAY + timedelta(days=day):%Y-%m-%d}" for day in (first, first + days))
    return spend(penstock("backfill", "card-risk", "--start", start, "--end", end))


def measure_backfill(days: int) -> float:
    """Return the seconds of a backfill, divided by those of the same days in one `penstock run` with a server."""
    from penstock.database.connections import open_database
    from penstock.ledger.reader import list_runs

    checkout = Path.cwd()
    with TemporaryDirectory() as folder:
        make_project(Path(folder))
        with deployed_up(Path(folder)):
            each = backfill(1, days)
        os.chdir(checkout)
    with TemporaryDirectory() as folder:
        make_project(Path(folder))
        ends = [f"{FIRST_DAY + timedelta(days=day):%Y-%m-%d}" for day in (1, 1 + days)]
        seconds = [spend(penstock("run", "card-risk", "--end", end), PENSTOCK_LINGER="10m") for end in ends]
        spend(penstock("down"))
        published = len(list_runs(open_database(load_settings(), "warehouse"), states=["published"], limit=DAYS))
        if published != 1 + days:
            raise RuntimeError(f"one run published {published} days, not {1 + days}")
        os.chdir(checkout)
    return each / seconds[-1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description="Measure flow runs of `up`.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--days", type=int, default=60, help="days of the backfill; 0: leave it out")
    parser.add_argument("--check", action="store_true", help="fail if a ratio is over its target")
    parser.add_argument("--write", action="store_true", help="write the result into benchmarks/RESULTS.md")
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path.cwd())
    ratios = {FIRST_TASK: (measure_first_task(asked.rounds), FIRST_TASK_AT_MOST)}
    if asked.days:
        what = f"backfill of {asked.days} days of {ROWS_A_DAY} rows / the same in one `penstock run`"
        ratios[what] = measure_backfill(asked.days), BACKFILL_AT_MOST
    lines = ["| compared | is | target | |", "|---|---:|---:|---|"]
    for name, (is_, at_most) in ratios.items():
        lines.append(f"| {name} | {is_:.3g} | {at_most} | {'kept' if is_ <= at_most else '**missed**'} |")
    table = "\n".join(lines)
    notes = f"The imports are `{IMPORTS}`. The start is the median of {asked.rounds} rounds."
    body = f"{table}\n\n{notes}\n\nRepeat: `python -m benchmarks.cold_start --write`."
    print(body)
    if asked.write:
        print(f"wrote {write_section(TITLE, body)}")
    worse = [f"{name}: {is_:.3g}, at most {at_most}" for name, (is_, at_most) in ratios.items() if is_ > at_most]
    if asked.check and worse:
        sys.exit("\n".join(worse))


if __name__ == "__main__":
    main()
