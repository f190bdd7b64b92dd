"""The docs say what is there."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import typer.main

from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC
from tests.steps import STEPS

README = Path("README.md").read_text()


def commands() -> dict[str, click.Command]:
    from penstock.cli.app import app

    root = typer.main.get_command(app)
    found: dict[str, click.Command] = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined] # a group
        inner = getattr(command, "commands", None)
        found |= {f"{name} {sub}": c for sub, c in inner.items()} if inner else {name: command}
    return found


def test_every_command_is_documented_and_every_documented_command_exists() -> None:
    table = README.split("## The command line")[1].split("## ")[0]
    documented: set[str] = set()
    for cell in re.findall(r"^\| `penstock ([^`]+)` \|", table, re.MULTILINE):
        words = re.sub(r"\[.*|[A-Z_]+.*", "", cell).replace("\\|", "|").split()
        documented |= {f"{words[0]} {sub}" for sub in words[1].split("|")} if len(words) > 1 else {words[0]}
    assert documented == set(commands())


def test_every_command_line_of_the_session_is_understood() -> None:
    lines = re.findall(r"^\$ penstock (.+)$", README, re.MULTILINE)
    assert lines
    known = commands()
    for line in lines:
        words = shlex.split(line)
        name = next(n for n in (" ".join(words[:2]), words[0]) if n in known)
        arguments = words[len(name.split()) :]
        known[name].make_context(name, arguments, resilient_parsing=True)


def test_the_readmes_spec_is_a_pipeline() -> None:
    block, _ = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert parse_pipeline(block.encode(), "README.md").name == "card-risk"


def test_the_readmes_steps_are_those_that_the_tests_score_with() -> None:
    _, block = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    told = parse_pipeline(SPEC.replace("model: card-risk@champion\n", block).encode(), "README.md")
    scored = parse_pipeline(STEPS.encode(), "x.yaml")

    assert (told.steps, told.decide) == (scored.steps, scored.decide)


def test_every_setting_is_documented() -> None:
    from penstock.settings import Settings

    for name in Settings.model_fields:
        assert f"PENSTOCK_{name.upper()}" in README, name


@pytest.mark.parametrize("page", [Path("README.md"), *Path("docs").rglob("*.md"), Path("CONTRIBUTING.md")], ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_module_of_the_kernel_stands_in_the_architecture() -> None:
    text = Path("docs/architecture.md").read_text()
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*)$", text, re.MULTILINE))
    for path in Path("penstock").rglob("*.py"):  # links are not followed
        room, name = ".".join(path.parts[1:-1]), path.stem
        if name != "__init__" and not room.startswith("cli"):
            assert f"`{name}`" in (rows[room] if room else text), path


def test_every_test_that_the_docs_name_exists() -> None:
    there = {name for file in Path("tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = {page: set(re.findall(r"`(test_\w+)`", page.read_text())) for page in Path("docs").rglob("*.md")}

    assert len(named[Path("docs/guarantees.md")]) > 100
    for page, names in named.items():
        assert sorted(names - there) == [], page


def test_every_marker_of_a_tier_is_documented() -> None:
    pytest_options = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    page = Path("docs/testing.md").read_text()
    for marker in pytest_options["markers"]:
        assert f"| `{marker.split(':')[0]}` |" in page, marker


def test_every_fault_of_the_catalogue_has_its_line() -> None:
    lines = re.findall(r"^\| F(\d+) \| [^|]+ \| [^|]{4,} \|$", Path("docs/guarantees.md").read_text(), re.MULTILINE)
    assert [int(number) for number in lines] == list(range(1, 56))
