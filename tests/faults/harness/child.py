"""The process of one run: forked from a server that has its imports behind it, so that a kill costs a run, no more."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

import psycopg

How = Literal["flow", "steps", "accept", "promote", "sandbox", "end sandbox", "deliver", "record", "take in"]
"""The real flow on the shared Prefect server, or its steps in the same order by `tests.driver`, without Prefect; or an
acceptance of the halted run; or a promotion of the challenger that is approved at once; or the steps of a run in a
sandbox; or the end of the sandbox, with a prune; or the delivery to the first target; or the record of requests in the
warehouse; or the move of those in the spool into it."""
REQUESTS = "requests.json"
"""The requests that are recorded, in the folder of the home."""
SANDBOX = "lower"
Action = Literal["kill", "crash", "stop", "wait", "lose"]


@dataclass(frozen=True)
class Fault:
    """What happens at a boundary: SIGKILL, SIGSEGV, SIGSTOP, a pause in which the test acts, a lost connection.

    To lose the connection after COMMIT is to lose the answer to it.
    """

    action: Action
    number: int = 0
    """Of the boundary, from 1; 0: at every boundary that holds `name`."""
    name: str = ""
    """Part of a boundary's name: then the first of them counts, or the `nth`."""
    nth: int = 1


@dataclass(frozen=True)
class Order:
    """What a child is to do, and where."""

    folder: Path
    spec: Path
    environment: dict[str, str]
    now: datetime
    how: How = "steps"
    fault: Fault | None = None
    parameters: dict[str, str] = field(default_factory=dict)


def carry_out(order: Order) -> None:
    """Do a run; what came of it is in `ending.json`, the boundaries that it came to in `boundaries.txt`."""
    _settle_in(order)
    from tests.faults.harness.boundaries import watch_boundaries

    with (order.folder / "boundaries.txt").open("w", buffering=1) as trace:
        watch_boundaries(_teller(order, trace.write))
        ending = _RUNS[order.how](order)
    (order.folder / "ending.json").write_text(json.dumps(ending))
    sys.stdout.flush()
    os._exit(0)  # what the fork server has loaded has exit handlers that are not for us


def _settle_in(order: Order) -> None:
    os.chdir(order.folder)
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "PENSTOCK_"))]:
        del os.environ[name]
    os.environ.update(order.environment)
    output = os.open(order.folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _teller(order: Order, write: Callable[[str], Any]) -> Callable[[str], None]:
    numbers, named, fault = count(1), count(1), order.fault

    def reached(boundary: str) -> None:
        nonlocal fault
        number = next(numbers)
        write(f"{boundary}\n")
        if fault is None or fault.name not in boundary:
            return
        if number != fault.number if fault.number else next(named) != fault.nth:
            return
        acting, fault = fault, None
        _act(acting.action, order.folder)

    return reached


def _act(action: Action, folder: Path) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif action == "stop":
        from tests.faults.harness.boundaries import between_beats

        with between_beats:
            os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "lose":
        raise psycopg.OperationalError("server closed the connection unexpectedly")
    elif action == "wait":
        (folder / "reached").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)


def _run_flow(order: Order) -> dict[str, Any]:
    from penstock.flows.score import score
    from penstock.tasks.outcome import find_outcome

    state = score(str(order.spec), **order.parameters, return_state=True)  # type: ignore[arg-type]
    outcome = find_outcome(state)
    return {"state": "Skipped" if outcome == "skipped" else state.name, "message": state.message}


def _run_steps(order: Order) -> dict[str, Any]:
    from penstock.ledger.reader import list_runs
    from penstock.report.card import run_card
    from penstock.settings import load_settings
    from penstock.spec.yaml_file import load_pipeline
    from penstock.tasks.process_resources import connect, registry
    from tests.driver import SETTINGS, Driver

    settings = SETTINGS.model_copy(update={"seal_key": load_settings().seal_key})
    driver = Driver(load_pipeline(order.spec), connect, registry(), settings=settings)
    steps = driver.run(order.now)
    for run in list_runs(driver.warehouse, states=["published"]):
        run_card(driver.warehouse, run.run_id)
    return {"state": "steps", "message": "; ".join(steps)}


