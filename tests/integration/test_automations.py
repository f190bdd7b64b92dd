"""Events, messages and automations on a real Prefect server with its services on."""

import json
import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SendgridEmail, SlackWebhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterParentFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import AutomationSort, DeploymentSort, FlowRunSort
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingRetry, Crashed, Failed, Paused, Pending, Running, Suspended

from penstock.deployments.deploy.automations import PREFIX, WITHOUT_PROCESS, apply_automations, define_zombie_automation
from penstock.deployments.deploy.deploy_pipelines import deploy_pipelines
from penstock.deployments.deploy.work_pool import WORK_POOL
from penstock.deployments.server.local import client_environment, full_server
from penstock.deployments.worker.flow_run import UNEXPECTED
from penstock.deployments.worker.process import WorkerPlan, running_worker
from penstock.errors import SettingsError
from penstock.settings import load_settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.outcome import read_outcome
from tests.prefect_home import prepare_home
from tests.shop import SPEC, Place
from tests.waiting import SECONDS, wait_until

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
TOLD = SPEC + "notify: {on_halt: [custom-webhook/ops], on_failure: [custom-webhook/ops]}\n"


@dataclass
class Mailbox:
    """What was sent to us."""

    url: str
    received: list[dict[str, Any]] = field(default_factory=list)

    def about(self, words: str) -> list[dict[str, Any]]:
        return [message for message in self.received if words in message["subject"]]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with full_server(prepare_home(tmp_path_factory.mktemp("server")), port=0) as server:
        yield server.api_url


@pytest.fixture
def client(api: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        yield client
        for automation in client.read_automations(sort=AutomationSort.NAME_ASC, limit=200):
            client.delete_automation(automation.id)
        for deployment in client.read_deployments(sort=DeploymentSort.NAME_ASC, limit=200):
            client.delete_deployment(deployment.id)


@pytest.fixture(scope="module")
def mailbox(api: str) -> Iterator[Mailbox]:
    """A web server on this machine, behind the block `custom-webhook/ops`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            box.received.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        box = Mailbox(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        block = CustomWebhookNotificationBlock(
            name="ops", url=box.url, json_data={"subject": "{{subject}}", "body": "{{body}}"}
        )
        with temporary_settings({PREFECT_API_URL: api}):
            block.save("ops", overwrite=True)
        yield box
        server.shutdown()


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """A mail server on this machine that takes every mail; give its port and the lines that it was sent."""
    lines: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 ready")
            in_mail = False
            for line in self.rfile:
                text = line.decode().rstrip()
                lines.append(text)
                if in_mail and text != ".":
                    continue
                in_mail = text.lower() == "data"
                self._say("354 go on" if in_mail else "250 done")

        def _say(self, words: str) -> None:
            self.wfile.write(f"{words}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], lines
        server.shutdown()


def pipeline_of(text: str) -> Pipeline:
    return parse_pipeline(text.encode(), "card-risk.yaml")


def change(place: Place, statement: str) -> None:
    with place.shop.writing() as connection:
        connection.execute(sa.text(statement))


def environment(api: str, **more: str) -> dict[str, str]:
    own = {"PYTHONPATH": str(CHECKOUT), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", **more}
    return os.environ | client_environment(api, patient=True) | own


def penstock_run(api: str, place: Place, end: str) -> int:
    command = [Path(sys.executable).with_name("penstock"), "run", str(place.spec), "--end", end]
    done = subprocess.run(command, env=environment(api), capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.returncode


@contextmanager
def deployed_run(
    api: str, client: SyncPrefectClient, place: Place, name: str, end: str = "2026-01-02", **variables: str
) -> Iterator[Any]:
    """Run a deployment once, as the worker's command does; give its flow run and its process."""
    deployment = client.read_deployment_by_name(name)
    flow_run = client.create_flow_run_from_deployment(deployment.id, parameters={"end": end}, state=Pending())
    with (place.folder / "engine.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock.deployments.engine"],
            cwd=place.folder,
            env=environment(api, PREFECT__FLOW_RUN_ID=str(flow_run.id), **variables),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield flow_run, process
    finally:
        process.kill()
        process.wait()


def what_happened(client: SyncPrefectClient, place: Place) -> str:
    """Say how the server's flow runs stand, what its automations did, and what the place's deployed run printed."""
    runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=10)
    wanted = {"event": {"prefix": ["prefect.automation."]}}
    events = client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]
    return "\n".join(
        [
            *(f"{run.name}: {run.state}" for run in runs),
            *(f"{event['event']} {event['resource']} {event['payload']}" for event in events),
            (place.folder / "engine.log").read_text()[-2000:],
        ]
    )


