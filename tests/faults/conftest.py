"""Scenes for faults, and the table of what they left: fault, database, outcome."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.models.registry import Registry
from tests.faults.harness.scene import Scene
from tests.shop import train_model

Tell = Callable[[str, str, str], None]
FAULT = "fault"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Make an empty database of a dialect and return its URL; it lives as long as the session."""
    folder = tmp_path_factory.mktemp("databases")

    def make(dialect: str, name: str) -> str:
        unique = f"{name}_{uuid.uuid4().hex[:10]}"
        if dialect != "postgresql":
            return f"{dialect}:///{folder / unique}.{dialect}"
        server = request.getfixturevalue("postgres")
        server.psql(f"create database {unique};")
        return str(server.get_uri(unique))

    return make


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The shop's model, for tests that only read it."""
    return train_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory, empty_database: Callable[..., str]) -> Callable[[str], Scene]:
    """Give a dialect's scene, one day of thirty payments in two partitions; all tests share it, so change nothing."""
    made: dict[str, Scene] = {}

    def scene(dialect: str) -> Scene:
        if dialect not in made:
            made[dialect] = Scene(tmp_path_factory.mktemp(dialect), dialect, empty_database)
        return made[dialect]

    return scene


@pytest.fixture
def make_scene(tmp_path: Path, empty_database: Callable[..., str]) -> Callable[..., Scene]:
    """Make a scene of the test's own, which it may change."""
    return lambda dialect, **size: Scene(tmp_path, dialect, empty_database, **size)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Put a line into the table: fault, database, outcome. What travels with the report comes back from xdist too."""
    return lambda *line: request.node.user_properties.append((FAULT, line))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for state in ("passed", "failed") for r in terminalreporter.stats.get(state, []) if r.when == "call"]
    lines = [tuple(value) for report in reports for name, value in report.user_properties if name == FAULT]
    lines += [(report.nodeid.rpartition("::")[2], "", "FAILED") for report in reports if report.failed]
    if not lines:
        return
    terminalreporter.section("faults")
    table = [("fault", "database", "outcome"), ("---", "---", "---"), *sorted(lines)]
    widths = [max(len(line[i]) for line in table) for i in range(2)]
    for fault, database, outcome in table:
        terminalreporter.write_line(f"| {fault:<{widths[0]}} | {database:<{widths[1]}} | {outcome} |")
