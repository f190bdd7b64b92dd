"""How a page answers: with a template, or with an error that is a page too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from penstock.access.tokens import Role
from penstock.errors import DatabaseLocked, PenstockError, PipelineNotFound, RunNotFound, TransientError, UsageError
from penstock.web.context import WebContext
from penstock.web.rendering import render
from penstock.web.sessions import COOKIE, make_csrf

BUSY_AGAIN_SECONDS = 5


@dataclass(eq=False)
class PageError(Exception):
    """A request that cannot be answered as it is."""

    status: int
    title: str
    message: str


def show(context: WebContext, request: Request, template: str, facts: Mapping[str, Any], code: int = 200) -> Response:
    """Answer with a template. Each one knows who has signed in, and the token of forms."""
    session = request.cookies.get(COOKIE, "")
    identity = getattr(request.state, "identity", None)
    shared = {
        "identity": identity,
        "csrf": make_csrf(context.session_key, session) if identity else "",
        "prefect_ui": context.prefect_ui,
        "zone": context.zone,
        "path": request.url.path,
        "root": root_of(request),
    }
    return HTMLResponse(render(template, **shared, **facts), code)


def root_of(request: Request) -> str:
    """Return the path under which the pages are mounted."""
    return str(request.scope.get("root_path", ""))


def go(request: Request, path: str) -> Response:
    """Send the browser to another page, by GET."""
    return RedirectResponse(f"{root_of(request)}{path}", 303)


def require_role(request: Request, role: Role) -> None:
    """Refuse who has not signed in with a role.

    Raises:
        PageError: nobody has signed in, or the token has another role.
    """
    identity = request.state.identity
    if identity is None:
        raise PageError(401, "Sign in first", f"This needs a token with the role {role}.")
    if not identity.may(role):
        what = f"This needs a token with the role {role}, and {identity.name} is {identity.role}."
        raise PageError(403, "Your token does not allow this", what)


def show_error(context: WebContext, request: Request, error: Exception) -> Response:
    """Answer with a page about an error."""
    if isinstance(error, PageError):
        return show(context, request, "error.html", {"title": error.title, "message": error.message}, error.status)
    assert isinstance(error, PenstockError)
    if isinstance(error, TransientError):
        busy = {"is_locked": isinstance(error, DatabaseLocked), "seconds": BUSY_AGAIN_SECONDS}
        page = show(context, request, "busy.html", busy | {"message": str(error)}, 503)
        page.headers["Retry-After"] = str(BUSY_AGAIN_SECONDS)
        return page
    missing = isinstance(error, PipelineNotFound | RunNotFound)
    status = 404 if missing else 409 if isinstance(error, UsageError) else 500
    title = "Not found" if missing else "This is not possible"
    return show(context, request, "error.html", {"title": title, "message": str(error)}, status)
