"""What `import penstock` promises: typed names, nothing loaded before it is used, and enough for the examples."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import penstock

PACKAGE = Path(penstock.__file__).parent
EXAMPLES = sorted((PACKAGE.parent / "examples").rglob("*.py"))
HEAVY = ("pandas", "xgboost", "prefect", "duckdb", "pyarrow", "numpy", "sqlalchemy", "pydantic", "great_expectations")


def imports_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of every import of Penstock; the name is empty for a whole module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "penstock":
            yield from ((node.module, alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "penstock")


def test_importing_penstock_loads_no_other_package() -> None:
    loads = f"import sys, penstock; print([name for name in {HEAVY} if name in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", loads], text=True) == "[]\n"


def test_type_checkers_see_the_names_that_are_there() -> None:
    tree = ast.parse(Path(penstock.__file__).read_text(encoding="utf-8"))
    typed = {name: module for module, name in imports_of(tree)}

    assert typed == penstock._HOMES
    assert penstock.__all__ == sorted([*typed, "__version__"])
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("name", penstock.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(penstock, name)

    assert name == "__version__" or value.__doc__
    assert name in dir(penstock)


def test_every_public_method_is_documented() -> None:
    for of in (penstock.Project, penstock.ScoredInterval, penstock.Registry, penstock.Trained, penstock.Database):
        methods = [name for name, value in vars(of).items() if callable(value) and not name.startswith("_")]
        assert [name for name in methods if not getattr(of, name).__doc__] == []


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module `penstock` has no attribute `Pipelines`"):
        penstock.Pipelines  # noqa: B018 # the access is what is tested


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(PACKAGE.parent)))
def test_examples_use_the_public_face_and_the_tasks_alone(file: Path) -> None:
    used = list(imports_of(ast.parse(file.read_text(encoding="utf-8"))))
    inner = [(module, name) for module, name in used if not module.startswith(("penstock.tasks", "penstock.examples"))]

    assert [
        (module, name) for module, name in inner if module != "penstock" or name not in ("", *penstock.__all__)
    ] == []
