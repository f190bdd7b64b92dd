"""`docs/models.md` is true: its commands print what stands below them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from docs.generator.session import mask

PAGE = Path("docs/models.md").read_text(encoding="utf-8")
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


def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    [[name, program]] = re.findall(r'^```python title="(.*?)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / name).write_text(program, encoding="utf-8")
    commands = [
        part.partition("\n")
        for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]

    assert len(commands) > 4
    for command, _, shown in commands:
        assert mask(run(command, tmp_path)).strip() == mask(shown).strip(), command
