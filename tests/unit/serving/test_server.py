"""How the server listens."""

import re
import time
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.serving import server
from penstock.serving.server import Address, listen


def test_the_grace_period_of_the_guide_is_longer_than_an_end_takes() -> None:
    guide = Path("docs/serving.md").read_text(encoding="utf-8")
    [grace] = re.findall(r"terminationGracePeriodSeconds: (\d+)", guide)

    assert f"may wait {server._HUNG_SECONDS} seconds" in guide
    assert int(grace) > server._DRAIN_SECONDS + server._HUNG_SECONDS


def test_an_answer_on_an_open_connection_does_not_wait_for_an_acknowledgement() -> None:
    """Without TCP_NODELAY each takes 40 ms."""

    async def answer(request: Request) -> Response:
        return Response(await request.body())

    config = uvicorn.Config(Starlette(routes=[Route("/", answer, methods=["POST"])]), port=0, log_level="warning")
    bound = listen(config, Address("127.0.0.1", 0))
    serving = uvicorn.Server(config)
    thread = Thread(target=serving.run, kwargs={"sockets": [bound]})
    thread.start()
    connection = HTTPConnection(*bound.getsockname())
    try:
        waited = []
        for _ in range(20):
            begin = time.perf_counter()
            connection.request("POST", "/", b"{}")
            connection.getresponse().read()
            waited.append(time.perf_counter() - begin)
    finally:
        connection.close()
        serving.should_exit = True
        thread.join()
        bound.close()

    assert sorted(waited)[5] < 0.03, waited
