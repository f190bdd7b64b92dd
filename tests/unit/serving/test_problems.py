"""What failed requests are answered with, and what the log has of them."""

import asyncio
import json

import pytest
from starlette.requests import ClientDisconnect, Request

from penstock.errors import RequestError, TokenFileUnusable
from penstock.serving.bodies import read_body
from penstock.serving.problems import answer_error

REQUEST = Request({"type": "http", "path": "/score", "headers": [], "query_string": b"", "server": ("h", 80)})


def test_the_message_of_an_unknown_error_is_neither_answered_nor_logged(caplog: pytest.LogCaptureFixture) -> None:
    value = "secret"
    try:
        int(value)
    except ValueError as error:
        answer = answer_error(REQUEST, error)

    assert answer.status_code == 500
    assert json.loads(bytes(answer.body))["error"].keys() == {"what", "where", "next"}
    assert "ValueError" in caplog.text
    assert "test_problems.py" in caplog.text
    assert "secret" not in bytes(answer.body).decode() + caplog.text


def test_a_client_that_has_gone_is_no_error_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    assert answer_error(REQUEST, ClientDisconnect()).status_code == 499
    assert not caplog.text


def test_a_token_file_that_cannot_be_read_is_not_described_to_clients() -> None:
    answer = answer_error(REQUEST, TokenFileUnusable("/etc/tokens", 7, "a line is wrong", "Correct it."))

    assert answer.status_code == 503
    assert "/etc/tokens" not in bytes(answer.body).decode()


def test_a_body_that_does_not_come_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_for_more() -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    monkeypatch.setattr("penstock.serving.bodies._BODY_SECONDS", 0.02)
    request = Request(REQUEST.scope, wait_for_more)

    with pytest.raises(RequestError, match="the body took longer") as refused:
        asyncio.run(read_body(request, 100))
    assert refused.value.status == 408
