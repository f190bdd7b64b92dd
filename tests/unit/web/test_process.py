"""The child process of the pages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.web import process
from penstock.web.process import PagesPlan, PagesProcess

HANGS = """
import os, signal, sys
from penstock.web import process_child
process_child.END_SECONDS = 0.1
signal.signal(signal.SIGTERM, signal.SIG_IGN)
process_child.end_with_starter(int(sys.argv[1]))
"""


def test_a_process_that_does_not_end_is_ended_with_its_parent() -> None:
    read_end, write_end = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", HANGS, str(read_end)], pass_fds=(read_end,))
    os.close(write_end)
    os.close(read_end)

    assert child.wait(60) == 1


def test_a_process_that_dies_again_and_again_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("raise SystemExit(3)")
    monkeypatch.setattr(process, "CHILD", child)
    monkeypatch.setattr(process, "PAUSE_SECONDS", 0.0)
    said: list[str] = []
    pages = PagesProcess(PagesPlan(4201, "", tmp_path, tmp_path / "log"), said.append, os.dup(0))
    for _ in range(2):
        pages.start()
        pages._process.wait()
        pages.keep()
        pages._died_at = None

    assert [text.partition(".")[0] for text in said] == ["The pages ended with exit code 3"]


def test_the_pages_have_a_port_of_their_own() -> None:
    refused = CliRunner().invoke(app, ["up", "--port", "4300", "--pages-port", "4300"])

    assert refused.exit_code == 2
    assert "the port of Prefect's UI" in " ".join(refused.output.split())
