"""A flow and its workers on several hosts: network namespaces with addresses of their own (`tests/servers/hosts.py`).

The hosts share the disk, so a folder that a host is not to see is hidden from its processes.
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.ledger.reader import partitions_of
from penstock.resources.runner import parse_runner
from penstock.tasks import runners
from penstock.tasks.clusters import CLUSTERS
from tests.clusters import Shop, open_shop
from tests.servers.hosts import Host, Network, NetworkPostgres, free_port, open_network, open_postgres, why_no_hosts
from tests.servers.hosts import wait_for_port as wait_for_port_of
from tests.waiting import wait_until

NO_HOSTS = why_no_hosts()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("prefect_api"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(NO_HOSTS is not None, reason=str(NO_HOSTS)),
]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with open_network() as network:
        yield network


@pytest.fixture(scope="module")
def server(network: Network) -> Iterator[NetworkPostgres]:
    with open_postgres(network) as server:
        yield server


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, server: NetworkPostgres) -> Iterator[Shop]:
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        open_shop(tmp_path_factory.mktemp("shop"), server, monkeypatch) as shop,
    ):
        yield shop


class Cluster:
    """A scheduler on this machine, and workers on hosts."""

    def __init__(self, network: Network, shop: Shop, folder: Path, address: str, scheduler: Any) -> None:
        self.network, self.shop, self.folder, self.address = network, shop, folder, address
        self.scheduler = scheduler
        self.hosts: list[Host] = []

    @property
    def runner(self) -> str:
        return f"dask:{self.address}"

    def add_worker(
        self, folder: Path | None = None, hidden: Sequence[Path] = (), join: bool = True, **environment: str
    ) -> Host:
        """Start a worker of one thread on a new host."""
        host = self.network.add_host()
        self.hosts.append(host)
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--nthreads", "1"]
        command += ["--host", host.address, "--no-dashboard", "--local-directory", f"/tmp/{host.name}"]
        log = self.folder / f"{host.name}.log"
        paths = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), *sys.path]))
        own = os.environ | {"PYTHONPATH": paths} | environment
        before = self.count_workers()
        host.start(command, log, own, folder or self.shop.place.folder, hidden)
        if join:
            wait_until(lambda: self.count_workers() > before, tell=lambda: log.read_text()[-3000:])
        return host

    def count_workers(self) -> int:
        with CLUSTERS["dask"].connected(parse_runner(self.runner)) as (_, workers):
            return workers.slots


@pytest.fixture
def cluster(network: Network, shop: Shop, tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("prefect_dask", reason="the extra `dask` is not installed")
    host, port, log = Host("", network.address), free_port(network.address), tmp_path / "scheduler.log"
    with run_here([sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", host.address, "--port", str(port),
                   "--no-dashboard"], log) as process:  # fmt: skip
        wait_for_port_of(host.address, port, process, log)
        cluster = Cluster(network, shop, tmp_path, f"tcp://{host.address}:{port}", process)
        yield cluster
        for each in cluster.hosts:
            each.plug()
            network.remove_host(each)
        network.hosts = [each for each in network.hosts if each not in cluster.hosts]


@contextmanager
def run_here(command: Sequence[str], log: Path) -> Iterator[Any]:
    import subprocess

    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def refusal(cluster: Cluster, name: str, source: str = "", **settings: str) -> str:
    """Score a day on the cluster, which must be refused in seconds before an interval begins. Return the message."""
    begun = time.monotonic()
    state = cluster.shop.score(name, cluster.runner, 1, source, **settings)
    assert state.is_failed()
    assert cluster.shop.runs(name) == []
    assert time.monotonic() - begun < 120
    return str(state.message)


def test_a_run_over_two_hosts_publishes_what_a_run_on_threads_does(cluster: Cluster) -> None:
    hosts = [cluster.add_worker() for _ in range(2)]

    state = cluster.shop.score("two-hosts", cluster.runner, 1)

    assert state.is_completed(), state.message
    assert cluster.shop.rows("two-hosts") == cluster.shop.undisturbed()[:250]
    assert cluster.shop.stored("two-hosts") == 250
    [run] = cluster.shop.runs("two-hosts")
    workers = {part.process for part in partitions_of(cluster.shop.place.warehouse, run.run_id)}
    assert len(workers) == len(hosts)


@pytest.mark.parametrize("loss", ["killed", "unplugged"])
def test_a_run_whose_host_is_lost_in_a_load_ends_right_and_stores_no_row_twice(cluster: Cluster, loss: str) -> None:
    name = f"host-{loss}"
    first, _ = cluster.add_worker(), cluster.add_worker()
    cluster.shop.score(name, "threads:2", 1)

    with cluster.shop.holding_up_loads(name, first.kill if loss == "killed" else first.unplug, loads=2):
        begun = time.monotonic()
        state = cluster.shop.score(name, cluster.runner, 2)

    assert time.monotonic() - begun < 240
    assert state.is_completed(), state.message
    assert cluster.shop.rows(name) == cluster.shop.undisturbed()
    assert cluster.shop.stored(name) == 500


def test_the_server_ends_the_session_of_a_host_that_is_gone_in_half_a_minute(shop: Shop) -> None:
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    with shop.place.warehouse.reading() as connection:
        found = [connection.execute(sa.text(f"show {name}")).scalar_one() for name in names]

    assert found == ["10", "5", "3", "30000"]


def test_a_run_whose_hosts_are_all_lost_ends_by_name(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "NO_WORKERS_SECONDS", 5.0)
    only = cluster.add_worker()
    cluster.shop.score("all-lost", "threads:2", 1)

    with cluster.shop.holding_up_loads("all-lost", only.kill, loads=1):
        state = cluster.shop.score("all-lost", cluster.runner, 2)

    assert state.is_failed()
    assert f"{cluster.runner} has had no worker for" in str(state.message)
    assert cluster.shop.rows("all-lost") == cluster.shop.undisturbed()[:250]


def test_a_run_whose_scheduler_is_killed_fails_by_name(cluster: Cluster) -> None:
    cluster.add_worker()
    cluster.shop.score("no-scheduler", "threads:2", 1)

    with cluster.shop.holding_up_loads("no-scheduler", cluster.scheduler.kill, loads=1):
        state = cluster.shop.score("no-scheduler", cluster.runner, 2)

    assert state.is_failed()
    assert f"on {cluster.runner} was lost" in str(state.message)
    assert cluster.shop.rows("no-scheduler") == cluster.shop.undisturbed()[:250]


def test_localhost_in_a_connection_of_a_worker_is_refused_with_what_to_write(
    cluster: Cluster, server: NetworkPostgres
) -> None:
    url = os.environ["PENSTOCK_CONNECTIONS__WAREHOUSE"].replace(server.address, "localhost")
    cluster.add_worker(PENSTOCK_CONNECTIONS__WAREHOUSE=url)

    message = refusal(cluster, "localhost")

    assert re.search(rf"on tcp://{cluster.hosts[0].address}:\d+ connection `warehouse` cannot be reached", message)
    assert "its host is localhost, which on" in message
    assert f"Write {server.address} instead of localhost in PENSTOCK_CONNECTIONS__WAREHOUSE there" in message


def test_a_server_whose_packets_are_lost_is_refused_by_name_in_seconds(cluster: Cluster) -> None:
    # the scheduler is at another address of this machine than the database, which the host cannot reach
    host = cluster.add_worker(
        PENSTOCK_CONNECTIONS__SHOP="postgresql://postgres:@10.213.1.1:5432/shop?connect_timeout=3"
    )
    host.drop_packets_to("10.213.1.1")

    assert "connection `shop` at postgresql shop at 10.213.1.1:5432 cannot be opened" in refusal(cluster, "dropped")


def test_another_database_at_the_worker_is_refused(cluster: Cluster, server: NetworkPostgres) -> None:
    server.psql("create database another;")
    cluster.add_worker(PENSTOCK_CONNECTIONS__WAREHOUSE=server.get_uri("another"))

    message = refusal(cluster, "another")

    assert "connection `warehouse` is another database: postgresql another at" in message
    assert "Set PENSTOCK_CONNECTIONS__WAREHOUSE there to the database of the flow" in message


def test_a_sqlite_file_is_refused_for_workers_on_other_hosts(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_worker()

    message = refusal(cluster, "a-file", PENSTOCK_CONNECTIONS__WAREHOUSE=f"sqlite:///{tmp_path}/warehouse.db")

    assert "connection `warehouse` is a file on this machine" in message
    assert cluster.hosts[0].address in message


def one_payment(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "payments.csv"
    file.write_text("payment_id,created_at,amount,items,country,first\n1,2026-01-01T00:00:00Z,1.0,1,DE,true\n")
    return file


def test_files_that_another_host_does_not_see_are_refused(cluster: Cluster) -> None:
    file = one_payment(cluster.shop.place.folder / "hidden")
    cluster.add_worker(hidden=[file.parent])

    message = refusal(cluster, "hidden", f"{{kind: files, path: {file}, format: csv, key: [payment_id]}}")

    assert f"the files of source `payments` cannot be read: there is no file {file}" in message
    assert "Write an absolute path of a folder that all machines mount" in message


def test_a_relative_path_is_refused_where_a_worker_has_another_folder(cluster: Cluster, tmp_path: Path) -> None:
    one_payment(cluster.shop.place.folder)
    cluster.add_worker(folder=tmp_path)

    message = refusal(cluster, "relative", "{kind: files, path: payments.csv, format: csv, key: [payment_id]}")

    assert f"its path payments.csv is relative, and the worker's folder is {tmp_path}" in message


def test_another_secret_is_refused_only_where_columns_are_private(cluster: Cluster) -> None:
    cluster.add_worker(PENSTOCK_PRIVATE_KEY="the worker's own secret")
    private = "{kind: sql, connection: shop, table: payments, key: [payment_id], private: {items: hash}}"

    message = refusal(cluster, "secret", private, PENSTOCK_PRIVATE_KEY="the secret of the flow")
    unneeded = cluster.shop.score("no-secret", cluster.runner, 1, PENSTOCK_PRIVATE_KEY="the secret of the flow")

    assert "PENSTOCK_PRIVATE_KEY is another one" in message
    assert "secret of the flow" not in message
    assert "worker's own" not in message
    assert unneeded.is_completed(), unneeded.message


def test_another_version_of_a_package_that_decides_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    for name, version in (("xgboost", "9.9.9"), ("prefect", "3.8.99")):
        metadata = tmp_path / f"{name}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    cluster.add_worker(PYTHONPATH=str(tmp_path))

    message = refusal(cluster, "versions")

    assert f"xgboost is 9.9.9, and {version_of('xgboost')} where the flow runs. Use one image" in message
    assert "3.8.99" not in message


def test_a_model_store_without_the_version_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_worker(PENSTOCK_MODEL_STORE=str(tmp_path / "models"))

    message = refusal(cluster, "models")

    assert "model card-risk/1 cannot be loaded" in message
    assert "Give the workers the same model store" in message


def test_a_worker_that_joins_later_is_compared_with_its_first_partition(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_worker()
    cluster.shop.score("late", "threads:2", 1)

    def join() -> None:
        cluster.add_worker(PENSTOCK_MODEL_STORE=str(tmp_path / "models"))
        time.sleep(5)  # so that it takes the partition that waits

    with cluster.shop.holding_up_loads("late", join, loads=1):
        state = cluster.shop.score("late", cluster.runner, 2, PENSTOCK_IN_FLIGHT="2")

    assert state.is_failed()
    assert "model card-risk/1 cannot be loaded" in str(state.message)
    assert cluster.shop.rows("late") == cluster.shop.undisturbed()[:250]