def events_of(client: SyncPrefectClient, name: str, resource: str) -> list[dict[str, Any]]:
    wanted = {"event": {"name": [name]}, "resource": {"id": [resource]}}
    return client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]  # type: ignore[no-any-return]


def logs_of(client: SyncPrefectClient, flow_run_id: UUID) -> str:
    """Return what the flow run's page shows under Logs."""
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    return "\n".join(log.message for log in client.read_logs(of_run))


@pytest.fixture
def deploy(api: str, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> Callable[[Place], Pipeline]:
    """Deploy a place's pipeline with its automations."""

    def deployed(place: Place) -> Pipeline:
        pipeline = pipeline_of(place.spec.read_text())
        place.spec.rename(place.folder / f"{pipeline.name}.yaml")
        monkeypatch.setenv("PENSTOCK_PIPELINES", str(place.folder))
        deploy_pipelines(api, load_settings(), None)
        apply_automations(client, [pipeline], whole_folder=False, dry_run=False)
        return pipeline

    return deployed


def spec_named(name: str) -> str:
    return TOLD.replace("name: card-risk\n", f"name: {name}\n")


def test_a_halt_is_told_once_with_pipeline_interval_and_reason(
    api: str, client: SyncPrefectClient, mailbox: Mailbox, make_place: Callable[..., Place]
) -> None:
    place = make_place(spec=spec_named("halting"))
    change(place, "update payments set amount = null where payment_id > 250 and payment_id <= 400")
    apply_automations(client, [pipeline_of(place.spec.read_text())], whole_folder=False, dry_run=False)

    assert penstock_run(api, place, "2026-01-03") == 3

    [message] = wait_until(lambda: mailbox.about("halting"))
    assert message["subject"] == "halting halted: 2026-01-02 → 01-03"
    assert "`halting` 2026-01-02 → 01-03 halted: " in message["body"]
    assert "150 of 250" in message["body"]
    assert "Nothing was published. Correct the data" in message["body"]
    time.sleep(3)
    assert len(mailbox.about("halting")) == 1


def test_a_halt_of_a_deployed_run_is_told_once_as_a_halt_and_not_as_a_failure(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    place = make_place(spec=spec_named("halts-after-dark"))
    change(place, "update payments set amount = null where payment_id <= 150")
    deploy(place)

    with deployed_run(api, client, place, "score/halts-after-dark") as (flow_run, process):
        assert process.wait(timeout=SECONDS) == 0
    log = logs_of(client, flow_run.id)
    assert "Halted: 2026-01-01 → 01-02: " in log
    assert "unexpected exception" not in log
    assert "Traceback" not in log

    ended = client.read_flow_run(flow_run.id)
    assert (ended.state_name, read_outcome(ended)) == ("Failed", "halted")
    assert ended.state is not None
    assert str(ended.state.message).startswith("Halted: 2026-01-01 → 01-02: ")
    wait_until(lambda: mailbox.about("halts-after-dark"), tell=lambda: what_happened(client, place))
    wait_until(lambda: events_of(client, "prefect.flow-run.Failed", f"prefect.flow-run.{flow_run.id}"))
    time.sleep(3)
    [message] = mailbox.about("halts-after-dark")
    assert message["subject"] == "halts-after-dark halted: 2026-01-01 → 01-02"


def test_a_halt_before_any_interval_is_told_once_as_a_halt(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    place = make_place(spec=spec_named("unplanned"))
    assert penstock_run(api, place, "2026-01-02") == 0
    deploy(place)
    change(place, "alter table payments drop column updated_at")

    with deployed_run(api, client, place, "score/unplanned") as (flow_run, process):
        process.wait(timeout=SECONDS)

    assert read_outcome(client.read_flow_run(flow_run.id)) == "halted", what_happened(client, place)
    wait_until(lambda: mailbox.about("unplanned"), tell=lambda: what_happened(client, place))
    time.sleep(3)
    [message] = mailbox.about("unplanned")
    assert message["subject"] == "unplanned halted: before the first interval"
    assert "`updated_at` was timestamp and is gone" in message["body"]


def test_drift_and_performance_are_told_once_an_episode_and_a_lost_challenger_is_an_event(
    api: str, client: SyncPrefectClient, mailbox: Mailbox, make_place: Callable[..., Place]
) -> None:
    told = "notify: {on_drift: [custom-webhook/ops], on_performance: [custom-webhook/ops]}\n"
    drift = "drift: {watch: {amount: warning}, least_rows: 100}\nchallengers: [{model: ghost@champion}]\n"
    labels = """labels:
  source: {kind: sql, connection: shop, query: "select payment_id, updated_at, 1 - \\"first\\" as fraud from payments",
    key: [payment_id]}
  value: fraud
  seen_at: updated_at
  alert: {auc: {below: 0.99}}
"""
    place = make_place(spec=SPEC.replace("name: card-risk\n", "name: watched\n") + drift + labels + told)
    change(place, "update payments set amount = amount * 10")
    apply_automations(client, [pipeline_of(place.spec.read_text())], whole_folder=False, dry_run=False)

    assert penstock_run(api, place, "2026-01-03") == 0  # two intervals, and both drift
    collect = f"from penstock.flows.labels import labels; labels({str(place.spec)!r})"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", collect], env=environment(api), check=True, timeout=SECONDS)

    wait_until(lambda: len(mailbox.about("watched")) >= 2 or None)
    time.sleep(3)
    drifts, performs = sorted(mailbox.about("watched"), key=lambda message: "beyond" in message["subject"])
    assert drifts["subject"] == "watched drifts: 2026-01-01 → 01-02"
    assert drifts["body"].startswith("`amount`: PSI below 0.25 (warning): PSI ")
    assert performs["subject"] == "watched: auc beyond its limit"
    assert "below 0.99" in performs["body"]
    lost = events_of(client, "penstock.challenger.failed", "penstock.pipeline.watched")
    assert {event["payload"]["model"] for event in lost} == {"ghost@champion"}
    assert len(lost) == 2


def test_a_run_by_hand_with_three_failed_intervals_is_told_once(
    api: str, client: SyncPrefectClient, mailbox: Mailbox, make_place: Callable[..., Place]
) -> None:
    place = make_place(spec=spec_named("by-hand"))
    change(place, "alter table payments drop column country")
    apply_automations(client, [pipeline_of(place.spec.read_text())], whole_folder=False, dry_run=False)

    assert penstock_run(api, place, "2026-01-04") == 1

    wait_until(lambda: mailbox.about("by-hand"))
    time.sleep(3)
    [message] = mailbox.about("by-hand")
    assert message["subject"] == "by-hand failed: card-risk backfill until 2026-01-04 00:00"
    assert message["body"].startswith("3 of 3 intervals failed; first: 2026-01-01 → 01-02: ")
    assert "needs columns that the batch does not have: `country`. Add or correct them" in message["body"]


def test_a_deployed_run_with_three_failed_intervals_is_told_once(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    place = make_place(spec=spec_named("nightly"))
    change(place, "alter table payments drop column country")
    deploy(place)

    with deployed_run(api, client, place, "score/nightly", end="2026-01-04") as (_, process):
        process.wait(timeout=SECONDS)

    wait_until(lambda: mailbox.about("nightly"), tell=lambda: what_happened(client, place))
    wait_until(lambda: len(events_of(client, "penstock.run.failed", "penstock.pipeline.nightly")) == 3)
    time.sleep(3)
    [message] = mailbox.about("nightly")
    assert message["subject"] == "nightly failed: nightly due until 2026-01-04 00:00"
    assert message["body"].startswith("3 of 3 intervals failed; first: 2026-01-01 → 01-02: ")


def test_a_run_with_a_halted_and_a_failed_interval_is_told_once_as_a_halt_and_once_as_a_failure(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    place = make_place(spec=spec_named("both-ways"))
    change(place, "update payments set amount = null where payment_id <= 150")
    change(place, "alter table payments rename to rows_of_payments")
    overflow = "case when payment_id = 300 then abs(-9223372036854775807 - 1) else items end"  # SQLite cannot read it
    columns = f"payment_id, created_at, updated_at, amount, {overflow} as items, country, first"
    change(place, f"create view payments as select {columns} from rows_of_payments")
    deploy(place)

    with deployed_run(api, client, place, "score/both-ways", end="2026-01-04") as (flow_run, process):
        process.wait(timeout=SECONDS)

    assert read_outcome(client.read_flow_run(flow_run.id)) == "failed", what_happened(client, place)
    wait_until(lambda: len(mailbox.about("both-ways")) == 2, tell=lambda: what_happened(client, place))
    time.sleep(3)
    halt, failure = sorted(mailbox.about("both-ways"), key=lambda message: " failed: " in message["subject"])
    assert halt["subject"] == "both-ways halted: 2026-01-01 → 01-02"
    assert failure["subject"] == "both-ways failed: both-ways due until 2026-01-04 00:00"
    assert failure["body"].startswith("1 of 3 intervals failed, 1 halted; first: 2026-01-02 → 01-03: ")


def test_a_database_that_is_down_is_told_once(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    place = make_place(spec=spec_named("no-database"))
    deploy(place)

    nobody = "postgresql+psycopg://nobody@127.0.0.1:9/warehouse"
    with deployed_run(api, client, place, "score/no-database", PENSTOCK_CONNECTIONS__WAREHOUSE=nobody) as (_, process):
        process.wait(timeout=SECONDS)

    wait_until(lambda: mailbox.about("no-database"), tell=lambda: what_happened(client, place))
    time.sleep(3)
    [message] = mailbox.about("no-database")
    assert message["subject"] == "no-database failed: no-database due until 2026-01-02 00:00"
    assert "`warehouse`" in message["body"]


def test_an_unexpected_exception_outside_an_interval_is_told_once(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    place = make_place(spec=spec_named("surprised"))
    deploy(place)
    (place.folder / "sitecustomize.py").write_text(
        "import sqlalchemy\n"
        "def create_engine(*_, **__): raise ZeroDivisionError('nobody expects it')\n"
        "sqlalchemy.create_engine = create_engine\n"
    )

    path = f"{place.folder}:{CHECKOUT}"
    with deployed_run(api, client, place, "score/surprised", PYTHONPATH=path) as (flow_run, process):
        assert process.wait(timeout=SECONDS) == 0
    assert UNEXPECTED in logs_of(client, flow_run.id)

    state = client.read_flow_run(flow_run.id).state
    assert state is not None
    assert state.is_failed(), what_happened(client, place)
    wait_until(lambda: mailbox.about("surprised"), tell=lambda: what_happened(client, place))
    time.sleep(3)
    [message] = mailbox.about("surprised")
    assert message["body"].startswith("ZeroDivisionError: nobody expects it")


def test_a_flow_that_cannot_be_imported_ends_as_crashed_and_is_told_once(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    place = make_place(spec=spec_named("unimportable"))
    deploy(place)
    deployment = client.read_deployment_by_name("score/unimportable")
    gone = {"entrypoint": "penstock.flows.gone.score"}
    client.request("PATCH", "/deployments/{id}", path_params={"id": deployment.id}, json=gone)
    flow_run = client.create_flow_run_from_deployment(deployment.id)

    log = place.folder / "worker.log"
    with running_worker(WorkerPlan(api, WORK_POOL, place.folder, log, limit=1)):
        [state] = wait_until(lambda: ended_states(client, [flow_run.id]))

    assert state.is_crashed(), f"{state} {log.read_text()[-2000:]}"
    wait_until(lambda: mailbox.about("unimportable"), tell=lambda: what_happened(client, place))
    time.sleep(3)
    [message] = mailbox.about("unimportable")
    assert message["subject"] == f"unimportable failed: {flow_run.name}"
    assert message["body"].startswith("Process exited with status code: 1.")


def test_failures_at_the_same_time_are_each_told_once(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    deploy(make_place(spec=spec_named("storm")))
    deployment_id = client.read_deployment_by_name("score/storm").id
    of_ours = [{"prefect.resource.id": "prefect.tag.penstock", "prefect.resource.role": "tag"}]
    pipeline = {"prefect.resource.id": "penstock.pipeline.storm"}

    def fail(number: int) -> None:
        with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as own:
            flow_run = own.create_flow_run_from_deployment(deployment_id, state=Pending(), name=f"run {number:02}")
            own.set_flow_run_state(flow_run.id, Running())
            resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"}

            def emit(name: str, about: dict[str, str], related: list[dict[str, str]]) -> None:
                now = {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat()}
                event = {"event": name, "resource": about, "related": related, "payload": {}}
                own.request("POST", "/events", json=[event | now])

            emit("prefect.flow-run.heartbeat", resource, of_ours)
            time.sleep(0.3)
            if number % 2:
                own.set_flow_run_state(flow_run.id, Crashed(message="no heartbeat"))
            else:
                emit("penstock.flow-run.failed", pipeline, [resource | {"prefect.resource.role": "flow-run"}])
                own.set_flow_run_state(flow_run.id, Failed(message="the warehouse is gone"))

    with ThreadPoolExecutor(8) as at_once:
        list(at_once.map(fail, range(32)))

    wait_until(lambda: len({message["subject"] for message in mailbox.about("storm")}) == 32)
    time.sleep(3)
    assert sorted(message["subject"] for message in mailbox.about("storm")) == [
        f"storm failed: run {number:02}" for number in range(32)
    ]


def test_a_spec_that_does_not_load_is_told_though_no_interval_was_claimed(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    place = make_place(spec=spec_named("broken"))
    deploy(place)
    (place.folder / "broken.yaml").write_text("name: [")

    with deployed_run(api, client, place, "score/broken") as (_, process):
        process.wait(timeout=SECONDS)

    wait_until(lambda: mailbox.about("broken"), tell=lambda: what_happened(client, place))
    time.sleep(3)
    [message] = mailbox.about("broken")
    assert "not YAML" in message["body"]
    assert not events_of(client, "penstock.run.failed", "penstock.pipeline.broken")


def ended_states(client: SyncPrefectClient, flow_run_ids: list[UUID]) -> list[State]:
    """Return the flow runs' states once all of them are final; none before."""
    states = [state for run_id in flow_run_ids if (state := client.read_flow_run(run_id).state)]
    return states if all(state.is_final() for state in states) else []


def test_a_run_whose_process_was_killed_ends_as_crashed_and_is_told(
    api: str,
    client: SyncPrefectClient,
    mailbox: Mailbox,
    make_place: Callable[..., Place],
    deploy: Callable[[Place], Pipeline],
) -> None:
    place = make_place(spec=spec_named("killed").replace("partition_rows: 150", "partition_rows: 1"))
    deploy(place)
    zombies = next(a for a in client.read_automations(sort=AutomationSort.NAME_ASC, limit=200) if "zombie" in a.name)
    client.delete_automation(zombies.id)
    client.create_automation(define_zombie_automation(heartbeat_seconds=5))

    with deployed_run(api, client, place, "score/killed") as (flow_run, process):
        inner = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]))
        [interval_run] = wait_until(lambda: client.read_flow_runs(flow_run_filter=inner))
        both = [flow_run.id, interval_run.id]
        resources = [f"prefect.flow-run.{run_id}" for run_id in both]
        wait_until(lambda: all(events_of(client, "prefect.flow-run.heartbeat", resource) for resource in resources))
        process.send_signal(signal.SIGKILL)
        process.wait()
    states = wait_until(lambda: ended_states(client, both))

    assert all(state.is_crashed() for state in states)
    assert all("no heartbeat for 15 s: its process is gone." in state.message for state in states)
    [message] = wait_until(lambda: mailbox.about("killed"))
    assert "the next run scores what is missing once its lease has ended." in message["body"]


@pytest.mark.usefixtures("mailbox")
def test_a_run_is_set_to_crashed_only_in_a_state_that_needs_a_process(client: SyncPrefectClient) -> None:
    @flow
    def score() -> None: ...

    client.create_automation(define_zombie_automation(heartbeat_seconds=4))
    time.sleep(2)  # the server loads a new automation a moment later
    runs = {}
    for state in (Running(), Paused(), Suspended(), AwaitingRetry()):
        flow_run = client.create_flow_run(score, tags=["penstock"], state=Running())
        tag = {"prefect.resource.id": "prefect.tag.penstock", "prefect.resource.role": "tag"}
        heartbeat = {
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"},
            "related": [tag],
            "payload": {},
        }
        told = {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat()}
        client.request("POST", "/events", json=[heartbeat | told])
        if not state.is_running():
            client.set_flow_run_state(flow_run.id, state, force=True)
        runs[state.name] = flow_run.id

    def states() -> dict[str, str]:
        return {before: str(client.read_flow_run(run_id).state_name) for before, run_id in runs.items()}

    wait_until(lambda: states()["Running"] == states()["Paused"] == "Crashed")
    time.sleep(14)  # longer than three heartbeats
    assert states() == {
        "Running": "Crashed",
        "Paused": "Crashed",
        "Suspended": "Suspended",
        "AwaitingRetry": "AwaitingRetry",
    }


@pytest.mark.usefixtures("mailbox")
def test_a_published_run_can_start_another_deployment(
    api: str, client: SyncPrefectClient, make_place: Callable[..., Place], deploy: Callable[[Place], Pipeline]
) -> None:
    follower = make_place(spec=spec_named("follower"))
    deploy(follower)
    deployment = client.read_deployment_by_name("score/follower")
    parameters = {"start": "{{ event.payload.interval_start }}", "end": "{{ event.payload.interval_end }}"}
    client.create_automation(
        AutomationCore(
            name="score follower after leader",
            trigger=EventTrigger(
                expect={"penstock.run.published"}, match={"prefect.resource.id": "penstock.pipeline.leader"}
            ),
            actions=[RunDeployment(deployment_id=deployment.id, parameters=parameters)],
        )
    )
    follower.spec.write_text(spec_named("leader"))

    assert penstock_run(api, follower, "2026-01-02") == 0

    of_follower = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
    [flow_run] = wait_until(
        lambda: client.read_flow_runs(flow_run_filter=of_follower, sort=FlowRunSort.NAME_ASC, limit=10)
    )
    assert flow_run.parameters["start"] == "2026-01-01T00:00:00+00:00"
    assert flow_run.parameters["end"] == "2026-01-02T00:00:00+00:00"
    [event] = wait_until(lambda: events_of(client, "penstock.run.published", "penstock.pipeline.leader"))
    assert event["payload"]["rows"] == {"extracted": 250, "scored": 250, "quarantined": 0, "excluded": 0}
    assert event["payload"]["table"] == "card_risk_scores"
    assert any(r["prefect.resource.id"].startswith("prefect.flow-run.") for r in event["related"])


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise, behind the block, imports it
def test_a_halt_is_told_by_mail_through_any_mail_server(client: SyncPrefectClient) -> None:
    with mail_server() as (port, lines):
        url = f"mailto://127.0.0.1:{port}?from=penstock@example.com&to=ops@example.com&mode=insecure"
        SlackWebhook(url=url).save("mail", overwrite=True)  # the block hands every URL to Apprise, Slack's or not
        pipeline = pipeline_of(SPEC + "notify: {on_halt: [slack-webhook/mail]}\n")
        apply_automations(client, [pipeline], whole_folder=False, dry_run=False)
        payload = {"interval": "2026-01-01", "message": "150 of 250 rows refused", "run_id": "r1", "model": "m/1"}
        event = {
            "event": "penstock.run.halted",
            "resource": {"prefect.resource.id": "penstock.pipeline.card-risk"},
            "payload": payload,
        }

        for _ in range(3):  # the server loads a new automation a moment after it was made, and later when it is busy
            told = {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat()}
            client.request("POST", "/events", json=[event | told])
            until = time.monotonic() + 30
            while "." not in lines and time.monotonic() < until:
                time.sleep(0.2)
            if "." in lines:
                break
    assert "rcpt TO:<ops@example.com>" in lines
    assert "Subject: card-risk halted: 2026-01-01" in lines
    assert any("150 of 250 rows refused" in line for line in lines)


@pytest.fixture
def sendgrid(api: str, client: SyncPrefectClient) -> None:
    block = SendgridEmail(api_key="key", sender_email="a@example.com", to_emails=["ops@example.com"])
    block.save("ops", overwrite=True)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise, behind the block, imports it
@pytest.mark.usefixtures("mailbox", "sendgrid")
def test_applying_again_changes_nothing_and_a_changed_spec_changes_only_what_differs(
    client: SyncPrefectClient,
) -> None:
    first = apply_automations(client, [pipeline_of(TOLD)], whole_folder=False, dry_run=False)
    again = apply_automations(client, [pipeline_of(TOLD)], whole_folder=False, dry_run=False)
    mail = TOLD.replace("on_failure: [custom-webhook/ops]", "on_failure: [custom-webhook/ops, sendgrid-email/ops]")
    changed = apply_automations(client, [pipeline_of(mail)], whole_folder=False, dry_run=False)
    halts = next(a for a in client.read_automations_by_name(f"{PREFIX}card-risk on halt"))
    client.pause_automation(halts.id)
    removed = apply_automations(client, [pipeline_of(SPEC)], whole_folder=False, dry_run=True)

    names = ["zombie runs", "card-risk on halt", "card-risk on failure"]
    assert [(c.kind, c.what) for c in first] == [("created", f"automation {name}") for name in names]
    assert [c.kind for c in again] == ["unchanged"] * 3
    assert [c.kind for c in changed] == ["unchanged", "unchanged", "updated"]
    assert "Notifies custom-webhook/ops, sendgrid-email/ops when" in changed[2].details[0]
    assert [(c.kind, c.what) for c in removed] == [
        ("unchanged", "automation zombie runs"),
        ("removed", "automation card-risk on failure"),
        ("removed", "automation card-risk on halt"),
    ]
    assert len(client.read_automations_by_name(f"{PREFIX}card-risk on halt")) == 1


@pytest.mark.usefixtures("mailbox")
def test_an_automation_that_a_person_paused_stays_paused_when_it_is_updated(client: SyncPrefectClient) -> None:
    apply_automations(client, [pipeline_of(TOLD)], whole_folder=False, dry_run=False)
    [halts] = client.read_automations_by_name(f"{PREFIX}card-risk on halt")
    other = halts.model_dump(exclude={"id", "owner_resource"}) | {"description": "of yesterday"}
    client.update_automation(halts.id, AutomationCore.model_validate(other))
    client.pause_automation(halts.id)

    changes = apply_automations(client, [pipeline_of(TOLD)], whole_folder=False, dry_run=False)

    assert [c.kind for c in changes] == ["unchanged", "updated", "unchanged"]
    [halts] = client.read_automations_by_name(f"{PREFIX}card-risk on halt")
    assert not halts.enabled
    assert halts.description.startswith("Notifies custom-webhook/ops")


@pytest.mark.usefixtures("mailbox")
def test_an_older_automation_that_waits_for_the_state_failed_is_updated(client: SyncPrefectClient) -> None:
    apply_automations(client, [pipeline_of(TOLD)], whole_folder=False, dry_run=False)
    [failures] = client.read_automations_by_name(f"{PREFIX}card-risk on failure")
    old = EventTrigger(
        expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"},
        match={"prefect.resource.id": "prefect.flow-run.*", "prefect.state-message": "!Halted: *"},
        match_related={"prefect.resource.role": "deployment", "prefect.resource.name": "card-risk"},
    )
    other = failures.model_dump(exclude={"id", "owner_resource"}) | {"trigger": old.model_dump()}
    client.update_automation(failures.id, AutomationCore.model_validate(other))

    changes = apply_automations(client, [pipeline_of(TOLD)], whole_folder=False, dry_run=False)

    assert [(c.kind, c.details) for c in changes][2] == ("updated", ("trigger differs",))
    [failures] = client.read_automations_by_name(f"{PREFIX}card-risk on failure")
    assert "penstock.flow-run.failed" in failures.model_dump_json()
    assert "Halted" not in failures.model_dump_json()


@pytest.mark.usefixtures("mailbox")
def test_the_whole_folder_removes_automations_of_pipelines_that_are_gone_and_leaves_what_others_made(
    client: SyncPrefectClient,
) -> None:
    gone = pipeline_of(spec_named("gone"))
    apply_automations(client, [gone], whole_folder=False, dry_run=False)
    [other] = client.read_automations_by_name(f"{PREFIX}gone on halt")
    foreign = AutomationCore.model_validate(other.model_dump() | {"name": f"{PREFIX}by a person", "tags": []})
    client.create_automation(foreign)

    alone = apply_automations(client, [pipeline_of(SPEC)], whole_folder=False, dry_run=False)
    whole = apply_automations(client, [pipeline_of(SPEC)], whole_folder=True, dry_run=False)

    assert [c.kind for c in alone] == ["unchanged"]
    assert [c.what for c in whole if c.kind == "removed"] == ["automation gone on failure", "automation gone on halt"]
    assert client.read_automations_by_name(f"{PREFIX}by a person")


def test_a_missing_block_is_named_with_its_pipeline_and_its_remedy_before_anything_changes(
    client: SyncPrefectClient, mailbox: Mailbox
) -> None:
    spec = TOLD.replace("on_failure: [custom-webhook/ops]", "on_failure: [custom-webhook/opps]")

    with pytest.raises(SettingsError) as caught:
        apply_automations(client, [pipeline_of(spec)], whole_folder=False, dry_run=False)

    assert str(caught.value) == (
        "pipeline `card-risk` notifies `custom-webhook/opps`, and this Prefect server has no notification block of "
        "that name. Did you mean `custom-webhook/ops`? Run `prefect block create custom-webhook`, which links to "
        "the page for creating it, and name it `opps`; or remove it from `notify:`."
    )
    assert client.read_automations(sort=AutomationSort.NAME_ASC, limit=200) == []


def test_flows_end_in_states_with_prefects_own_names_which_its_ui_lists() -> None:
    sources = "".join(
        file.read_text() for room in ("flows", "tasks") for file in sorted((CHECKOUT / room).glob("*.py"))
    )

    assert not re.findall(r"(?:Completed|Failed|Cancelled|Crashed)\(\s*name=", sources)
    assert {"Completed", "Failed", "Crashed", "Cancelled", "TimedOut"} <= set(WITHOUT_PROCESS)
