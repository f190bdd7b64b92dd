"""What the command line costs, and what each command says of itself; no database, no server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.cli.arguments import parse_moment
from penstock.cli.schema import render_schema

ROOT = Path(__file__).parents[3]
HEAVY = ("pandas", "pyarrow", "sqlalchemy", "prefect", "xgboost", "great_expectations", "duckdb", "numpy")
TELL_IMPORTS = """
import sys
sys.argv = ["penstock", {argument!r}]
from penstock.cli import main
try:
    main()
except SystemExit:
    pass
print("imported:", *(name for name in {heavy!r} if name in sys.modules))
"""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield " ".join(path), command
    for name, child in children.items():
        yield from commands(child, (*path, name))


ALL_COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("argument", ["--help", "no-such-command"])
def test_help_and_usage_errors_import_nothing_heavy(argument: str) -> None:
    script = TELL_IMPORTS.format(argument=argument, heavy=HEAVY)

    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)

    assert told.stdout.splitlines()[-1].strip() == "imported:"


def test_the_commands_are_those_of_the_design() -> None:
    promised = {
        "check", "plan", "run", "runs", "show", "withdraw", "quarantine list", "quarantine show",
        "models list", "models register", "models promote", "schema", "demo",
    }  # fmt: skip

    assert promised <= set(ALL_COMMANDS)


@pytest.mark.parametrize("name", sorted(ALL_COMMANDS))
def test_every_command_says_what_it_does_and_gives_an_example(name: str) -> None:
    command = ALL_COMMANDS[name]

    assert command.help
    assert command.epilog.startswith(f"Example: penstock {name}")


@pytest.mark.parametrize("name", ["check", "plan", "runs", "show", "quarantine list", "quarantine show", "models list"])
def test_every_listing_can_be_had_as_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in ALL_COMMANDS[name].params)


def test_the_shipped_schema_is_the_one_that_the_spec_gives() -> None:
    shipped = ROOT / "deployments" / "pipelines" / "schema.json"

    assert shipped.read_text(encoding="utf-8") == render_schema(), f"run: penstock schema --output {shipped}"
    assert json.loads(render_schema())["title"] == "Penstock pipeline"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31)),  # noqa: DTZ001 # the pipeline's zone decides
        ("2026-01-31T06:30", datetime(2026, 1, 31, 6, 30)),  # noqa: DTZ001
        ("2026-01-31T06:30:00Z", datetime(2026, 1, 31, 6, 30, tzinfo=UTC)),
        ("2026-01-31T06:30:00+02:00", datetime(2026, 1, 31, 4, 30, tzinfo=UTC)),
    ],
)
def test_a_range_is_given_in_dates_or_times_with_or_without_a_zone(text: str, moment: datetime) -> None:
    assert parse_moment(text) == moment


def test_version_is_that_of_the_package() -> None:
    from importlib import metadata

    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"penstock {metadata.version('penstock')}\n")
