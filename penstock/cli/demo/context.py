"""The context of `penstock demo`: its folder, its own settings, its Prefect server, and a clock."""

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from penstock.cli.ending import print_error
from penstock.errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.database.connections import Connector, Database
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline

PIPELINE = "card-risk"
NEEDED = (
    "penstock.deployments.server.local",
    "penstock.flows.score",
    "prefect",
    "xgboost",
    "great_expectations",
    "duckdb",
)
"""Modules that the demo imports late. Without them it would fail in the middle."""
MARKER = ".penstock-demo"
_SETTINGS = """\
# Every penstock command in this folder reads this file.
PENSTOCK_HOME=.penstock
PENSTOCK_PIPELINES=pipelines
PENSTOCK_CONNECTIONS__SHOP=sqlite:///shop.db
"""


@dataclass
class Clock:
    """Wall seconds by phase."""

    begun: float = field(default_factory=time.perf_counter)
    phases: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - begun

    @property
    def total(self) -> float:
        return time.perf_counter() - self.begun


@dataclass(frozen=True)
class DemoContext:
    """The demo's console, clock and settings. The working folder is the demo's own."""

    console: "Console"
    clock: Clock
    settings: "Settings"
    name: str = PIPELINE

    def connect(self, name: str) -> "Database":
        from penstock.database.connections import open_database

        return open_database(self.settings, name)

    @property
    def connector(self) -> "Connector":
        """The connector for the connections and files of the demo's settings."""
        from penstock.database.connections import Connector

        return Connector(self.connect, self.settings.allowed_roots)

    @cached_property
    def pipeline(self) -> "Pipeline":
        from penstock.spec.yaml_file import find_pipeline_file, load_pipeline

        return load_pipeline(find_pipeline_file(self.name, self.settings.pipelines))

    def write(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def title(self, text: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{text}", align="left")


def stop(why: str) -> NoReturn:
    """End the demo with an error, because a step failed."""
    print_error(why)
    raise typer.Exit(1)


def ensure_installed() -> None:
    """Check that the modules of the demo are installed, before it makes its folder.

    Raises:
        SettingsError: a module is not installed.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"{', '.join(missing)} cannot be imported", "Run `penstock doctor`, which says how to install it."
        )


def make_folder(folder: Path) -> None:
    """Make the demo's folder, and empty it if an earlier demo made it.

    Raises:
        SettingsError: the folder is not an earlier demo's, or a Prefect server runs in it.
    """
    another = "Name another folder with --folder."
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise SettingsError(f"`{folder}` exists and is no folder", another)
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MARKER).is_file():
            raise SettingsError(f"`{folder}` is not empty, and no demo has made it", another)
        if _is_in_use(folder):
            raise SettingsError(f"a Prefect server runs in `{folder}`", f"Stop it first. {another}")
        _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text(
        "Made by `penstock demo`. The next demo in this folder deletes all files here.\n", encoding="utf-8"
    )
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    (folder / ".env").write_text(_SETTINGS, encoding="utf-8")


def _clear(folder: Path) -> None:
    """Delete the folder's contents except the marker, which stays in case this demo is interrupted."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()


def _is_in_use(folder: Path) -> bool:
    """Whether a Prefect server of this folder is alive, which it shows by its lock."""
    lock = folder / ".penstock" / "prefect" / "server.lock"
    if not lock.is_file():
        return False
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def server_ahead(settings: "Settings") -> Iterator[None]:
    """Start the demo's Prefect server while the shop is made. Later runs use the running server."""
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack

    from penstock.settings import prefect_api_url

    if prefect_api_url() is not None:
        yield
        return
    from penstock.deployments.server.local import local_server

    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        starting = pool.submit(stack.enter_context, local_server(settings.home, linger_seconds=settings.linger_seconds))
        yield
        starting.result()


def load_engines() -> None:
    """Do the slow imports one by one, while the server starts in its own process."""
    from penstock.cli.prefect_api import prefect_console
    from penstock.deployments.worker.flow_run import load
    from penstock.quality import load_engine

    with prefect_console():
        load_engine()
        load()
