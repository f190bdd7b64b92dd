"""Read a request's body, at most so many bytes of it, and the rows in it."""

import asyncio
from typing import Any

import orjson
from starlette.requests import Request

from penstock.errors import RequestError
from penstock.serving.request_rows import describe_kind
from penstock.serving.scored_request import RequestRows
from penstock.serving.scorer import Scorer
from penstock.wording import plural

_BODY_SECONDS = 10.0
"""Within which a body must be here, because each request that is being read takes one of `limit.in_flight`."""
_JSON_BODY = "Send a JSON object with the media type application/json."


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body.

    Raises:
        RequestError: it has more bytes than the limit, is compressed, or takes too long.
        ClientDisconnect: the client has gone.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RequestError("the body is compressed", "content-encoding", "Send it as it is.", 415)
    too_large = RequestError(f"the body has more than {limit:,} bytes", "body", "Send fewer rows at once.", 413)
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        remedy = "Send it faster, or fewer rows at once."
        raise RequestError(f"the body took longer than {_BODY_SECONDS:g} s", "body", remedy, 408) from None
    return bytes(body)


def media_type(request: Request) -> str:
    """Return the media type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parse_json(request: Request, body: bytes) -> dict[str, Any]:
    """Read a body that is a JSON object.

    Raises:
        RequestError: it is none.
    """
    if media_type(request) != "application/json":
        raise RequestError("the body is not declared as JSON", "content-type", _JSON_BODY, 415)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise RequestError(f"the body is not JSON ({error.msg.partition(':')[0]})", place, _JSON_BODY) from None
    if not isinstance(parsed, dict):
        raise RequestError(f"the body is {describe_kind(parsed)}", "body", _JSON_BODY)
    return parsed


def read_rows(scorer: Scorer, body: dict[str, Any], request_id: str, most: int) -> RequestRows:
    """Read a body of Penstock's own format: `rows` of the primary source, and `sources` with rows of others.

    Raises:
        RequestError: a key is missing or unknown, there are too many rows, or a row cannot be read.
    """
    pipeline = scorer.pipeline
    for key in body:
        if key not in ("rows", "sources"):
            raise RequestError(f"`{key[:60]}` is not known", "body", "A request has `rows`, and may have `sources`.")
    rows, given = body.get("rows"), body.get("sources", {})
    if not isinstance(rows, list) or not rows:
        raise RequestError("`rows` is no list with rows", "rows", "Send the rows to score as a list of objects.")
    if not isinstance(given, dict) or not all(isinstance(each, list) for each in given.values()):
        raise RequestError("`sources` does not give a list for each source", "sources", "Send lists by source.")
    others = scorer.other_columns
    for name in given:
        if name in pipeline.sources and name != pipeline.primary and name not in others:
            remedy = "Leave it out. The spec says `serve.features: snapshot`."
            raise RequestError(f"the server holds the rows of `{name}`, and takes none", "sources", remedy)
        if name not in others:
            shown = ", ".join(f"`{each}`" for each in others) or "none"
            raise RequestError(f"`{name[:60]}` is no other source", "sources", f"There are: {shown}.")
    count_rows(len(rows) + sum(map(len, given.values())), most)
    primary = scorer.columns[pipeline.primary].make_table(rows)
    tables = {name: columns.make_table(given.get(name, ())) for name, columns in others.items()}
    return RequestRows(request_id, primary, tables)


def count_rows(rows: int, most: int) -> None:
    """Refuse more rows than a request may have."""
    if rows > most:
        raise RequestError(
            f"the request has {plural(rows, 'row')}, and may have {most:,}", "rows", "Send fewer at once.", 413
        )
