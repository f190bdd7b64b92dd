"""Checks of the machine: settings, disk space, time zones, proxies, ports."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.finding import Check, Finding, broken, ok, warning
from penstock.wording import plural

OLDEST_PYTHON = (3, 11)
LITTLE_BYTES, TOO_FEW_BYTES = 2 << 30, 100 << 20
FEW_INODES = 10_000
UI_PORT = 4200


def list_checks(case: CheckContext) -> tuple[Check, ...]:
    checks = {
        "python": check_python,
        "settings": check_settings,
        "disk": check_disk,
        "time zones": check_time_zones,
        "proxy": check_proxy,
        "port 4200": check_port,
        "telemetry": check_telemetry,
    }
    return tuple(Check(subject, partial(examine, case)) for subject, examine in checks.items())


def check_python(case: CheckContext) -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield broken("python", f"{found} is too old", "Install Python 3.11 or later.")
    else:
        yield ok("python", found)


def check_settings(case: CheckContext) -> Iterator[Finding]:
    if case.settings_error is not None:
        yield broken("settings", case.settings_error.what, case.settings_error.remedy)
        return
    settings = case.settings
    yield ok("settings", f"home {settings.home}, pipelines {settings.pipelines}, runner {settings.runner}")


def check_disk(case: CheckContext) -> Iterator[Finding]:
    """Check the file system of the home folder, or of its nearest existing parent."""
    folder = nearest_folder(case.settings.home)
    free = shutil.disk_usage(folder).free
    what = f"{free / (1 << 30):.1f} GB free for {case.settings.home}"
    remedy = "Free disk space, or set PENSTOCK_HOME to a larger disk."
    if free < TOO_FEW_BYTES:
        yield broken("disk", what, remedy)
    elif free < LITTLE_BYTES:
        yield warning("disk", what, remedy)
    else:
        yield ok("disk", what)
    if not os.access(folder, os.W_OK):
        yield broken("disk", f"{folder} cannot be written", "Set PENSTOCK_HOME to a writable folder.")
    if sys.platform == "win32":
        return
    found = os.statvfs(folder)
    if found.f_files and found.f_favail < FEW_INODES:
        yield warning(
            "disk", f"space for only {plural(found.f_favail, 'more file')}", "Delete small files on that disk."
        )


def nearest_folder(path: Path) -> Path:
    """Return the path if it is a folder, or its nearest existing parent."""
    path = path.absolute()
    return path if path.is_dir() else nearest_folder(path.parent)


def check_time_zones(case: CheckContext) -> Iterator[Finding]:
    parts = (part for pipeline in case.pipelines for part in (pipeline.schedule, pipeline.interval))
    wanted = {part.timezone for part in parts if part is not None} | {"Europe/Paris"}
    missing = []
    for name in sorted(wanted):
        try:
            ZoneInfo(name)
        except ZoneInfoNotFoundError:
            missing.append(name)
    if missing:
        yield broken(
            "time zones",
            f"unknown here: {', '.join(missing)}",
            "Install tzdata, with pip or the system's package manager.",
        )
    else:
        yield ok("time zones", "the database is there")


def check_proxy(case: CheckContext) -> Iterator[Finding]:
    """Check whether calls to a local server would go through a proxy.

    Penstock bypasses proxies for a server that it starts itself, but not for one in PREFECT_API_URL.
    """
    proxies = read_proxies(case.environment)
    if not {"http", "https", "all"} & proxies.keys():
        yield ok("proxy", "none is set")
        return
    named = case.environment.get("PREFECT_API_URL", "")
    host = urlsplit(named).hostname or "127.0.0.1"
    if is_excepted(host, proxies.get("no", "")):
        yield ok("proxy", f"set, and {host} bypasses it")
    elif host not in ("localhost", "127.0.0.1", "::1"):
        yield ok("proxy", f"set, and {host} is reached through it")
    else:
        state = broken if named else warning
        yield state("proxy", f"calls to {host} go to the proxy", f"Add {host} to NO_PROXY.")


def read_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return proxies by kind, and under `no` the hosts that bypass them. Lower-case variables win."""
    by_name = sorted(environment.items(), key=lambda item: item[0].islower())
    named = ((name.lower().removesuffix("_proxy"), url) for name, url in by_name if name.lower().endswith("_proxy"))
    return {kind: url for kind, url in named if url}


def is_excepted(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host, its domain or all hosts."""
    entries = [entry.strip().lstrip(".").partition(":")[0] for entry in no_proxy.split(",") if entry.strip()]
    return any(entry in ("*", host) or host.endswith(f".{entry}") for entry in entries)


def check_port(case: CheckContext) -> Iterator[Finding]:
    """Check whether the port of `penstock up` is free."""
    if case.api_url is not None:
        yield ok("port 4200", "not needed: a Prefect server is configured or runs")
        return
    with socket.socket() as probe:
        probe.settimeout(2)
        taken = probe.connect_ex(("127.0.0.1", UI_PORT)) == 0
    if taken:
        yield warning("port 4200", "another process listens there", "Start with `penstock up --port 4300`.")
    else:
        yield ok("port 4200", "free")


def check_telemetry(case: CheckContext) -> Iterator[Finding]:
    """Check Great Expectations' telemetry, which is on by default. Penstock turns it off unless it is set."""
    asked = case.environment.get("GX_ANALYTICS_ENABLED", "false")
    if asked.lower() in ("false", "0", "no", "off"):
        yield ok("telemetry", "Great Expectations sends nothing")
    else:
        yield warning(
            "telemetry", f"GX_ANALYTICS_ENABLED is {asked}", "Unset it: each run sends events to the outside."
        )
