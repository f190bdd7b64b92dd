"""A systemd unit that runs `penstock up`, and the messages that systemd waits for."""

import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

WATCHDOG_SECONDS = 180
STOP_SECONDS = 90
"""Longer than the worker and the server need to end."""

UNIT = """\
# Runs `penstock up` for the project in {project}. To install it for your own user:
#
#   penstock up --systemd > ~/.config/systemd/user/{name}.service
#   systemctl --user daemon-reload
#   systemctl --user enable --now {name}
#   loginctl enable-linger    # it starts with the machine, not with your login
#
# For the whole machine, write it to /etc/systemd/system/{name}.service, leave out `--user`, add `User=` with the owner
# of the project to [Service], and change WantedBy to multi-user.target.
# Variables of your shell do not reach a service: put what the project needs into its `.env`.

[Unit]
Description=Penstock in {description}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
WorkingDirectory={folder}
ExecStart={command}
Restart=on-failure
RestartSec=10
KillMode=mixed
TimeoutStartSec=300
TimeoutStopSec={stop}
WatchdogSec={watchdog}

[Install]
WantedBy=default.target
"""


def render_unit(project: Path, options: Sequence[str]) -> str:
    """Return the unit for a project and the options of its `penstock up`."""
    program = Path(sys.executable).with_name("penstock")
    start = [str(program)] if program.exists() else [sys.executable, "-c", "from penstock.cli import main; main()"]
    return UNIT.format(
        project=project,
        description=_escape(str(project)),
        name=f"penstock-{project.name}".replace(" ", "-"),
        folder=_escape(str(project)),
        command=" ".join(_quote(word) for word in [*start, "up", *options]),
        stop=STOP_SECONDS,
        watchdog=WATCHDOG_SECONDS,
    )


def notify_systemd(message: str) -> None:
    """Send a message such as `READY=1` to the systemd that started this process, if one did."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        try:
            sending.sendto(message.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
        except OSError:  # systemd restarts itself now and then
            return


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _quote(word: str) -> str:
    escaped = _escape(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return escaped if re.fullmatch(r"[\w./-]+", escaped) else f'"{escaped}"'
