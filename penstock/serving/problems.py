"""Errors as answers: JSON that says what happened, where, and what to do next."""

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from penstock.errors import (
    DatabaseLocked,
    Halted,
    NotReady,
    NotRecorded,
    PenstockError,
    RequestError,
    RowsRefused,
    RunNotFound,
    SettingsError,
    TokenFileUnusable,
    TooManyRequests,
    TransientError,
)
from penstock.serving.answers import json_response

logger = logging.getLogger(__name__)

_RETRY_AFTER = "1"
_GONE = 499
"""The client has closed its connection: nobody gets the answer, and the figures have its status."""


def answer_error(request: Request, error: Exception) -> Response:
    """Return the answer to a request that failed. What is logged has no value of a row.

    The message of an error that Penstock did not make may have one: its type is logged, and where it was raised.
    """
    if isinstance(error, ClientDisconnect):
        return Response(status_code=_GONE)
    if isinstance(error, RequestError):
        body: dict[str, Any] = {"what": error.what, "where": error.where, "next": error.remedy}
        if isinstance(error, RowsRefused):
            body["rows"] = [{"row": row, "reasons": list(reasons)} for row, reasons in error.rows]
        return write_problem(request, body, error.status)
    if not isinstance(error, PenstockError):
        raised = "".join(traceback.format_tb(error.__traceback__))
        logger.error("a request is answered with 500: %s\n%s", type(error).__name__, raised)
        body = {"what": "the server failed", "where": request.url.path, "next": "Look at the log of the server."}
        return write_problem(request, body, 500)
    status, what = _status(error), str(error)
    if isinstance(error, TokenFileUnusable):  # its message has the file and the line
        what = "the server cannot read its tokens"
    where = request.url.path
    if status >= 500:
        logger.warning("a request is answered with %d: %s", status, type(error).__name__)  # its path may have a key
    later = status in (429, 503)
    seconds = str(error.seconds) if isinstance(error, TooManyRequests) else _RETRY_AFTER
    body = {
        "what": what,
        "where": where,
        "next": "Send the request again." if later else "Correct what the message says.",
    }
    return write_problem(request, body, status, {"retry-after": seconds} if later else None)


def write_problem(
    request: Request, problem: dict[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> Response:
    """Write what happened, where, and what to do next, in the form of the path's format.

    The Open Inference Protocol has a text for it, which its clients show.
    """
    if not is_protocol_path(request.url.path):
        return json_response({"error": problem}, status, headers)
    rows = {"rows": problem["rows"]} if "rows" in problem else {}
    parts = (problem["what"], problem["where"], problem["next"])
    return json_response({"error": ": ".join(filter(None, parts)), **rows}, status, headers)


def is_protocol_path(path: str) -> bool:
    """Whether a path is one of the Open Inference Protocol."""
    return f"{path}/".startswith("/v2/")


def _status(error: PenstockError) -> int:
    if isinstance(error, TooManyRequests | NotReady | NotRecorded):
        return error.status
    if isinstance(error, DatabaseLocked | TransientError | TokenFileUnusable):
        return 503
    if isinstance(error, RunNotFound):
        return 404
    return 422 if isinstance(error, Halted | SettingsError) else 500
