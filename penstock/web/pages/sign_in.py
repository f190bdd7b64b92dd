"""Sign in with a token, and out."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from penstock.access.tokens import match_token
from penstock.web.context import WebContext
from penstock.web.pages.answers import go, root_of, show
from penstock.web.sessions import COOKIE, LASTS, make_session


def ask_token(context: WebContext, request: Request) -> Response:
    """Show the form for a token."""
    wanted = _own_path(request.query_params.get("next", ""))
    return show(context, request, "sign_in.html", {"next": wanted, "wrong": False})


def sign_in(context: WebContext, request: Request, form: Mapping[str, str]) -> Response:
    """Begin a session for who shows a token.

    Raises:
        TokenFileUnusable: the file of tokens cannot be read.
    """
    tokens, wanted = context.tokens.tokens(), _own_path(form.get("next", ""))
    identity = match_token(form.get("token", "").strip(), tokens)
    if identity is None:
        return show(context, request, "sign_in.html", {"next": wanted, "wrong": True}, 403)
    stored = next(each for each in tokens if each.name == identity.name)
    answer = go(request, wanted)
    answer.set_cookie(
        COOKIE,
        make_session(context.session_key, stored, context.now()),
        max_age=int(LASTS.total_seconds()),
        path=root_of(request) or "/",
        secure=context.is_secure or request.headers.get("origin", "").startswith("https://"),
        httponly=True,
        samesite="strict",
    )
    return answer


def sign_out(context: WebContext, request: Request, form: Mapping[str, str]) -> Response:
    """End the session in this browser."""
    del context, form
    answer = go(request, "/")
    answer.delete_cookie(COOKIE, path=root_of(request) or "/")
    return answer


def _own_path(text: str) -> str:
    """Return a path of these pages. Anything else would lead to another site."""
    is_own = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if is_own else "/"
