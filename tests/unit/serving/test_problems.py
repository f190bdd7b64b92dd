"""What failed requests are answered with, and what the log has of them."""

import json

import pytest
from starlette.requests import Request

from penstock.serving.problems import answer_error


def test_the_message_of_an_unknown_error_is_neither_answered_nor_logged(caplog: pytest.LogCaptureFixture) -> None:
    request = Request({"type": "http", "path": "/score", "headers": [], "query_string": b"", "server": ("h", 80)})
    value = "secret"
    try:
        int(value)
    except ValueError as error:
        answer = answer_error(request, error)

    assert answer.status_code == 500
    assert json.loads(bytes(answer.body))["error"].keys() == {"what", "where", "next"}
    assert "ValueError" in caplog.text
    assert "test_problems.py" in caplog.text
    assert "secret" not in bytes(answer.body).decode() + caplog.text
