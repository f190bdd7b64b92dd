"""What every request to the pages passes: the host, the origin of a form, and who has signed in."""

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.access.tokens import Identity
from penstock.errors import TokenFileUnusable
from penstock.web.context import WebContext
from penstock.web.sessions import COOKIE, read_session

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware of all pages: it refuses strange hosts and foreign forms, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, context: WebContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        request = Request(scope, receive)
        refusal = self._refuse(request)
        if refusal is None:
            request.state.identity = find_identity(request, self._context)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if _name_of(host) not in self._context.hosts:
            return PlainTextResponse("This server is not known under this name. Start it with --allow-host.", 421)
        if request.method not in ("GET", "HEAD") and not _is_own(request.headers.get("origin", ""), host):
            return PlainTextResponse("This form is not of this server.", 403)
        return None


def find_identity(request: Request, context: WebContext) -> Identity | None:
    """Return who has signed in. None if nobody has, also where the token file cannot be read."""
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        return None
    try:
        return read_session(context.session_key, cookie, context.tokens.tokens(), context.now())
    except TokenFileUnusable:
        return None


def _name_of(host: str) -> str:
    """Return a host without its port, in small letters."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_own(origin: str, host: str) -> bool:
    """Whether a form comes from a page of this server. Browsers name the origin of every form."""
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # as in `http://[`
        return False
