"""The wheel in an environment of its own, outside the checkout: all that a user types after `pip install`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
READY = "Ctrl-C stops everything"
LINKED = ("deployments", "examples", "flows", "models", "tasks")
UNREACHABLE = ("No matching distribution", "Could not find a version", "Connection", "ProxyError", "Temporary failure")
"""What pip says of a registry that it cannot reach."""

pytestmark = pytest.mark.wheel


def build(source: Path, target: str, folder: Path) -> Path:
    """Build the wheel or the sdist of a source folder, with the hatchling of this environment."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the locked dependencies and the wheel, and an empty folder to work in."""

    programs: Path
    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """A user's variables: none of Python's, Penstock's or Prefect's, and the environment's programs first."""
        foreign = ("PENSTOCK_", "PREFECT_", "PYTHON", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return kept | {"PATH": os.pathsep.join([str(self.programs), os.environ["PATH"]])}

    def run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        """Run a program of the environment to a good end and return what it printed."""
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(
            command, cwd=cwd or self.folder, env=self.variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def processes(self) -> list[str]:
        """Return the command lines of this environment's Pythons that are alive."""
        found = [path.read_bytes() for path in _command_lines()]
        return [line.replace(b"\0", b" ").decode() for line in found if str(self.programs).encode() in line]


def _command_lines() -> Iterator[Path]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            path.read_bytes()
        except OSError:
            continue  # it has ended
        yield path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
    made = Environment(place / "venv" / "bin", place / "work")
    made.folder.mkdir()
    install = [str(made.programs / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
    install.append("--no-compile")  # the tests import a small part of what is installed
    with zipfile.ZipFile(wheel) as archive:
        lock = Path(archive.extract("penstock/requirements.lock", place))
    locked = subprocess.run(
        [*install, "--require-hashes", "-r", str(lock)], env=made.variables, capture_output=True, text=True, check=False
    )
    if locked.returncode and any(reason in locked.stderr for reason in UNREACHABLE):
        pytest.skip(f"the package registry cannot be reached: {locked.stderr.strip().splitlines()[-1]}")
    assert locked.returncode == 0, locked.stderr
    subprocess.run([*install, str(wheel)], env=made.variables, check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def project(environment: Environment) -> Path:
    environment.run("penstock", "init", "shop")
    return environment.folder / "shop"


# --- what the archives hold --------------------------------------------------------------------


def test_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    git = shutil.which("git")
    command = [str(git), "ls-files"]
    tracked = (
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split() if git else []
    )
    if not tracked:
        pytest.skip("no git here: the files of the package cannot be listed")
    wanted = {name for name in tracked if name.startswith("penstock/")} - {f"penstock/{name}" for name in LINKED}
    wanted |= {f"penstock/{name}" for name in tracked if name.split("/")[0] in LINKED}

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        text = archive.read("penstock/requirements.lock").decode()

    inside = [name for name in names if ".dist-info/" not in name]
    assert sorted(inside) == sorted(wanted)
    assert text == (ROOT / "requirements-runtime.lock").read_text()


def test_wheel_declares_its_licence_and_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [info] = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
        assert "penstock/py.typed" in archive.namelist()

    assert "License-Expression: Apache-2.0" in metadata
    assert "Version 2.0, January 2004" in licence


def test_sdist_builds_the_same_wheel_and_holds_each_file_once(wheel: Path, tmp_path: Path) -> None:
    archive = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as packed:
        top = {name.split("/")[1] for name in packed.getnames()}
        packed.extractall(tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    again = build(unpacked, "wheel", tmp_path / "again")

    assert not top & {*LINKED, "tests", "benchmarks"}
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert {i.filename: i.CRC for i in first.infolist()} == {i.filename: i.CRC for i in second.infolist()}


# --- what a user types -------------------------------------------------------------------------


def test_version_is_that_of_the_wheel_in_the_environment(environment: Environment, wheel: Path) -> None:
    file = environment.run("python", "-c", "import penstock; print(penstock.__file__)").strip()

    assert Path(file).is_relative_to(environment.programs.parent)
    assert environment.run("penstock", "--version") == f"penstock {wheel.name.split('-')[1]}\n"


def test_demo_runs_to_its_end(environment: Environment) -> None:
    told = environment.run("penstock", "demo", "--rows", "2000")

    assert "The run history" in told
    assert environment.processes() == []


@pytest.mark.soak  # that the wheel holds the packs is shown by making a project of one
def test_demo_of_a_pack_runs_to_its_end(environment: Environment) -> None:
    told = environment.run("penstock", "demo", "--pack", "card-fraud", "--folder", "bank")

    assert "The run history" in told


def test_packs_make_a_project(environment: Environment) -> None:
    environment.run("python", "-m", "penstock.examples", "mill", "maintenance")

    models = json.loads(environment.run("penstock", "models", "list", "--json", cwd=environment.folder / "mill"))
    assert {model["name"] for model in models} == {"machine-failure", "machine-life"}
    assert (environment.folder / "mill" / "pipelines" / "machine-failure.yaml").is_file()


def test_new_project_is_checked_and_scored(environment: Environment, project: Path) -> None:
    checked = environment.run("penstock", "check", cwd=project)
    environment.run("penstock", "run", "order-returns", cwd=project)
    runs = json.loads(environment.run("penstock", "runs", "--json", cwd=project))
    [model] = json.loads(environment.run("penstock", "models", "list", "--json", cwd=project))

    assert "all well" in checked
    assert [(run["state"], run["rows_scored"]) for run in runs] == [("published", 300)] * 3
    assert (model["name"], model["aliases"]) == ("order-returns", ["champion"])


def test_doctor_compares_with_the_lock_of_the_wheel(environment: Environment, project: Path) -> None:
    findings = json.loads(environment.run("penstock", "doctor", "--json", cwd=project))

    states = {finding["subject"]: finding["state"] for finding in findings}
    assert (states["packages"], states["lock"]) == ("ok", "ok")
    assert "broken" not in states.values()


def test_up_serves_deploys_and_leaves_no_process(environment: Environment, project: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    output = environment.folder / "up.log"
    with output.open("wb") as told:
        process = subprocess.Popen(
            [str(environment.programs / "penstock"), "up", "--port", str(port)],
            cwd=project,
            env=environment.variables,
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: READY in output.read_text() or process.poll() is not None, tell=output.read_text)
        assert process.poll() is None, output.read_text()
        with urlopen(f"http://127.0.0.1:{port}/api/health", timeout=30) as answer:
            assert answer.status == 200
        assert "score/order-returns" in output.read_text()
        assert "0 objects changed" in environment.run("penstock", "deploy", cwd=project)
        assert "not on the server" not in environment.run("penstock", "doctor", cwd=project)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)

    assert "Stopped." in output.read_text()
    wait_until(lambda: environment.processes() == [])
