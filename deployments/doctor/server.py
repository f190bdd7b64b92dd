"""Checks of the Prefect server: its version, its page, who may enter, and the settings that are known to hurt."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx
from prefect.exceptions import ObjectNotFound

from penstock.deployments.dead_runs import list_online_workers
from penstock.deployments.doctor.asking import client_of
from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.finding import Check, Finding, broken, not_checked, ok, warning
from penstock.deployments.doctor.reaching import PROBE_SECONDS, is_healthy, tell_url
from penstock.deployments.server.local import running_server

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Exposure = Literal["this machine", "a private network", "the internet"]
SAFE_SINCE = (3, 8)
"""The 2026 advisories (access without a password, requests to inner addresses) are fixed from here on."""


def list_checks(case: CheckContext) -> tuple[Check, ...]:
    checks = {
        "version": check_version,
        "UI address": check_ui_address,
        "access": check_access,
        "server settings": check_settings,
        "server database": check_database,
    }
    return tuple(Check(subject, partial(examine, case), needs_server=True) for subject, examine in checks.items())


def check_version(case: CheckContext) -> Iterator[Finding]:
    ours = metadata.version("prefect")
    with client_of(case.server) as client:
        theirs = str(client.request("GET", "/admin/version").json())
    told = f"the server has {theirs}, this machine {ours}"
    if _minor(theirs) < SAFE_SINCE:
        yield broken("version", f"{told}: known holes are open", "Update the server.")
    elif _minor(theirs) != _minor(ours):
        yield warning("version", told, "Install the same minor on both.")
    else:
        yield ok("version", told)


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def check_ui_address(case: CheckContext) -> Iterator[Finding]:
    """Look which API the server's page calls: a browser shows an empty page where it is another one."""
    page = case.server.rstrip("/").removesuffix("/api")
    answer = httpx.get(f"{page}/ui-settings", timeout=PROBE_SECONDS)
    if answer.status_code != 200 or "json" not in answer.headers.get("content-type", ""):
        yield not_checked("UI address", f"no UI is served at {tell_url(page)}")
        return
    called = str(answer.json().get("api_url") or "")
    remedy = f"Start the server with PREFECT_SERVER_UI_API_URL={tell_url(case.server)}"
    if not called.startswith("http") or _address(called) == _address(case.server):
        yield ok("UI address", f"{tell_url(page)}, which calls its own server")
    elif is_healthy(called.rstrip("/")):
        told = f"the page calls {called}, another address than this server's; it answers"
        yield warning("UI address", told, f"If it is not the same server: {remedy}")
    else:
        yield broken("UI address", f"the page calls {called}, which does not answer: it stays empty", remedy)


def _address(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return host, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def check_access(case: CheckContext) -> Iterator[Finding]:
    """Ask without a password: who can deploy a flow to a server can run code on its workers."""
    bare = httpx.get(f"{tell_url(case.server.rstrip('/'))}/admin/version", timeout=PROBE_SECONDS)
    if bare.status_code in (401, 403):
        with client_of(case.server) as client:
            try:
                client.request("GET", "/admin/version")
            except httpx.HTTPStatusError as error:
                told = f"the server refuses this machine: {error.response.status_code}"
                yield broken("access", told, "Set PREFECT_API_AUTH_STRING to its user:password.")
            else:
                yield ok("access", "only with a password")
        return
    host = urlsplit(case.server).hostname or ""
    exposure = measure_exposure(host)
    if exposure == "this machine":
        exposure = measure_exposure(*_answering_addresses(case.server))
    yield judge_access(exposure)


def judge_access(exposure: Exposure) -> Finding:
    """Judge a server that asks for no password."""
    remedy = "Set PREFECT_SERVER_API_AUTH_STRING on it, and PREFECT_API_AUTH_STRING on workers."
    if exposure == "the internet":
        return broken("access", "no password, on a public address: anyone can run code on the workers", remedy)
    if exposure == "a private network":
        told = "no password, and the network reaches it: who does can run code on the workers"
        return warning("access", told, remedy)
    return ok("access", "no password, and only this machine reaches it")


def measure_exposure(*hosts: str) -> Exposure:
    """Tell who can reach hosts, by their addresses; one that has no address is nobody's but this machine's."""
    found = {address for host in hosts for address in _look_up(host)}
    if all(address.is_loopback for address in found):
        return "this machine"
    return "the internet" if any(address.is_global for address in found) else "a private network"


def _answering_addresses(api_url: str) -> list[str]:
    """Return the addresses of this machine on a network by which a server on it answers too."""
    parts = urlsplit(api_url)
    mine = [str(address) for address in _list_own_addresses() if not address.is_loopback]
    return [
        address
        for address in mine
        if is_healthy(parts._replace(netloc=f"{f'[{address}]' if ':' in address else address}:{parts.port}").geturl())
    ]


def _list_own_addresses() -> set[Address]:
    """Return what this machine's name stands for, and the address by which it leaves; Debian's name is a loopback."""
    found = _look_up(socket.gethostname())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as leaving, suppress(OSError):
        leaving.connect(("192.0.2.1", 9))  # an address for documents; UDP sends nothing on connecting
        found.add(ipaddress.ip_address(leaving.getsockname()[0]))
    return found


def _look_up(host: str) -> set[Address]:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return set()
    return {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}


def check_settings(case: CheckContext) -> Iterator[Finding]:
    """Look at the settings of the server that are known to hurt."""
    with client_of(case.server) as client:
        server = client.request("GET", "/admin/settings").json()["server"]
    bad = 0
    if server["concurrency"]["lease_storage"].endswith(".memory"):
        bad += 1
        yield warning(
            "server settings",
            "slots are kept in memory: one of a killed run stays held across a restart",
            "Set PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE to prefect.server.concurrency.lease_storage.filesystem",
        )
    if server["analytics_enabled"]:
        bad += 1
        yield warning(
            "server settings",
            "it sends usage to its makers, and that service locks a SQLite database",
            "Set PREFECT_SERVER_ANALYTICS_ENABLED=false and DO_NOT_TRACK=1 on it.",
        )
    if not bad:
        yield ok("server settings", "slots on disk or in a database, analytics off")


def check_database(case: CheckContext) -> Iterator[Finding]:
    """Look whether the server keeps its records in SQLite while several workers ask it.

    A server masks its database's address; of one that Penstock started here, the open files tell.
    """
    own = running_server(case.settings.home)
    if own is None or _address(own.api_url) != _address(case.server):
        yield not_checked("server database", "the server does not tell; with several workers it wants Postgres")
        return
    if not has_open_file(own.pid, own.log.with_name("prefect.db")):
        yield ok("server database", "not SQLite")
        return
    with client_of(case.server) as client:
        try:
            workers = len(list_online_workers(client))
        except ObjectNotFound:
            workers = 0
    if workers > 1:
        told = f"SQLite, and {workers} workers are online: they wait for each other"
        yield warning("server database", told, "Run `penstock up --postgres`.")
    else:
        yield ok("server database", "SQLite, enough for one worker")


def has_open_file(pid: int, file: Path) -> bool:
    """Whether a process has a file open; a system without /proc does not tell, and SQLite is assumed."""
    handles = Path(f"/proc/{pid}/fd")
    if not handles.is_dir():
        return file.exists()
    return any(handle.resolve() == file for handle in handles.iterdir())