def _run_sandbox(order: Order) -> dict[str, Any]:
    from penstock.spec.sandbox import as_sandbox
    from penstock.spec.yaml_file import load_pipeline
    from penstock.tasks.process_resources import connect, registry
    from tests.driver import Driver

    steps = Driver(as_sandbox(load_pipeline(order.spec), SANDBOX), connect, registry()).run(order.now)
    return {"state": "steps", "message": "; ".join(steps)}


def _end_sandbox(order: Order) -> dict[str, Any]:
    from penstock.spec.yaml_file import load_pipeline
    from penstock.tasks.process_resources import connect
    from penstock.upkeep.prune import prune
    from penstock.upkeep.prune_plan import plan_prune
    from penstock.upkeep.sandboxes import end_sandbox

    pipeline = load_pipeline(order.spec)
    warehouse = connect(pipeline.destination.connection)
    end_sandbox(warehouse, pipeline.name, SANDBOX)
    gone = prune(warehouse, plan_prune(warehouse, pipeline, order.now))
    return {"state": "ended", "message": "; ".join(f"{each.kind} {each.of} {each.rows}" for each in gone)}


def _deliver(order: Order) -> dict[str, Any]:
    from penstock.spec.yaml_file import load_pipeline
    from penstock.tasks.process_resources import scoring_steps

    pipeline = load_pipeline(order.spec)
    done = scoring_steps(pipeline).deliver(pipeline.deliver[0].name)
    return {"state": "delivered" if done.is_complete else "failed", "message": done.describe()}


def _record(order: Order) -> dict[str, Any]:
    from datetime import timedelta

    from penstock.ledger.served_writes import NewRequest, store_requests
    from penstock.spec.yaml_file import load_pipeline
    from penstock.tasks.process_resources import connect, settings

    pipeline = load_pipeline(order.spec)
    requests = [NewRequest.read(text) for text in json.loads((settings().home / REQUESTS).read_text())]
    warehouse = connect(pipeline.destination.connection)
    answers = store_requests(warehouse, pipeline, requests, timedelta(minutes=1))
    return {"state": "recorded", "message": json.dumps([answer is not None for answer in answers])}


def _take_in(order: Order) -> dict[str, Any]:
    from penstock.ledger.served_spool import settle_served_runs
    from penstock.spec.yaml_file import load_pipeline
    from penstock.tasks.process_resources import connect, settings

    pipeline = load_pipeline(order.spec)
    moved = settle_served_runs(connect(pipeline.destination.connection), settings().home, pipeline)
    return {"state": "taken in", "message": str(moved)}


def _accept(order: Order) -> dict[str, Any]:
    """Accept the run that was halted first, in the name of this process. A refusal is an ending too."""
    from penstock.errors import PenstockError
    from penstock.spec.yaml_file import load_pipeline
    from penstock.tasks.process_resources import connect
    from penstock.upkeep.acceptance import accept_run

    warehouse = connect(load_pipeline(order.spec).destination.connection)
    try:
        accept_run(warehouse, order.parameters["run_id"], f"process {os.getpid()}", "it is right")
    except PenstockError as error:
        return {"state": type(error).__name__, "message": str(error)}
    return {"state": "accepted", "message": ""}


def _promote(order: Order) -> dict[str, Any]:
    """Ask about the challenger, or take over what a dead process asked, and approve in the name of this process."""
    from datetime import UTC

    from penstock.promotion.advance import Caller, Promoter
    from penstock.promotion.decision import Answer
    from penstock.promotion.evidence import EvidenceReader
    from penstock.promotion.specs import find_promoting
    from penstock.tasks.process_resources import connector, registry, settings

    reader = EvidenceReader(find_promoting(order.spec.parent, "card-risk"), settings(), connector(), registry())
    promoter, name, is_alive = Promoter(reader), f"process {os.getpid()}", lambda _: False
    outcome = promoter.advance(Caller(name, datetime.now(UTC), can_answer=is_alive))
    if outcome.step == "wait" and outcome.record is not None:
        answer = Answer(outcome.record.number, True, name, "it is better", datetime.now(UTC))
        outcome = promoter.advance(Caller(name, datetime.now(UTC), answer, can_answer=is_alive))
    return {"state": outcome.step, "message": outcome.why}


_RUNS: dict[How, Callable[[Order], Any]] = {
    "flow": _run_flow,
    "steps": _run_steps,
    "accept": _accept,
    "deliver": _deliver,
    "promote": _promote,
    "record": _record,
    "sandbox": _run_sandbox,
    "end sandbox": _end_sandbox,
    "take in": _take_in,
}
