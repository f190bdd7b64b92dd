"""Answers of a pipeline that records: the request is recorded first, and a retry gets the answer given before."""

import base64
import hashlib
import hmac
import json
from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response

from penstock.errors import RequestError
from penstock.ledger.served_writes import Answer
from penstock.privacy.masking import MaskingPolicy
from penstock.serving.recorder import Kept, Recorder
from penstock.serving.scored_request import ScoredRequest

KEY_HEADER = "idempotency-key"
MOST_OF_KEY = 255
"""Most characters of a key."""
_OWN = ("content-length", "x-request-id")
"""Headers that each answer gets anew."""
RECORDED = "x-recorded"
"""Says where the request was recorded: `warehouse`, `spool`, or `earlier` for a retry."""


def read_key(request: Request) -> str | None:
    """Return the client's `Idempotency-Key`.

    Raises:
        RequestError: it is empty, too long, or has other characters than ASCII that can be printed.
    """
    given = request.headers.get(KEY_HEADER)
    if given is None:
        return None
    if not (0 < len(given) <= MOST_OF_KEY and given.isascii() and given.isprintable()):
        remedy = f"Send 1 to {MOST_OF_KEY} printable ASCII characters, another key for each request."
        raise RequestError("the Idempotency-Key cannot be used", KEY_HEADER, remedy)
    return given


async def record_answer(
    recorder: Recorder, scored: ScoredRequest, request: Request, body: bytes, client: str, response: Response
) -> Response:
    """Record a scored request, and return its answer: that of the first request with its `Idempotency-Key`.

    Args:
        client: the name of the client's token; keys of others are others.

    Raises:
        RequestError: another request had the key.
        NotRecorded: with `before_answer`, the request cannot be recorded.
    """
    key = read_key(request)
    digests = [] if key is None else digest_request(request, body, recorder.requests.masking)
    answer = None if key is None else _describe_answer(key, client, digests[0], response)
    given = request.headers.get("x-request-id")
    kept = await recorder.record(scored, given if given == scored.request.request_id else None, answer)
    return response if kept is None else _say_where(kept, digests, response)


def _say_where(kept: Kept, digests: Collection[str], response: Response) -> Response:
    if kept.earlier is None:
        response.headers[RECORDED] = kept.place
        return response
    if kept.earlier.request not in digests:
        remedy = "Send the same request again, or another key with this one."
        raise RequestError("another request had this Idempotency-Key", KEY_HEADER, remedy, 422)
    response = _read_answer(kept.earlier)
    response.headers[RECORDED] = "earlier"
    return response


def digest_request(request: Request, body: bytes, masking: MaskingPolicy) -> list[str]:
    """Return the digests that a request may have in the ledger: that of now first, then that of the former secret.

    The body of a pipeline with private columns is hashed with the secret, because few bodies may be possible.
    """
    parts = (request.url.path, request.url.query, request.headers.get("content-type", ""))
    lengths = request.headers.get("inference-header-content-length", "")
    asked = json.dumps([*parts, lengths]).encode() + body
    if not masking.columns:
        return [hashlib.sha256(asked).hexdigest()]
    return [hmac.digest(secret, asked, "sha256").hex() for secret in (masking.secret, masking.former) if secret]


def _describe_answer(key: str, client: str, asked: str, response: Response) -> Answer:
    headers = [(name, value) for name, value in response.headers.items() if name not in _OWN]
    sent = base64.b64encode(bytes(response.body)).decode()
    said = json.dumps({"status": response.status_code, "headers": headers, "body": sent})
    return Answer(hashlib.sha256(json.dumps([client, key]).encode()).hexdigest(), asked, said)


def _read_answer(answer: Answer) -> Response:
    said = json.loads(answer.body)
    return Response(base64.b64decode(said["body"]), said["status"], dict(said["headers"]))
