"""`docs/models.md` and `docs/sklearn.md` are true: their commands print what stands below them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generator.session import mask

ROOT = Path.cwd()


def run(command: str, folder: Path) -> str:
    """Run a command as a reader would; return what it prints."""
    name, *arguments = shlex.split(command)
    program = [sys.executable] if name == "python" else [str(Path(sys.executable).with_name(name))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [*program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def follow(page: Path, folder: Path) -> str:
    """Run the program and the commands of a page, compare what they print, and return the page's text."""
    text = page.read_text(encoding="utf-8")
    [[name, program]] = re.findall(r'^```python title="(.*?)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    (folder / name).write_text(program, encoding="utf-8")
    commands = [
        part.partition("\n")
        for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]
    assert len(commands) > 1
    for command, _, shown in commands:
        assert mask(run(command, folder)).strip() == mask(shown).strip(), command
    return text


def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    follow(Path("docs/models.md"), tmp_path)


def test_the_page_on_scikit_learn_shows_what_its_commands_print_and_write(tmp_path: Path) -> None:
    pytest.importorskip("skops", reason="the extra `sklearn` is not installed")

    text = follow(Path("docs/sklearn.md"), tmp_path)

    [shown] = re.findall(r"^```sql\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    written = (tmp_path / "late.features.sql").read_text(encoding="utf-8")
    assert re.sub(r"(\.\d{9})\d+", r"\1", written) == re.sub(r"(\.\d{9})\d+", r"\1", shown)
