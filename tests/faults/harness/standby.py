"""A streaming standby of a test's own Postgres server."""

import shutil
import subprocess

import psycopg

from tests.faults.harness.cluster import Cluster
from tests.waiting import wait_until


class Standby(Cluster):
    """Follows a primary server while it is entered.

    Args:
        settings: as in `postgresql.conf`.
    """

    def __init__(self, primary: Cluster, **settings: str) -> None:
        super().__init__(None, **{"hot_standby_feedback": "off"} | settings)
        self._primary = primary

    def __enter__(self) -> "Standby":
        if self.system_user is not None:
            shutil.chown(self.folder, self.system_user)
        copy = ["-D", self.folder, "-h", self._primary.folder, "-U", "postgres", "-R", "-X", "stream", "-c", "fast"]
        subprocess.run([self._wheel.bin_path / "pg_basebackup", *copy], user=self.system_user, cwd="/", check=True)
        for copied in (*self.folder.glob(".s.PGSQL.*"), self.folder / "server.log"):
            copied.unlink(missing_ok=True)
        self.start()
        return self

    def follow(self) -> None:
        """Wait until the standby has replayed what the primary has done. A vacuum's end does not write the log, so ask
        for the end of what is to be written."""
        with psycopg.connect(self._primary.url(), autocommit=True) as connection:
            [(reached,)] = connection.execute("select pg_current_wal_insert_lsn()::text").fetchall()
        wait_until(lambda: self._has_replayed(reached))

    def promote(self) -> None:
        """Make the standby a primary."""
        self.execute("select pg_promote()")

    def _has_replayed(self, position: str) -> bool:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            query = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
            return bool(connection.execute(query, [position]).fetchone()[0])  # type: ignore[index] # one row
