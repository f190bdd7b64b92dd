"""The server of the pages as a child process of `penstock up`. It ends with its parent, however that ends."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from penstock.web.routes import ROOT

CHILD = Path(__file__).with_name("process_child.py")
STOP_SECONDS = 5.0
PAUSE_SECONDS = 10.0
"""Between the end of a process and the start of the next one."""


@dataclass(frozen=True)
class PagesPlan:
    """The configuration of the pages."""

    port: int
    prefect_ui: str
    project: Path
    """Folder of `.env`, the pipelines and relative paths."""
    log: Path

    @property
    def url(self) -> str:
        """The address of the pages for a browser on this machine."""
        return f"http://127.0.0.1:{self.port}{ROOT}"


@dataclass
class PagesProcess:
    """The running process, and what starts another one if it dies."""

    plan: PagesPlan
    warn: Callable[[str], None]
    _pipe: int
    _process: subprocess.Popen[bytes] = field(init=False)
    _died_at: float | None = field(default=None, init=False)
    _told: int | None = field(default=None, init=False)
    """The last exit code that was warned of."""

    def start(self) -> None:
        """Start the process. It waits for its port by itself."""
        with self.plan.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(CHILD), str(self._pipe), str(self.plan.port), self.plan.prefect_ui],
                cwd=self.plan.project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(self._pipe,),
                start_new_session=True,  # Ctrl-C reaches only the parent, which then stops this process
            )

    def keep(self) -> None:
        """Start another process if this one has died some seconds ago. Say so once for each exit code."""
        if self._process.poll() is None:
            return
        if self._died_at is None:
            self._died_at = time.monotonic()
            if self._process.returncode != self._told:
                self._told = self._process.returncode
                again = f"They are started again every {PAUSE_SECONDS:.0f} seconds"
                self.warn(f"The pages ended with exit code {self._told}. {again}. Log: {self.plan.log}")
        elif time.monotonic() - self._died_at > PAUSE_SECONDS:
            self._died_at = None
            self.start()

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running_pages(plan: PagesPlan, warn: Callable[[str], None]) -> Iterator[PagesProcess]:
    """Run the server of the pages until the end of the block."""
    read_end, write_end = os.pipe()
    try:
        pages = PagesProcess(plan, warn, read_end)
        pages.start()
        try:
            yield pages
        finally:
            pages.stop()
    finally:
        os.close(read_end)
        os.close(write_end)
