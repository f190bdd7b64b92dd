"""`penstock up`: server, worker and deployments in one command; nothing of it outlives the command."""

import json
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from penstock.database.connections import close_engines, open_database
from penstock.deployments.server.local import local_server, running_server
from penstock.deployments.server.postgres import find_postgres, find_programs
from penstock.deployments.worker.process import WORKER_NAME
from penstock.errors import SettingsError
from penstock.settings import Settings
from tests.shop import SPEC, payments, train_model, write_payments
from tests.waiting import SECONDS, wait_until

COMMAND = [sys.executable, "-c", "from penstock.cli import main; main()"]
READY = "Ctrl-C stops everything"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="orphans are looked for in /proc"),
]


@dataclass
class Up:
    """A `penstock up` that runs, and what it has printed."""

    process: subprocess.Popen[bytes]
    project: Path
    api: str
    output: Path

    @property
    def told(self) -> str:
        return self.output.read_text()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.api + path, data, {"content-type": "application/json"}, method=method)
        for _ in range(20):
            try:
                with urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except HTTPError as error:
                if error.code != 503:  # SQLite was busy; Prefect's own clients ask again too
                    raise
                time.sleep(0.5)
        raise AssertionError(f"{path} is busy for ever")

    def trigger(self, **parameters: object) -> str:
        deployment = self.ask("GET", "/deployments/name/score/card-risk")["id"]
        return str(self.ask("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])

    def state_of(self, flow_run: str) -> str:
        return str(self.ask("GET", f"/flow_runs/{flow_run}")["state"]["type"])

    def log_of(self, flow_run: str) -> list[str]:
        wanted = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "sort": "TIMESTAMP_ASC"}
        return [str(line["message"]) for line in self.ask("POST", "/logs/filter", wanted)]

    def worker_is_online(self) -> bool:
        workers = self.ask("POST", "/work_pools/penstock/workers/filter", {})
        return any(each["name"] == WORKER_NAME and each["status"] == "ONLINE" for each in workers)


@dataclass(frozen=True)
class Shop:
    """A project folder: `.env`, one pipeline on a schedule, its payments and model."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / ".penstock"

    @contextmanager
    def up(self, *options: str, port: int | None = None) -> Iterator[Up]:
        port = port or free_port()
        output = self.folder / f"up-{port}.log"
        with output.open("wb") as told:
            process = self.start(told, "up", "--port", str(port), *options)
        try:
            wait_until(lambda: READY in output.read_text() or process.poll() is not None, tell=output.read_text)
            assert process.poll() is None, output.read_text()
            yield Up(process, self.folder, f"http://127.0.0.1:{port}/api", output)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)

    def start(self, told: IO[bytes], *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], cwd=self.folder, capture_output=True, text=True, check=False)

    def processes(self) -> list[str]:
        """Return the command lines of all that `up` has started for this folder."""
        return [*self.commands().values()]

    def commands(self) -> dict[int, str]:
        """Return them by process id. The environment of each process names the folder."""
        mark = f"PENSTOCK_PROJECT={self.folder}\0".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it has ended, or is somebody else's
        return found

    @contextmanager
    def held_warehouse(self) -> Iterator[None]:
        """Keep every run that wants to write to the warehouse waiting."""
        with closing(sqlite3.connect(self.home / "warehouse.db", isolation_level=None)) as connection:
            connection.execute("begin immediate")
            yield
            connection.execute("rollback")


def free_port() -> int:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def make_shop(folder: Path) -> Shop:
    """Make a project with one pipeline that can run."""
    home = folder / ".penstock"
    shop = f"sqlite:///{folder / 'shop.db'}"
    settings = Settings(home=home, connections={"shop": shop})
    train_model(settings.models_folder)
    write_payments(open_database(settings, "shop"), payments())
    close_engines()
    (folder / "pipelines").mkdir()
    schedule = 'schedule: {cron: "15 2 * * *", timezone: Europe/Paris}\n'
    (folder / "pipelines" / "card-risk.yaml").write_text(SPEC + schedule)
    (folder / ".env").write_text(
        f"PENSTOCK_HOME=.penstock\nPENSTOCK_PIPELINES=pipelines\nPENSTOCK_CONNECTIONS__SHOP={shop}\n"
    )
    return Shop(folder)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("project")
    made = make_shop(folder)
    (folder / "pipelines" / "broken.yaml").write_text("name: broken\nsource: none\n")
    return made


@pytest.fixture(scope="module")
def up(shop: Shop) -> Iterator[Up]:
    """One `penstock up` for the tests that leave it running."""
    with shop.up() as running:
        yield running


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that Postgres' own user may enter, when root runs the tests; pytest's are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="a-project-folder-with-a-name-that-is-long-" + "x" * 60))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_up_tells_where_everything_is_and_when_the_pipeline_runs_next(up: Up) -> None:
    address = up.api.removesuffix("/api")

    assert f"UI       {address}\n" in up.told
    assert str(up.project) in up.told
    assert any("score/card-risk" in line and ":15 " in line for line in up.told.splitlines())
    assert up.ask("GET", "/health") is True
    with urlopen(f"{address}/ui-settings") as answer:
        assert json.load(answer)["api_url"] == up.api


def test_pipeline_that_does_not_load_is_told_and_the_others_run(up: Up) -> None:
    assert "Not deployed: pipelines/broken.yaml" in up.told
    assert up.worker_is_online()


def test_full_server_schedules_and_keeps_its_slots_on_disk(up: Up) -> None:
    server = up.ask("GET", "/admin/settings")["server"]

    assert server["services"]["scheduler"]["enabled"]
    assert server["services"]["foreman"]["enabled"]
    assert server["concurrency"]["lease_storage"].endswith("filesystem")
    assert server["concurrency"]["initial_deployment_lease_duration"] == 60
    assert server["concurrency"]["maximum_concurrency_slot_wait_seconds"] == 5
    assert server["deployments"]["concurrency_slot_wait_seconds"] == 5
    assert not server["analytics_enabled"]


def test_triggered_run_is_scored_in_the_project_by_the_worker(up: Up, shop: Shop) -> None:
    flow_run = up.trigger(pipeline="card-risk", mode="backfill", end="2026-01-02T00:00:00Z")

    wait_until(lambda: up.state_of(flow_run) in ENDED)
    log = (shop.home / "prefect" / "worker.log").read_text()
    assert up.state_of(flow_run) == "COMPLETED", log
    with closing(sqlite3.connect(shop.home / "warehouse.db")) as warehouse:
        assert warehouse.execute("select count(*) from card_risk_scores").fetchone() == (250,)


@pytest.mark.skipif(sys.platform != "linux", reason="the fork server runs on Linux only")
def test_flow_runs_are_forked_and_a_killed_fork_server_costs_only_its_runs(up: Up, shop: Shop) -> None:
    log = shop.home / "prefect" / "worker.log"

    def forks() -> list[int]:
        return sorted(pid for pid, line in shop.commands().items() if "fork_server" in line)

    wait_until(lambda: "the fork server is ready" in log.read_text(), tell=log.read_text)
    wait_until(lambda: len(forks()) == 1, tell=shop.commands)  # a run of another test may still be ending
    [server] = forks()
    with shop.held_warehouse():
        flow_run = up.trigger(pipeline="card-risk", mode="backfill", end="2026-01-03T00:00:00Z")
        wait_until(lambda: len(forks()) == 2, tell=shop.processes)

        os.kill(server, signal.SIGKILL)
        wait_until(lambda: up.state_of(flow_run) == "CRASHED", tell=lambda: up.state_of(flow_run))
    wait_until(lambda: log.read_text().count("the fork server is ready") == 2, tell=log.read_text)


def test_health_page_answers_for_the_server_and_the_worker(up: Up) -> None:
    with urlopen(up.api.removesuffix("/api") + "/health") as answer:
        assert json.load(answer) == {"server": "ok", "workers": [WORKER_NAME]}


def test_new_and_changed_files_are_deployed_while_up_runs(up: Up, shop: Shop) -> None:
    spec = (shop.folder / "pipelines" / "card-risk.yaml").read_text()
    new = shop.folder / "pipelines" / "card-loss.yaml"
    new.write_text(spec.replace("card-risk", "card-loss", 1).replace("card_risk_scores", "card_loss_scores"))
    wait_until(lambda: "created deployment score/card-loss" in up.told)

    new.write_text("name: card-loss\nsource: none\n")
    wait_until(lambda: "Not deployed: pipelines/card-loss.yaml" in up.told)
    new.unlink()
    (shop.folder / "pipelines" / "broken.yaml").unlink()
    wait_until(lambda: "deployment score/card-loss: its file is gone. Run `penstock deploy`" in up.told)

    (shop.folder / "pipelines" / "broken.yaml").write_text("name: broken\nsource: none\n")
    assert up.worker_is_online()


def test_waiting_run_says_once_which_run_it_waits_for(up: Up, shop: Shop) -> None:
    made = up.trigger(pipeline="card-risk", dry_run=True)  # the ledger's tables
    wait_until(lambda: up.state_of(made) in ENDED)
    with shop.held_warehouse():
        first = up.trigger(pipeline="card-risk", mode="backfill")
        wait_until(lambda: up.state_of(first) == "RUNNING")
        second = up.trigger(pipeline="card-risk", dry_run=True)
        wait_until(lambda: any("waits:" in line for line in up.log_of(second)))
        time.sleep(12)  # the server lets it try every 5 s
        lines = up.log_of(second)
    name = up.ask("GET", f"/flow_runs/{first}")["name"]

    assert [line for line in lines if "waits:" in line] == [
        f"waits: the runs of this deployment start one after another. It starts when `{name}` ({first}) has ended"
    ]
    assert not any("Aborted submission" in line for line in lines)
    assert len(lines) <= 3, lines
    wait_until(lambda: up.state_of(second) in ENDED)
    assert up.state_of(second) == "COMPLETED"
    assert any("its turn has come" in line for line in up.log_of(second))


def test_run_on_the_same_home_uses_the_server_that_is_up(up: Up, shop: Shop) -> None:
    ended = shop.run("run", "card-risk", "--start", "2026-01-02", "--end", "2026-01-03", "--restate")

    assert ended.returncode == 0, ended.stderr
    own = {"flows": {"name": {"any_": ["score"]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    wait_until(lambda: any(run["deployment_id"] is None for run in up.ask("POST", "/flow_runs/filter", own)))
    running = running_server(shop.home)
    assert running is not None
    assert running.full
    assert running.api_url == up.api


def test_second_up_on_the_same_home_is_refused_with_the_address_of_the_first(up: Up, shop: Shop) -> None:
    ended = shop.run("up", "--port", str(free_port()))

    assert ended.returncode == 2
    assert f"already runs on {shop.home}, at {up.api.removesuffix('/api')}" in ended.stderr


def test_taken_port_is_refused_by_its_number(up: Up, tmp_path: Path) -> None:
    port = up.api.split(":")[2].split("/")[0]

    ended = Shop(tmp_path).run("up", "--port", port)

    assert ended.returncode == 2
    assert f"cannot use port {port}" in ended.stderr
    assert "--port" in ended.stderr


def test_killed_worker_comes_back_and_its_run_is_shown_as_crashed(up: Up, shop: Shop) -> None:
    with shop.held_warehouse():
        flow_run = up.trigger(pipeline="card-risk", mode="backfill")
        wait_until(lambda: up.state_of(flow_run) == "RUNNING")
        flow_pid = int(up.ask("GET", f"/flow_runs/{flow_run}")["infrastructure_pid"])
        worker_pid = os.getpgid(flow_pid)

        os.kill(worker_pid, signal.SIGKILL)

        wait_until(lambda: up.state_of(flow_run) == "CRASHED")
        assert not any("prefect.engine" in line or "penstock.deployments.engine" in line for line in shop.processes())
    wait_until(lambda: "The worker died (SIGKILL). It is restarted in 1 s" in up.told)  # its run may say so first
    again = up.trigger(pipeline="card-risk", dry_run=True)
    wait_until(lambda: up.state_of(again) in ENDED)
    assert up.state_of(again) == "COMPLETED"


def test_interrupt_ends_a_running_flow_run_and_leaves_no_process(shop: Shop, up: Up) -> None:
    with shop.held_warehouse():
        flow_run = up.trigger(pipeline="card-risk", mode="backfill")
        wait_until(lambda: up.state_of(flow_run) == "RUNNING")

        up.process.send_signal(signal.SIGINT)
        code = up.process.wait(SECONDS)

    assert code == 0
    assert up.told.endswith("Stopped.\n")
    with closing(sqlite3.connect(shop.home / "prefect" / "prefect.db")) as prefect:
        states = prefect.execute("select state_type from flow_run where id = ?", (flow_run,)).fetchall()
    assert states in ([("CRASHED",)], [("FAILED",)])  # by us, or by the run in its last moment
    assert shop.processes() == []
    assert running_server(shop.home) is None


def test_killed_up_leaves_no_process_and_the_next_one_tells_of_its_run(shop: Shop) -> None:
    with shop.held_warehouse(), shop.up() as first:
        flow_run = first.trigger(pipeline="card-risk", mode="backfill")
        wait_until(lambda: first.state_of(flow_run) == "RUNNING")

        first.process.kill()

        wait_until(lambda: shop.processes() == [], tell=shop.processes)
    with shop.up() as second:
        assert second.state_of(flow_run) == "CRASHED"
        assert "died with their worker" in second.told


def test_a_paused_schedule_is_shown_as_paused_and_named_by_doctor(shop: Shop) -> None:
    spec = shop.folder / "pipelines" / "card-risk.yaml"
    before = spec.read_text()
    spec.write_text(before.replace("Paris}", "Paris, active: false}"))
    with shop.up() as up:
        assert "paused (15 2 * * * Europe/Paris)" in up.told
        assert "score/card-risk is paused (15 2 * * * Europe/Paris)" in shop.run("doctor").stdout
    spec.write_text(before)


def test_command_of_the_systemd_unit_reports_and_a_restart_takes_the_cut_off_run_over(shop: Shop) -> None:
    port = free_port()
    unit = shop.run("up", "--systemd", "--port", str(port)).stdout
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    command = shlex.split(settings["ExecStart"])
    kept = {name: os.environ[name] for name in ("HOME", "PYTHONPATH") if name in os.environ}
    address = f"{tempfile.mkdtemp()}/notify"
    up = Up(None, shop.folder, f"http://127.0.0.1:{port}/api", shop.folder / "service.log")  # type: ignore[arg-type]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(SECONDS)

        def start() -> subprocess.Popen[bytes]:
            with up.output.open("wb") as output:
                process = subprocess.Popen(
                    command,
                    cwd=settings["WorkingDirectory"],
                    env=kept | {"PATH": os.defpath, "NOTIFY_SOCKET": address},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            try:
                while systemd.recv(100) != b"READY=1":
                    pass
                assert systemd.recv(100) == b"WATCHDOG=1"
            except BaseException:
                process.kill()
                process.wait(SECONDS)
                raise
            return process

        process = start()
        made = up.trigger(pipeline="card-risk", dry_run=True)  # the ledger's tables
        wait_until(lambda: up.state_of(made) in ENDED)
        with shop.held_warehouse():
            cut_off = up.trigger(pipeline="card-risk", mode="restate", start="2026-01-01", end="2026-01-02")
            wait_until(lambda: up.state_of(cut_off) == "RUNNING")
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        assert shop.processes() == []

        process = start()
        try:
            assert up.state_of(cut_off) in ("CRASHED", "FAILED")
            again = up.trigger(pipeline="card-risk", mode="restate", start="2026-01-01", end="2026-01-02")
            wait_until(lambda: up.state_of(again) in ENDED)
            assert up.state_of(again) == "COMPLETED"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)
    assert (shop.home / "prefect" / "worker.log.1").exists()  # the log of the first start


@pytest.mark.skipif(find_programs() is None, reason="no Postgres is installed on this machine")
def test_up_on_postgres_runs_a_pipeline_and_leaves_no_process_when_killed(open_folder: Path) -> None:
    shop = make_shop(open_folder)
    with shop.up("--postgres") as up:
        assert any("score/card-risk" in line and ":15 " in line for line in up.told.splitlines())
        flow_run = up.trigger(pipeline="card-risk", dry_run=True)
        wait_until(lambda: up.state_of(flow_run) in ENDED)
        assert up.state_of(flow_run) == "COMPLETED"
        assert any("postgres" in line for line in shop.processes())

        up.process.kill()

        wait_until(lambda: shop.processes() == [], tell=shop.processes)


def test_up_waits_for_a_small_server_and_is_refused_when_it_stays(shop: Shop) -> None:
    with local_server(shop.home):
        ended = shop.run("up", "--port", str(free_port()))

    assert ended.returncode == 2
    assert "`penstock run` is using its own Prefect server" in ended.stderr


def test_url_of_another_database_is_refused_for_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:///p.db")

    with pytest.raises(SettingsError, match=r"is for `sqlite\+aiosqlite`"):
        find_postgres(tmp_path)
