"""`penstock init FOLDER`: make a new project that runs at once, as a start for one's own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli.output import console, make_table, program_name
from penstock.cli.own_settings import alone_in
from penstock.errors import SettingsError
from penstock.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.cli.init.scenario import Scenario
    from penstock.models.manifest import Manifest


def add_commands(app: typer.Typer) -> None:
    app.command("init", epilog="Example: penstock init shop --from log")(init)


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    kind: Annotated[
        Literal["sql", "log", "files"],
        typer.Option("--from", help="What to score: rows of a table, lines of a log, or rows of files."),
    ] = "sql",
) -> None:
    """Make a new project that runs at once: a commented pipeline, made-up rows, a model, settings and a test."""
    out = console()
    with _new_folder(folder), alone_in(folder), out.status("making rows, training a model"):
        from penstock.cli.init.project import write_project

        scenario, manifest = write_project(kind, datetime.now(UTC))
    _show_made(out, folder, scenario, manifest)


@contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Make the folder. After an error it is absent or empty, as before.

    Raises:
        SettingsError: the folder is not empty.
    """
    another = "Name a folder that is empty or does not exist."
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise SettingsError(f"`{folder}` exists and is no folder", another)
    if folder.is_dir() and any(folder.iterdir()):
        raise SettingsError(f"`{folder}` is not empty", another)
    existed = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:  # Ctrl-C too: half a project must not stay
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not existed:
            folder.rmdir()
        raise


def _show_made(out: "Console", folder: Path, scenario: "Scenario", manifest: "Manifest") -> None:
    from penstock.cli.init.scenario import DAYS, ROWS_A_DAY

    table = make_table("made", "what")
    made = {
        f"pipelines/{scenario.pipeline}.yaml": "the pipeline; its comments say what to change",
        ".env": "settings and connections; keep it out of git",
        scenario.made: f"{plural(DAYS * ROWS_A_DAY, 'made-up row')}, a month of them in the future",
        ".penstock/models": f"{manifest.label}, trained on the rows of two weeks",
        "tests/test_pipeline.py": "scores one day; run it with `pytest`",
        ".gitignore": "keeps settings and Penstock's files out of git",
    }
    for name, what in made.items():
        table.add_row(str(folder / name), what)
    out.print(table, markup=False)
    out.print("Next:")
    program = program_name()
    enter = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    for line in (f"{enter}{program} check", f"{program} run {scenario.pipeline}", f"{program} up"):
        out.print(f"  {line}", markup=False, soft_wrap=True)
