"""The house itself: what imports what, what is pinned and why, what the documents promise."""

import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORT_ROOTS = ("deployments", "flows", "tasks", "models", "penstock")


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
    for name in IMPORT_ROOTS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def house(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the tree, to break."""
    return Path(shutil.copytree(pristine, tmp_path / "house"))


def test_imports_keep_the_contracts(pristine: Path) -> None:
    result = lint_imports(pristine)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        ("penstock/intruder.py", "import penstock.models.booster", "Imports point one way"),
        ("models/intruder.py", "from tasks import retries", "Imports point one way"),
        ("tasks/intruder.py", "import flows", "Imports point one way"),
        ("flows/intruder.py", "import penstock.deployments.local_server", "Imports point one way"),
        ("flows/intruder.py", "import penstock.cli", "Nothing imports the command line"),
        ("penstock/intruder.py", "import penstock.cli", "Nothing imports the command line"),
        ("penstock/intruder.py", "def late():\n    from prefect import flow", "do not know Prefect"),
        ("models/intruder.py", "import prefect.blocks.core", "do not know Prefect"),
        ("models/intruder.py", "import xgboost", "Only penstock.models.booster imports xgboost"),
        ("penstock/intruder.py", "from xgboost import DMatrix", "Only penstock.models.booster imports xgboost"),
        ("tasks/intruder.py", "import great_expectations", "Only penstock.quality imports great_expectations"),
    ],
)
def test_import_that_points_the_wrong_way_is_refused(house: Path, path: str, line: str, contract: str) -> None:
    (house / path).write_text(f"{line}\n", encoding="utf-8")

    result = lint_imports(house)

    assert result.returncode == 1, result.stdout + result.stderr
    assert [name for name in broken_contracts(result.stdout) if contract in name]


def test_command_line_may_import_every_floor(house: Path) -> None:
    lines = [
        f"    import {module}"
        for module in ("penstock.flows.score", "penstock.tasks.retries", "penstock.models.booster", "deployments")
    ]
    (house / "penstock/cli/visitor.py").write_text("\n".join(["def visit():", *lines, ""]), encoding="utf-8")

    result = lint_imports(house)

    assert result.returncode == 0, result.stdout


def broken_contracts(output: str) -> list[str]:
    return re.findall(r"^(.+) BROKEN", output, re.MULTILINE)


def test_every_folder_of_the_house_exists() -> None:
    folders = (*IMPORT_ROOTS, "penstock/cli", "penstock/ledger", "penstock/sources", "penstock/quality", "docs/adr")
    tests = ("tests/unit", "tests/integration", "tests/faults", "tests/e2e")
    wanted = (*folders, *tests, "deployments/pipelines", "benchmarks", "examples", ".ci")

    assert [name for name in wanted if not (ROOT / name).is_dir()] == []
    assert [name for name in IMPORT_ROOTS if not (ROOT / name / "__init__.py").is_file()] == []


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

    for target in ("demo", "test", "check", "bench", "lock"):
        assert f"make {target}" in result.stdout
