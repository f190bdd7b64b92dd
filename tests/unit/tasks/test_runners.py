"""What PENSTOCK_RUNNER may say, and what a run is told when it cannot be had."""

import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from penstock.database.connections import Database, open_database
from penstock.errors import ClusterUnreachable, SettingsError
from penstock.resources.runner import parse_runner
from penstock.run.placement import check_databases
from penstock.settings import Settings, load_settings
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks import clusters
from tests.servers.web import WebServer
from tests.shop import SPEC

Connect = Callable[[str], Database]


def connected(runner: str) -> AbstractContextManager[Any]:
    return clusters.CLUSTERS[runner.partition(":")[0]].connected(parse_runner(runner))


@pytest.fixture
def connect_to(tmp_path: Path) -> Callable[[str], Connect]:
    """Give what opens every connection in a dialect; nothing is there."""
    urls = {"postgresql": "postgresql+psycopg://nobody@host/nothing"}

    def connect(dialect: str) -> Connect:
        settings = Settings(connections={"any": urls.get(dialect, f"{dialect}:///{tmp_path}/file")})
        return lambda _name: open_database(settings, "any", str)

    return connect


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    (tmp_path / "card-risk.yaml").write_text(SPEC)
    return load_pipeline(tmp_path / "card-risk.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "threads:4",
        "processes:2",
        "dask:tcp://scheduler:8786",
        "dask:10.0.0.1:8786",
        "ray:auto",
        "ray:local",
        "ray:head:6379",
    ],
)
def test_a_runner_is_read_and_written_the_same(text: str) -> None:
    assert str(parse_runner(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "threads", "threads:0", "hamsters:4", "dask:", "dask:host", "ray:host", "ray:ray://head:10001", "dask:a b:1"],
)
def test_what_is_no_runner_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a runner; use threads:n, processes:n, dask:"):
        parse_runner(text)


def test_a_setting_that_names_no_runner_is_told_in_our_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_RUNNER", "dusk:3")

    with pytest.raises(SettingsError, match="PENSTOCK_RUNNER cannot be read: `dusk:3` is not a runner"):
        load_settings()


@pytest.mark.parametrize(("runner", "package"), [("dask:host:8786", "distributed"), ("ray:auto", "ray")])
def test_a_missing_extra_is_named(runner: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    kind = runner.partition(":")[0]

    with pytest.raises(SettingsError, match=rf"`penstock\[{kind}\]`"), connected(runner):
        pass


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_cluster_that_nobody_listens_for_is_unreachable(kind: str) -> None:
    pytest.importorskip(f"prefect_{kind}", reason=f"the extra `{kind}` is not installed")
    with socket.socket() as taken:  # bound, not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        runner = f"{kind}:127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ClusterUnreachable, match="Connection refused") as raised, connected(runner):
            pass

    assert raised.value.runner == runner


def test_something_that_is_no_scheduler_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prefect_dask", reason="the extra `dask` is not installed")
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        runner = f"dask:127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ClusterUnreachable, match="no scheduler answers"), connected(runner):
            pass


@pytest.mark.parametrize("kind", ["dask", "ray"])
@pytest.mark.parametrize("service", ["mute", "web"])
def test_a_port_of_another_service_is_refused_in_seconds(
    kind: str, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(f"prefect_{kind}", reason=f"the extra `{kind}` is not installed")
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1.0)
    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as mute, WebServer(tmp_path) as web:
        port = mute.getsockname()[1] if service == "mute" else urlsplit(web.url).port
        with pytest.raises(ClusterUnreachable, match="does not answer"), connected(f"{kind}:127.0.0.1:{port}"):
            pass
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_name_that_no_machine_has_is_refused(kind: str) -> None:
    pytest.importorskip(f"prefect_{kind}", reason=f"the extra `{kind}` is not installed")
    with pytest.raises(ClusterUnreachable, match="does not answer"), connected(f"{kind}:no-such-host.invalid:6379"):
        pass


@pytest.mark.parametrize(
    ("runner", "dialect", "elsewhere", "told"),
    [
        ("processes:2", "duckdb", [], "one process at a time"),
        ("dask:host:8786", "duckdb", [], "one process at a time"),
        ("dask:host:8786", "sqlite", ["10.0.0.2"], "is a file on this machine"),
    ],
)
def test_a_file_that_workers_cannot_open_is_refused(
    runner: str, dialect: str, elsewhere: list[str], told: str, pipeline: Pipeline, connect_to: Callable[[str], Connect]
) -> None:
    with pytest.raises(SettingsError, match=told):
        check_databases(parse_runner(runner), pipeline, connect_to(dialect), elsewhere)


@pytest.mark.parametrize(
    ("runner", "dialect", "elsewhere"),
    [("threads:2", "duckdb", []), ("processes:2", "sqlite", []), ("dask:host:8786", "postgresql", ["10.0.0.2"])],
)
def test_what_workers_can_open_is_let_through(
    runner: str, dialect: str, elsewhere: list[str], pipeline: Pipeline, connect_to: Callable[[str], Connect]
) -> None:
    check_databases(parse_runner(runner), pipeline, connect_to(dialect), elsewhere)
