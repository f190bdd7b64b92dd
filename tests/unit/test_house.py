"""The house itself: what imports what, what is pinned and why, what the documents promise."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKED = ("deployments", "examples", "flows", "models", "tasks")
"""Folders at the top of the checkout that `penstock` reaches by a link."""


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Isolated but for the copy: the checkout's own packages are installed in this environment too.
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as lint; lint()",
            "--no-cache",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house") / "copy"
    for name in ("penstock", *LINKED):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def house(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the tree, to break."""
    return Path(shutil.copytree(pristine, tmp_path / "house", symlinks=True))


def test_imports_keep_the_contracts(pristine: Path) -> None:
    result = lint_imports(pristine)

    assert result.returncode == 0, result.stdout


ROOMS = "Rooms import only rooms below them"


@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        ("penstock/run/intruder.py", "import penstock.models.booster", ROOMS),
        ("penstock/database/intruder.py", "import penstock.ledger.reader", ROOMS),
        ("penstock/quality/intruder.py", "def late():\n    import penstock.sources.files", ROOMS),
        ("models/intruder.py", "from penstock.tasks import retries", ROOMS),
        ("tasks/intruder.py", "import penstock.flows", ROOMS),
        ("flows/intruder.py", "import penstock.deployments.server.local", ROOMS),
        ("flows/intruder.py", "import penstock.cli", ROOMS),
        ("penstock/ledger/intruder.py", "import penstock.cli", ROOMS),
        (
            "penstock/spec/intruder.py",
            "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from penstock.run import planning",
            ROOMS,
        ),
        ("penstock/newroom.py", "NEW = True", ROOMS),
        ("penstock/run/intruder.py", "def late():\n    from prefect import flow", "do not know Prefect"),
        ("models/intruder.py", "import prefect.blocks.core", "do not know Prefect"),
        ("models/intruder.py", "import xgboost", "Only penstock.models.booster imports xgboost"),
        ("penstock/run/intruder.py", "from xgboost import DMatrix", "Only penstock.models.booster imports xgboost"),
        ("tasks/intruder.py", "import great_expectations", "Only penstock.quality imports great_expectations"),
    ],
)
def test_import_that_points_the_wrong_way_is_refused(house: Path, path: str, line: str, contract: str) -> None:
    (house / path).write_text(f"{line}\n", encoding="utf-8")

    result = lint_imports(house)

    assert result.returncode == 1, result.stdout + result.stderr
    assert [name for name in broken_contracts(result.stdout) if contract in name]


def test_a_circle_of_imports_is_refused(house: Path) -> None:
    (house / "penstock/ledger/one.py").write_text("import penstock.ledger.two\n", encoding="utf-8")
    (house / "penstock/ledger/two.py").write_text("def late():\n    import penstock.ledger.one\n", encoding="utf-8")

    result = lint_imports(house)

    assert broken_contracts(result.stdout) == ["No module is part of a circle of imports"]


def test_command_line_may_import_every_room(house: Path) -> None:
    names = ("flows.score", "tasks.retries", "models.booster", "deployments", "run.planning")
    lines = [f"    import penstock.{name}" for name in names]
    (house / "penstock/cli/visitor.py").write_text("\n".join(["def visit():", *lines, ""]), encoding="utf-8")

    result = lint_imports(house)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", LINKED)
def test_an_import_of_a_folder_at_the_top_is_a_lint_error(name: str) -> None:
    code = f"import {name}\nfrom {name} import anything\n"
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", "tests/x.py", "-"]

    result = subprocess.run(command, input=code, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.stdout.count(f"Import penstock.{name}") == 2, result.stdout + result.stderr


def broken_contracts(output: str) -> list[str]:
    return re.findall(r"^(.+) BROKEN", output, re.MULTILINE)


def test_every_folder_of_the_house_exists() -> None:
    rooms = [f"penstock/{name}" for name in ("cli", "database", "ledger", "quality", "run", "sources", "spec")]
    tests = ("tests/unit", "tests/integration", "tests/faults", "tests/e2e")
    wanted = (*LINKED, *rooms, *tests, "docs/adr", "deployments/pipelines", "benchmarks", ".ci")

    assert [name for name in wanted if not (ROOT / name).is_dir()] == []
    assert [name for name in LINKED if (ROOT / name).is_symlink()] == []
    assert [name for name in LINKED if (ROOT / "penstock" / name).resolve() != ROOT / name] == []


def test_every_room_says_what_it_is_for() -> None:
    inits = [*(ROOT / "penstock").glob("*/__init__.py"), *(ROOT / "penstock").glob("[!e]*/*/__init__.py")]

    assert len(inits) > 20
    assert [str(file) for file in inits if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))] == []


def test_unit_tests_mirror_the_rooms() -> None:
    folders = [path for path in (ROOT / "tests/unit").rglob("*") if path.is_dir() and path.name != "__pycache__"]
    names = [path.relative_to(ROOT / "tests/unit") for path in folders]

    assert [str(name) for name in names if not (ROOT / "penstock" / name).is_dir()] == []


EDGES = ("settings.py", "api", "cli", "tasks", "deployments", "examples")
"""Where settings may be read: the environment is looked at here, and its values are passed on as parameters."""


def settings_readers(text: str) -> list[int]:
    """Return the lines that read the settings: a use of `load_settings`, or a call of `Settings`."""
    nodes = list(ast.walk(ast.parse(text)))
    used = [node for node in nodes if isinstance(node, ast.Name | ast.Attribute)]
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    found = [node for node in used if _name_of(node) == "load_settings"]
    found += [node for node in called if _name_of(node) == "Settings"]
    return [node.lineno for node in found]


def _name_of(node: ast.expr) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))


def test_only_the_edges_read_the_settings() -> None:
    package = ROOT / "penstock"
    files = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in EDGES]
    files += [path for folder in ("models", "flows") for path in (ROOT / folder).rglob("*.py")]

    found = {str(path.relative_to(ROOT)): settings_readers(path.read_text()) for path in files}

    assert len(files) > 100
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "load_settings()",
        "settings.load_settings().roots",
        "field(default_factory=load_settings)",
        "Settings()",
        "penstock.settings.Settings()",
    ],
)
def test_a_read_of_the_settings_is_found(line: str) -> None:
    assert settings_readers(f"def read():\n    return {line}\n") == [2]


def test_lock_names_no_web_address_and_hashes_every_package() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    packages = re.split(r"^(?=[a-z])", lock, flags=re.MULTILINE)[1:]

    assert not re.search(r"https?://", lock)
    assert len(packages) > 100
    assert [package.splitlines()[0] for package in packages if "--hash=sha256:" not in package] == []


def test_lock_holds_every_pin() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*pyproject["project"]["dependencies"], *pyproject["dependency-groups"]["dev"]]
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)

    names = {re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("_", "-") for requirement in wanted}

    assert names - set(locked) == set()


def test_every_pin_says_why() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    pin = re.compile(r'^\s*"[\w.-]+(\[[\w,]+\])?\s*[<>=~!]=?[^"]*",?(?P<rest>.*)$')

    bare = [
        line.strip()
        for before, line in pairwise(lines)
        if (found := pin.match(line)) and "#" not in found["rest"] and not before.lstrip().startswith("#")
    ]

    assert bare == []


def test_make_targets_named_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))

    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`|\$ )make ((?!PYTHON)[a-z][a-z-]*)", text, re.MULTILINE))
        assert named, page
        assert named - targets == set(), page


def test_make_alone_lists_every_target() -> None:
    result = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)

    for target in ("demo", "test", "test-all", "soak", "check", "bench", "lock"):
        assert f"make {target}" in result.stdout
