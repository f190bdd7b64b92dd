"""The child process of `web.process`: the pages on loopback, until the parent ends."""

import os
import secrets
import signal
import sys
import threading
import time

import uvicorn
from starlette.applications import Starlette

from penstock.access.token_file import TokenFile
from penstock.settings import prefect_api_url
from penstock.tasks.process_resources import connector, registry, settings
from penstock.web.context import WebContext
from penstock.web.routes import web_routes

END_SECONDS = 5.0
"""How long the process may take to end by itself: a request or a write may hang."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def end_with_starter(pipe: int) -> None:
    """Wait until the pipe's other end is closed, then end this process as Ctrl-C does, or at once if it hangs."""
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_SECONDS)
    os._exit(1)


def main(pipe: int, port: int, prefect_ui: str) -> None:
    """Serve until SIGTERM. Everybody on this machine may read, and a change needs a token."""
    threading.Thread(target=end_with_starter, args=(pipe,), daemon=True).start()
    context = WebContext(
        settings(),
        connector(),
        registry(),
        TokenFile(settings().tokens_file),
        needs_token=False,
        hosts=LOOPBACK,
        session_key=secrets.token_bytes(32),
        prefect_api=prefect_api_url(),
        prefect_ui=prefect_ui,
    )
    app = Starlette(routes=web_routes(context))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
