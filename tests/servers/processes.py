"""A server program in a process of its own: started, waited for, and stopped by its process id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60


def free_ports(number: int) -> list[int]:
    """Return ports that no process listens on now. They are all bound at once, so no two are the same."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass
class ServerProcess:
    """A program that listens on a port."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @classmethod
    def start(cls, command: Sequence[str], log: Path, **environment: str) -> "ServerProcess":
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
            )
        return cls(process, log)

    def wait_for(self, port: int) -> None:
        """Wait until the port takes connections."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise RuntimeError(f"{self.process.args!r} does not start: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Kill the process. Its data is not needed any longer, and a graceful stop of some takes 15 s."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)


@dataclass
class StoreServer:
    """A server of objects, with its files in a folder."""

    folder: Path
    port: int = 0
    server: ServerProcess | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
