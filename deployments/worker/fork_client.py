"""Let the fork server of the worker run a flow run. Light imports only: this process does nothing but wait.

A request has a length of eight bytes, JSON, and the three standard streams. Answers are lines of JSON.
"""

import json
import os
import signal
import socket
import struct
import sys
from typing import Any

SOCKET = "PENSTOCK_FORK_SERVER"
"""The variable with the name of the fork server's socket."""
LENGTH = struct.Struct("!Q")
RELAYED = (signal.SIGTERM, signal.SIGINT)


def address_of(name: str) -> str:
    """Return the address of a socket without a file, as Linux has it."""
    return f"\0{name}"


def run_in_fork(name: str) -> int | None:
    """Let the fork server run the flow run of this process's environment.

    Returns:
        The exit code of the flow run's process. None: there is no fork server, or it cannot serve this process.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server, server.makefile("r", encoding="utf-8") as answers:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, RELAYED)  # a signal waits until it can be relayed
        try:
            server.connect(address_of(name))
            _send(server)
            started = _receive(answers)
            if started is None or "pid" not in started:
                return None
            for number in RELAYED:
                signal.signal(number, lambda number, _frame: server.sendall(bytes([number])))
        except OSError:
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            ended = _receive(answers)
        except OSError:
            ended = None
    # Without an answer the server was killed, and the flow run's process with it.
    exit_code = -signal.SIGKILL if ended is None else int(ended["exit"])
    if exit_code < 0:
        _end_by(signal.Signals(-exit_code))
    return exit_code


def _send(server: socket.socket) -> None:
    request = json.dumps({"environment": dict(os.environ), "folder": os.getcwd(), "arguments": sys.argv}).encode()
    socket.send_fds(server, [LENGTH.pack(len(request))], [0, 1, 2])
    server.sendall(request)


def _receive(answers: Any) -> dict[str, Any] | None:
    line = answers.readline()
    return dict(json.loads(line)) if line else None


def _end_by(number: signal.Signals) -> None:
    """End this process as the flow run's process ended."""
    if number is not signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pause()
