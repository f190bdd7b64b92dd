"""`docs/python.md` is true: its blocks run one after another, and print what stands below them."""

import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from penstock.settings import Settings

BLOCKS = re.findall(r"^```(python|text)\n(.*?)^```$", Path("docs/python.md").read_text(), re.MULTILINE | re.DOTALL)
ROOT = Path.cwd()

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_every_block_of_the_page_runs_and_prints_what_it_shows(
    tmp_path: Path, use_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = ""
    for kind, text in BLOCKS:
        if kind == "text":
            assert printed == text
            continue
        file = re.match(r"# (test_\w+\.py)\n", text)
        if file:
            Path(file[1]).write_text(text)
            tested = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file[1]]
            done = subprocess.run(tested, capture_output=True, text=True, check=False)
            assert re.search(r"^[1-9]\d* passed", done.stdout, re.MULTILINE), done.stdout
            continue
        if "from penstock.tasks" in text:
            use_settings()  # tasks read the settings of their process once
        with redirect_stdout(StringIO()) as output:
            exec(compile(text, "docs/python.md", "exec"), names)  # the project's own page
        printed = output.getvalue()
    assert names["penstock"].__all__
