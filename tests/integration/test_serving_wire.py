"""What a broken or hostile client sends over the connection itself: it gets a clear answer, and others are served."""

import socket
from collections.abc import Iterator

import httpx
import orjson
import pytest

from tests.integration.test_serving import ROWS, make_served_place
from tests.serving_process import ServingProcess, serving_process

pytestmark = pytest.mark.slow
PATH = "/pipelines/card-risk/score"
BODY = orjson.dumps({"rows": ROWS[:1]})
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with serving_process(make_served_place(tmp_path_factory.mktemp("wire"))) as server:
        yield server


def length(number: object) -> bytes:
    return f"Content-Length: {number}\r\n".encode()


def send(server: ServingProcess, content: bytes, *, end: bool = False) -> list[str]:
    """Send bytes over a connection, and return the status of each answer.

    Args:
        end: send no more, as a client does that has gone.
    """
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(content)
        if end:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        connection.settimeout(0.5 if not end else 60)
        try:
            while more := connection.recv(1 << 16):
                received += more
        except TimeoutError:  # the connection is kept
            pass
        except ConnectionResetError:
            pass
    return [part.split(b" ", 1)[0].decode() for part in received.split(b"HTTP/1.1 ")[1:]]


CHUNKED = b"Transfer-Encoding: chunked\r\n"
LARGE = b"100000\r\n" + b" " * 0x100000 + b"\r\n"


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (length(len(BODY) - 1) + b"\r\n" + BODY, ["400"]),
        (length(0) + b"\r\n" + BODY, ["400"]),
        (length(-1) + b"\r\n" + BODY, ["400"]),
        (length("many") + b"\r\n" + BODY, ["400"]),
        (length(len(BODY)) + length(len(BODY) - 1) + b"\r\n" + BODY, ["400"]),
        (length(10**12) + b"\r\n", ["413"]),
        (CHUNKED + b"\r\nzz\r\n" + BODY, ["400"]),
        (CHUNKED + b"\r\n" + LARGE * 2, ["413"]),
        (CHUNKED + f"\r\n{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n", ["200"]),
        (b"X: " + b"a" * 100_000 + b"\r\n\r\n", ["400"]),
        (b"X: a\r\n" * 50_000 + b"\r\n", ["400"]),
        (b"X: \x00\r\n\r\n", ["400"]),
    ],
    ids=[
        "short",
        "none",
        "negative",
        "text",
        "two",
        "huge",
        "bad-chunk",
        "large-chunks",
        "chunks",
        "long",
        "many",
        "nul",
    ],
)
def test_a_request_that_lies_about_itself_is_refused(
    server: ServingProcess, content: bytes, statuses: list[str]
) -> None:
    assert send(server, HEAD + content) == statuses
    assert httpx.post(f"{server.address}{PATH}", content=BODY, headers={"content-type": "application/json"}).is_success


def test_a_client_that_goes_within_its_body_leaves_nothing_behind(server: ServingProcess) -> None:
    for _ in range(70):  # more than may be in flight
        send(server, HEAD + length(len(BODY)) + b"\r\n" + BODY[:10], end=True)

    assert httpx.post(f"{server.address}{PATH}", content=BODY, headers={"content-type": "application/json"}).is_success


def test_slow_bodies_are_refused_and_keep_nobody_out(server: ServingProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 60) as slow:
        slow.sendall(HEAD + length(len(BODY)) + b"\r\n" + BODY[:10])
        answer = httpx.post(f"{server.address}{PATH}", content=BODY, headers={"content-type": "application/json"})
        refused = slow.recv(1 << 16)

    assert answer.is_success
    assert refused.startswith(b"HTTP/1.1 408 ")
    assert "Traceback" not in server.log.read_text()
