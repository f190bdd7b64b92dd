"""Checks of the Prefect server: version, UI, access, and settings that are known to cause problems."""

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
from penstock.deployments.doctor.reaching import PROBE_SECONDS, hide_login, is_healthy
from penstock.deployments.server.local import running_server

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Exposure = Literal["this machine", "a private network", "the internet"]
SAFE_SINCE = (3, 8)
"""The first version with fixes for the 2026 advisories (access without password, requests to inner addresses)."""


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
    what = f"the server has {theirs}, this machine {ours}"
    if _minor(theirs) < SAFE_SINCE:
        yield broken("version", f"{what}: it has known security holes", "Update the server.")
    elif _minor(theirs) != _minor(ours):
        yield warning("version", what, "Install the same minor version on both.")
    else:
        yield ok("version", what)


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def check_ui_address(case: CheckContext) -> Iterator[Finding]:
    """Check which API the server's page calls. With another one, a browser shows an empty page."""
    page = case.server.rstrip("/").removesuffix("/api")
    answer = httpx.get(f"{page}/ui-settings", timeout=PROBE_SECONDS)
    if answer.status_code != 200 or "json" not in answer.headers.get("content-type", ""):
        yield not_checked("UI address", f"no UI is served at {hide_login(page)}")
        return
    called = str(answer.json().get("api_url") or "")
    remedy = f"Start the server with PREFECT_SERVER_UI_API_URL={hide_login(case.server)}"
    if not called.startswith("http") or _address(called) == _address(case.server):
        yield ok("UI address", f"{hide_login(page)}, which calls its own server")
    elif is_healthy(called.rstrip("/")):
        what = f"the page calls {called}, which is not this server's address but answers"
        yield warning("UI address", what, f"If it is not the same server: {remedy}")
    else:
        yield broken("UI address", f"the page calls {called}, which does not answer, so it stays empty", remedy)


def _address(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return host, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def check_access(case: CheckContext) -> Iterator[Finding]:
    """Check access without a password, since anyone who can deploy can run code on the workers."""
    bare = httpx.get(f"{hide_login(case.server.rstrip('/'))}/admin/version", timeout=PROBE_SECONDS)
    if bare.status_code in (401, 403):
        with client_of(case.server) as client:
            try:
                client.request("GET", "/admin/version")
            except httpx.HTTPStatusError as error:
                what = f"the server refuses this machine: {error.response.status_code}"
                yield broken("access", what, "Set PREFECT_API_AUTH_STRING to its user:password.")
            else:
                yield ok("access", "only with a password")
        return
    host = urlsplit(case.server).hostname or ""
    exposure = measure_exposure(host)
    if exposure == "this machine":
        exposure = measure_exposure(*_answering_addresses(case.server))
    yield judge_access(exposure)


def judge_access(exposure: Exposure) -> Finding:
    """Judge a server without a password."""
    remedy = "Set PREFECT_SERVER_API_AUTH_STRING on it, and PREFECT_API_AUTH_STRING on workers."
    if exposure == "the internet":
        return broken("access", "no password, on a public address: anyone can run code on the workers", remedy)
    if exposure == "a private network":
        what = "no password, and reachable from the network: anyone there can run code on the workers"
        return warning("access", what, remedy)
    return ok("access", "no password, and only this machine reaches it")


def measure_exposure(*hosts: str) -> Exposure:
    """Return from where hosts can be reached, by their addresses. A host without address counts as local."""
    found = {address for host in hosts for address in _look_up(host)}
    if all(address.is_loopback for address in found):
        return "this machine"
    return "the internet" if any(address.is_global for address in found) else "a private network"


def _answering_addresses(api_url: str) -> list[str]:
    """Return the network addresses of this machine at which its server answers."""
    parts = urlsplit(api_url)
    mine = [str(address) for address in _list_own_addresses() if not address.is_loopback]
    return [
        address
        for address in mine
        if is_healthy(parts._replace(netloc=f"{f'[{address}]' if ':' in address else address}:{parts.port}").geturl())
    ]


def _list_own_addresses() -> set[Address]:
    """Return the addresses of this machine's name (on Debian a loopback), and its outgoing address."""
    found = _look_up(socket.gethostname())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as leaving, suppress(OSError):
        leaving.connect(("192.0.2.1", 9))  # an address for documentation; a UDP connect sends nothing
        found.add(ipaddress.ip_address(leaving.getsockname()[0]))
    return found


def _look_up(host: str) -> set[Address]:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return set()
    return {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}


def check_settings(case: CheckContext) -> Iterator[Finding]:
    """Check the server's settings that are known to cause problems."""
    with client_of(case.server) as client:
        server = client.request("GET", "/admin/settings").json()["server"]
    bad = 0
    if server["concurrency"]["lease_storage"].endswith(".memory"):
        bad += 1
        yield warning(
            "server settings",
            "slots are kept in memory: the slot of a killed run stays taken across a restart",
            "Set PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE to prefect.server.concurrency.lease_storage.filesystem",
        )
    if server["analytics_enabled"]:
        bad += 1
        yield warning(
            "server settings",
            "it sends usage data to Prefect, and that service locks a SQLite database",
            "Set PREFECT_SERVER_ANALYTICS_ENABLED=false and DO_NOT_TRACK=1 on it.",
        )
    if not bad:
        yield ok("server settings", "slots on disk or in a database, analytics off")


def check_database(case: CheckContext) -> Iterator[Finding]:
    """Check whether the server uses SQLite with several workers.

    A server hides its database's address. For a server that Penstock started here, its open files show it.
    """
    own = running_server(case.settings.home)
    if own is None or _address(own.api_url) != _address(case.server):
        yield not_checked("server database", "the server does not show it; with several workers, use Postgres")
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
        what = f"SQLite, and {workers} workers are online: they wait for each other"
        yield warning("server database", what, "Run `penstock up --postgres`.")
    else:
        yield ok("server database", "SQLite, enough for one worker")


def has_open_file(pid: int, file: Path) -> bool:
    """Whether a process has a file open. Without /proc, an existing file counts as open."""
    handles = Path(f"/proc/{pid}/fd")
    if not handles.is_dir():
        return file.exists()
    return any(handle.resolve() == file for handle in handles.iterdir())
