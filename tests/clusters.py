"""Small clusters of this machine, and one shop on Postgres whose days are scored on them into tables side by side."""

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, close_engines, open_database
from penstock.ledger.reader import RunRecord, list_runs
from tests.conftest import view_rows
from tests.shop import SPEC, Place, payments, train_model, write_payments
from tests.waiting import wait_until

PARTITIONS = 5


class Shop:
    """The shop, and what a pipeline of each name has made of it."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self._monkeypatch = place, monkeypatch
        self._undisturbed: list[tuple[Any, ...]] = []

    def score(self, name: str, runner: str, day: int, source: str = "", more: str = "", **settings: str) -> Any:
        """Score a day by a runner; pipelines of several names write to several tables.

        Args:
            source: a source instead of the shop's table.
            more: further lines of the spec.
        """
        from penstock.flows.score import score
        from penstock.tasks.process_resources import settings as of_process

        table = self.table(name)
        spec = SPEC.replace("name: card-risk", f"name: {name}", 1).replace("card_risk_scores", table)
        if source:
            spec = re.sub(
                r"(?s)  payments:\n    kind: sql.*?expectations:", f"  payments: {source}\nexpectations:", spec
            )
        file = self.place.folder / f"{name}.yaml"
        file.write_text(f"{spec.replace('partition_rows: 150', f'partition_rows: {250 // PARTITIONS}')}{more}\n")
        with self._monkeypatch.context() as changed:
            for variable, value in {"PENSTOCK_RUNNER": runner, **settings}.items():
                changed.setenv(variable, value)
            of_process.cache_clear()
            asked = {"mode": "backfill", "start": f"2026-01-{day:02}", "end": f"2026-01-{day + 1:02}"}
            return score(str(file), **asked, return_state=True)

    def undisturbed(self) -> list[tuple[Any, ...]]:
        """Return the live rows of two days scored on threads, with nothing in the way."""
        if not self._undisturbed:
            for day in (1, 2):
                assert self.score("here", "threads:2", day).is_completed()
            self._undisturbed = self.rows("here")
        return self._undisturbed

    def table(self, name: str) -> str:
        return f"{name.replace('-', '_')}_scores"

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """Return the live rows of a pipeline."""
        return view_rows(self.place.warehouse, self.table(name))

    def stored(self, name: str) -> int:
        """Count all rows that a pipeline's runs have left, live or not."""
        with self.place.warehouse.reading() as connection:
            return int(connection.execute(sa.text(f"select count(*) from {self.table(name)}__history")).scalar_one())

    def runs(self, name: str) -> list[RunRecord]:
        return list_runs(self.place.warehouse, name)

    @contextmanager
    def holding_up_loads(self, name: str, act: Callable[[], None], loads: int) -> Iterator[None]:
        """Let loads of a pipeline wait until so many do, do something, and let them go on."""
        table, ended = self.table(name), threading.Event()
        with self.place.warehouse.engine.connect() as holder, ThreadPoolExecutor(1) as beside:
            holder.execute(sa.text(f"lock table {table}__history in exclusive mode"))

            def interfere() -> bool:
                try:
                    wait_until(lambda: waiting_loads(self.place.warehouse, table) >= loads or ended.is_set())
                    if ended.is_set():
                        return False
                    act()
                    return True
                finally:
                    holder.rollback()

            acting = beside.submit(interfere)
            try:
                yield
            finally:
                ended.set()
            assert acting.result(), "the run ended before its loads were met"


def waiting_loads(database: Database, table: str) -> int:
    """Count the sessions that wait for a lock on a pipeline's history."""
    query = "select count(*) from pg_locks where not granted and relation = to_regclass(:name)"
    with database.reading() as connection:
        return int(connection.execute(sa.text(query), {"name": f"{table}__history"}).scalar_one())


@contextmanager
def open_shop(folder: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Open a shop of three days on two databases of a server; workers that start meanwhile find both, and the model."""
    from penstock.tasks.process_resources import settings

    monkeypatch.chdir(folder)
    monkeypatch.setenv("PENSTOCK_HOME", str(folder / ".penstock"))
    for name in ("shop", "warehouse"):
        database = f"{name}_{folder.name.replace('-', '_')}"
        server.psql(f"create database {database};")
        monkeypatch.setenv(f"PENSTOCK_CONNECTIONS__{name.upper()}", str(server.get_uri(database)))
    settings.cache_clear()
    try:
        shop = open_database(settings(), "shop")
        write_payments(shop, payments())
        registry = train_model(settings().models_folder)
        place = Place(folder, shop, open_database(settings(), "warehouse"), folder / "card-risk.yaml", registry)
        yield Shop(place, monkeypatch)
    finally:
        settings.cache_clear()
        close_engines()


@contextmanager
def dask_cluster(workers: int = 2) -> Iterator[Any]:
    """Run a scheduler, and workers in processes of one thread each, which it starts again when they die."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        yield cluster


@contextmanager
def ray_cluster(cpus: int = 2) -> Iterator[str]:
    """Run a Ray head in processes of its own; give its address."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("RAY_worker_niceness", "0")  # as nice as Ray makes them, they never run on a busy machine
        changed.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
    try:
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def pool_workers() -> list[int]:
    """Return the processes of this process's pools; those of a Dask cluster are its children as well."""
    return [p.pid for p in multiprocessing.active_children() if p.pid and not p.name.startswith("Dask")]


def kill_one(pids: list[int]) -> None:
    assert pids
    os.kill(pids[0], signal.SIGKILL)


def ray_workers() -> list[int]:
    """Return the processes of this machine's Ray that have a partition under way."""
    return [
        p.pid for p in psutil.process_iter(["cmdline"]) if "ray::score-partition" in " ".join(p.info["cmdline"] or ())
    ]
