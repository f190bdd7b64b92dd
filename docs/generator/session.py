"""Run the pages with sessions as a reader would, and write the real output: `python -m docs.generator.session [PAGE…]`.
The session in the README is the tutorial's.

A `python` or `yaml` block with a title is a file. A `console` block holds commands, each after `$`, with their output.
A last line `…` stands for the rest of an output. Dates in files and commands are moved, so that the newest day is
yesterday. `penstock up &` runs until `kill %1`, or until the page ends. So does another command with a port and ` &` at
its end, which says its address when it is ready. Its port is replaced by a free one.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {name: ROOT / "docs" / f"{name}.md" for name in ("tutorial", "operations")}
SHOWN_FOLDER = "/home/me"
SHOWN_PORT = "4200"
SHOWN_PAGES_PORT = "4201"
COMMAND_SECONDS = 240
_REST = "…"
_PORT = re.compile(r"\b8\d{3}\b")
"""A port of the pages in a command."""
_BLOCK = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<body>.*?)^```$', re.MULTILINE | re.DOTALL
)
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d(?:\b|(?=T))")
_ID = re.compile(r"\b[0-9a-f]{8}\b")
_SCORED_DAYS = timedelta(days=3)
_VOLATILE = (
    (r"127\.0\.0\.1:\d+", "<server>"),
    (r"\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b", "<id>"),
    (r"\b(?:\d{4}-)?\d\d-\d\d(?:\b|(?=T))", "<date>"),
    (r"(?:\b|(?<=T))\d\d:\d\d(?::\d\d(?:\.\d+)?)?\b", "<time>"),
    (r"\d+\.\d+", "<number>"),
    (r"[\d,]+ rows/s", "<number> rows/s"),
    (r"\bby \S+", "by <process>"),
    (r"─+", "─"),
    (r"[ \t]+", " "),
)
"""What differs from run to run: ports, ids, dates, times, measured numbers, and the width of tables."""


def mask(text: str) -> str:
    """Return a page with placeholders for everything that differs from run to run."""
    for pattern, placeholder in _VOLATILE:
        text = re.sub(pattern, placeholder, text)
    return "\n".join(line.strip() for line in text.splitlines())


class Session:
    """One reader who follows the page, from an empty folder."""

    def __init__(self, page: str, folder: Path) -> None:
        self.page = page
        self.home = self.folder = folder.resolve()
        self.ids: dict[str, str] = {}
        """Run ids of the page, and those that this session got in their place."""
        self.printed = ""
        self.up: tuple[subprocess.Popen[str], str] | None = None
        """The running `penstock up` with its port."""
        self.jobs: list[subprocess.Popen[str]] = []
        """Other commands in the background."""
        self.ports: dict[str, str] = {}
        """Ports of the page, and the free ones that this session uses in their place."""
        first = re.search(r"^(?: *start: |\$ .*?)(\d{4}-\d\d-\d\d)", page, re.MULTILINE)
        if first is None:
            raise ValueError("the page has no date, neither in a pipeline's `start:` nor in a command")
        self.moved = datetime.now(UTC).date() - _SCORED_DAYS - date.fromisoformat(first[1])
        self.environment = self._make_environment()

    def follow(self) -> str:
        """Write every file and run every command. Return the page with the real output."""
        try:
            return _BLOCK.sub(self._follow_block, self.page)
        finally:
            self._stop_up()
            self._stop_jobs()
            self._run_to_end("penstock down")

    def _follow_block(self, block: re.Match[str]) -> str:
        fence = block[0].splitlines()[0]
        if block["title"]:
            body = _DATE.sub(self._move_date, block["body"])
            (self.folder / block["title"]).write_text(body, encoding="utf-8")
            return f"{fence}\n{body}```"
        if block["language"] != "console":
            return block[0]
        parts = re.split(r"^\$ ", block["body"], flags=re.MULTILINE)[1:]
        return f"{fence}\n{''.join(self._run(*part.split(chr(10), 1)) for part in parts)}```"

    def _run(self, command: str, shown: str) -> str:
        """Run one command. Return it with its output, cut where the page cuts it."""
        actual = _ID.sub(lambda found: self.ids.get(found[0], found[0]), _DATE.sub(self._move_date, command))
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            if not self.folder.is_dir():
                raise ValueError(f"there is no folder {self.folder}; the command before printed: {self.printed}")
            return f"$ {command}\n"
        self.printed = output = self._print(actual).replace(str(self.home), SHOWN_FOLDER)
        lines = [line.rstrip() for line in output.splitlines()]
        kept = list(takewhile(lambda line: line != _REST, shown.rstrip("\n").splitlines()))
        if len(kept) < len(shown.rstrip("\n").splitlines()):
            lines = [*lines[: len(kept)], _REST]
        self.ids |= dict(zip(_ID.findall(shown), _ID.findall("\n".join(lines)), strict=False))
        space = "\n" if shown.endswith("\n\n") or shown == "\n" else ""
        return "\n".join([f"$ {actual}", *lines, ""]) + space

    def _print(self, command: str) -> str:
        """Return what the command prints, with the page's port in place of the real one."""
        if command == "penstock up &":
            return self._start_up()
        if command == "penstock up":
            output = self._start_up()
            self._stop_up()
            return output
        if command == "kill %1" and self.up is not None:
            return self._stop_up()
        if command.startswith("kill %"):
            return self._stop_jobs()
        if command.endswith(" &"):
            return self._start_job(command.removesuffix(" &"))
        if self.up is None:
            return self._show_ports(self._run_to_end(self._use_ports(command)))
        port = self.up[1]
        return self._run_to_end(command.replace(SHOWN_PORT, port)).replace(port, SHOWN_PORT)

    def _run_to_end(self, command: str) -> str:
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        ).stdout

    def _use_ports(self, command: str) -> str:
        for shown, port in self.ports.items():
            command = command.replace(shown, port)
        return command

    def _show_ports(self, output: str) -> str:
        for shown, port in self.ports.items():
            output = output.replace(port, shown)
        return output

    def _start_job(self, command: str) -> str:
        """Start a command in the background, and read until it says its address."""
        self.ports |= {shown: _free_port() for shown in _PORT.findall(command)}
        process = self._start(["/bin/sh", "-c", f"exec {self._use_ports(command)}"])
        self.jobs.append(process)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "http://" in line:
                break
        return self._show_ports("".join(lines))

    def _stop_jobs(self) -> str:
        """Stop the commands in the background. What they have printed since is not shown."""
        for process in self.jobs:
            process.terminate()
            process.communicate(timeout=COMMAND_SECONDS)
        self.jobs.clear()
        return ""

    def _start_up(self) -> str:
        """Start everything, and read until it is up."""
        port = _free_port()
        process = self._start(["penstock", "up", "--port", port])
        self.up = process, port
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        pages_port = str(int(port) + 1)
        return "".join(lines).replace(port, SHOWN_PORT).replace(pages_port, SHOWN_PAGES_PORT)

    def _stop_up(self) -> str:
        """Stop `penstock up`, and return what it has printed since it was up."""
        if self.up is None:
            return ""
        (process, port), self.up = self.up, None
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=COMMAND_SECONDS)[0].replace(port, SHOWN_PORT)

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _move_date(self, found: re.Match[str]) -> str:
        return (date.fromisoformat(found[0]) + self.moved).isoformat()

    def _make_environment(self) -> Mapping[str, str]:
        """Return an environment in which `penstock` and `python` are this checkout's."""
        programs = self.home / ".programs"
        programs.mkdir()
        for name, line in (
            ("python", f'exec "{sys.executable}" "$@"'),
            ("penstock", f'exec "{sys.executable}" -c "from penstock.cli import main; main()" "$@"'),
        ):
            program = programs / name
            program.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
            program.chmod(0o755)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "PREFECT_"))}
        path = f"{programs}{os.pathsep}{inherited.get('PATH', os.defpath)}"
        terminal = {"NO_COLOR": "1", "COLUMNS": "100", "PENSTOCK_LINGER": "5m"}
        return inherited | terminal | {"PATH": path, "PYTHONPATH": str(ROOT)}


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def copy_session(tutorial: str, readme: str) -> str:
    """Return the README with the tutorial's last outputs of its commands, in their order. Dates may be others."""
    block = re.search(r"^```console\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    if block is None:
        raise ValueError("README.md shows no session")
    shown = "".join(found["body"] for found in _BLOCK.finditer(tutorial) if found["language"] == "console")
    ran = [part.split("\n", 1) for part in re.split(r"^\$ ", shown, flags=re.MULTILINE)[1:]]
    copied: list[str] = []
    for part in reversed(re.split(r"^(?=\$ |# )", block[1], flags=re.MULTILINE)):
        if part.startswith("# ") or not part:
            copied.append(part)
            continue
        command = part.removeprefix("$ ").split("\n", 1)[0]
        while ran and _DATE.sub("", ran[-1][0]) != _DATE.sub("", command):
            ran.pop()
        if not ran:
            raise ValueError(f"the tutorial does not run `{command}` in this order")
        command, output = ran.pop()
        copied.append(f"$ {command}\n{output.rstrip()}\n\n")
    return readme[: block.start(1)] + "".join(reversed(copied)).rstrip() + "\n" + readme[block.end(1) :]


if __name__ == "__main__":
    for name in sys.argv[1:] or PAGES:
        with tempfile.TemporaryDirectory() as folder:
            text = Session(PAGES[name].read_text(encoding="utf-8"), Path(folder)).follow()
        PAGES[name].write_text(text, encoding="utf-8")
        if name == "tutorial":
            readme = ROOT / "README.md"
            readme.write_text(copy_session(text, readme.read_text(encoding="utf-8")), encoding="utf-8")
