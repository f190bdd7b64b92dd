"""Read a form: bounded, and as text."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from penstock.web.pages.answers import PageError

MAX_BYTES = 65_536
MAX_FIELDS = 100


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a form. Of two fields with one name the last one counts.

    Raises:
        PageError: it is too large, or not a form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise PageError(415, "This is not a form", "Use the form of the page.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise PageError(413, "The form is too large", f"A form has at most {MAX_BYTES:,} bytes.")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS))
    except ValueError:
        raise PageError(400, "The form cannot be read", "Use the form of the page.") from None
