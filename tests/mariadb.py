"""A MariaDB server of the tests' own, from the system's package."""

import shutil
import signal
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INSTALLED = shutil.which("mariadbd", path="/usr/sbin:/usr/bin:/usr/local/bin")
SKIPPED = "mariadbd is not installed (Debian: mariadb-server)"


@dataclass
class MariadbServer:
    """A server in a folder. Its port stays the same when it is started again."""

    folder: Path
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def install(self) -> None:
        """Write the system tables, with a `root` that needs no password."""
        subprocess.run(  # the system's own program
            [
                str(shutil.which("mariadb-install-db")),
                "--no-defaults",
                f"--datadir={self.folder / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--user=root",
            ],
            check=True,
            capture_output=True,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(  # the system's own program
            [
                str(INSTALLED),
                "--no-defaults",
                f"--datadir={self.folder / 'data'}",
                f"--socket={self.folder / 'socket'}",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                "--user=root",
                "--sql-mode=",  # what zero dates need, and the setting of many old servers
                "--default-time-zone=+02:00",
                "--innodb-buffer-pool-size=32M",
                "--innodb-flush-log-at-trx-commit=0",
                "--performance-schema=off",
            ],
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        log.close()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                self.execute("select 1")
            except OSError as error:
                last = error
            except Exception as error:  # noqa: BLE001 # the driver's own errors, which this file imports late
                last = OSError(str(error))
            else:
                return
            time.sleep(0.1)
        raise RuntimeError(f"MariaDB does not start: {last}; {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def connect(self, database: str | None = None) -> Any:
        import pymysql

        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", database=database, charset="utf8mb4", autocommit=True
        )

    def execute(self, *statements: str, database: str | None = None) -> Any:
        """Execute statements and return the rows of the last one."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()

    def make_database(self) -> str:
        name = f"shop_{uuid.uuid4().hex[:10]}"
        self.execute(f"create database {name} character set utf8mb4")
        return name

    def url(self, database: str) -> str:
        return f"mariadb://root@127.0.0.1:{self.port}/{database}"
