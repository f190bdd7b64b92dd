"""The addresses of the pages."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from penstock.access.tokens import Role
from penstock.errors import PenstockError
from penstock.web.context import WebContext
from penstock.web.forms import read_form
from penstock.web.guard import Guard
from penstock.web.pages import compare, explain, models, pipelines, quarantine, runs, sign_in, try_row
from penstock.web.pages.answers import PageError, go, require_role, root_of, show_error
from penstock.web.sessions import COOKIE, is_csrf

ROOT = "/ui"
"""Where the pages are, beside the addresses for programs."""
Page = Callable[[WebContext, Request], Response]
Action = Callable[[WebContext, Request, Mapping[str, str]], Response]


def web_routes(context: WebContext) -> list[BaseRoute]:
    """Return the routes of the pages, for the server to mount: `/` leads to `/ui/`."""
    return [Route("/", _to_pages), Mount(ROOT, app=_make_app(context))]


def _to_pages(request: Request) -> Response:
    del request
    return RedirectResponse(f"{ROOT}/")


def _make_app(context: WebContext) -> Starlette:
    page, action = partial(_page, context), partial(_action, context)
    static = StaticFiles(directory=Path(__file__).with_name("static"))
    routes = [
        Mount("/static", app=static),
        Route("/sign-in", _open_page(context, sign_in.ask_token)),
        Route("/sign-in", _sign_in(context), methods=["POST"]),
        action("/sign-out", "reader", sign_in.sign_out),
        page("/", pipelines.list_pipelines),
        page("/pipelines/{name}", pipelines.show_pipeline),
        page("/runs/{run_id}", runs.show_run),
        page("/runs/{run_id}/accept", runs.ask_accept),
        action("/runs/{run_id}/accept", "operator", runs.accept),
        page("/halted", runs.list_halted),
        page("/compare", compare.compare_sides),
        page("/explain", explain.explain_key),
        _reading_form(context, "/explain", explain.explain_with_reasons),
        page("/quarantine", quarantine.list_refusals),
        page("/pipelines/{name}/try", try_row.ask_row),
        _reading_form(context, "/pipelines/{name}/try", try_row.try_row),
        page("/pipelines/{name}/release", quarantine.ask_release),
        action("/pipelines/{name}/release", "operator", quarantine.release),
        page("/models", models.list_models),
        page("/models/{name}", models.show_model),
        page("/models/{name}/answer", models.ask_answer),
        action("/models/{name}/answer", "approver", models.answer),
    ]

    async def answer_error(request: Request, error: Exception) -> Response:
        return await run_in_threadpool(show_error, context, request, error)

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = PageError(error.status_code, error.detail, "This address has no page.")
        return await answer_error(request, told)

    handlers = {PenstockError: answer_error, PageError: answer_error, HTTPException: answer_http}
    return Starlette(routes=routes, middleware=[Middleware(Guard, context=context)], exception_handlers=handlers)


def _page(context: WebContext, path: str, page: Page) -> Route:
    """Make a page that who may read it can ask for."""

    async def answer(request: Request) -> Response:
        if context.needs_token and request.state.identity is None:
            return go(request, f"/sign-in?{urlencode({'next': _path_of(request)})}")
        return await run_in_threadpool(page, context, request)

    return Route(path, answer)


def _reading_form(context: WebContext, path: str, action: Action) -> Route:
    """Make the target of a form that changes nothing: who may read may send it."""

    async def answer(request: Request) -> Response:
        if context.needs_token:
            require_role(request, "reader")
        return await run_in_threadpool(action, context, request, await read_form(request))

    return Route(path, answer, methods=["POST"])


def _path_of(request: Request) -> str:
    """Return the address of a page below the root, with its query."""
    path = request.url.path.removeprefix(root_of(request))
    return f"{path}?{request.url.query}" if request.url.query else path


def _open_page(context: WebContext, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await run_in_threadpool(page, context, request)

    return answer


def _action(context: WebContext, path: str, role: Role, action: Action) -> Route:
    """Make a form's target: it needs a session with a role, and the form must come from a page of that session."""

    async def answer(request: Request) -> Response:
        require_role(request, role)
        form = await read_form(request)
        if not is_csrf(context.session_key, request.cookies.get(COOKIE, ""), form.get("csrf", "")):
            raise PageError(403, "The form is out of date", "Open the page again, and send its form.")
        return await run_in_threadpool(action, context, request, form)

    return Route(path, answer, methods=["POST"])


def _sign_in(context: WebContext) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await run_in_threadpool(sign_in.sign_in, context, request, await read_form(request))

    return answer
