"""A server in a process of its own, as `penstock serve` starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.shop import Place
from tests.waiting import wait_until
from tests.works import free_port


@dataclass(frozen=True)
class ServingProcess:
    """A server that is ready."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def children(self) -> list[int]:
        """The processes of `--workers` that have the application, oldest first."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(each) for each in found if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.address}/ready").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serving_process(
    place: Place, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[ServingProcess]:
    """Serve the pipeline of a place, and wait until it is ready. The process is killed at the end, if it still runs."""
    folder, port, log = place.folder, free_port(), place.folder / "serve.log"
    settings = {
        "PENSTOCK_HOME": str(folder),
        "PENSTOCK_CONNECTIONS__SHOP": place.shop.engine.url.render_as_string(hide_password=False),
        "PENSTOCK_CONNECTIONS__WAREHOUSE": place.warehouse.engine.url.render_as_string(hide_password=False),
    }
    code = "from penstock.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(place.spec), "--port", str(port), *options]
    with log.open("w") as written:
        process = subprocess.Popen(
            command,
            env=os.environ | settings | dict(environment or {}),
            cwd=folder,
            stderr=written,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    server = ServingProcess(process, port, log)
    try:
        wait_until(server.is_ready, tell=log.read_text)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session has the processes of `--workers` too
        process.wait()
