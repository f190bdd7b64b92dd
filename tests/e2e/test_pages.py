"""Penstock's own pages in Chromium: every page, light and dark, on a phone, and by keyboard."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
import uvicorn
from starlette.applications import Starlette

from penstock.access.token_file import TokenFile, add_token
from penstock.cli.opening import connector
from penstock.ledger.destinations import LIVE, destination_name
from penstock.ledger.reader import list_runs
from penstock.web.context import WebContext
from penstock.web.routes import web_routes
from tests.driver import Driver
from tests.e2e.barriers import PHONE, find_barriers
from tests.e2e.stack import BROWSER, browser_page, keep_picture
from tests.promotions import NOW, PROMOTING, PromotingShop, make_promoting_shop
from tests.shop import Place
from tests.unit.web.test_pages import write_delivery

pytestmark = [pytest.mark.slow, *BROWSER]
FOCUSED = "() => [document.activeElement.outerHTML, getComputedStyle(document.activeElement).outlineStyle]"
REACHABLE = """
() => [...document.querySelectorAll('a[href], button, select, input:not([type=hidden])')].map((each) => each.outerHTML)
"""

DELIVERY = "deliver: [{kind: http, name: crm, url: crm}, {kind: http, name: mail, url: mail}]\n"
LATE = """
insert into payments select payment_id + 5000, '2026-01-05 03:00:00', updated_at, -1, items, country, first
from payments where payment_id <= 40
"""
"""Payments of a day that a gate halts, because all of their amounts are wrong."""


@contextmanager
def served(context: WebContext) -> Iterator[str]:
    """Serve the pages on a free port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=web_routes(context)), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def shop(make_place: Callable[..., Place]) -> PromotingShop:
    """A pipeline with published, halted and missing days, refused rows, reasons, labels, deliveries, and a question."""
    spec = PROMOTING + 'reasons: {top: 3, when: "score > 0.2"}\n'
    found = make_promoting_shop(make_place, spec=spec)
    with found.place.shop.writing() as connection:
        connection.execute(sa.text(LATE))
    Driver(found.shop.pipeline, found.shop.connect, found.place.registry).run(NOW)
    found.advance()
    found.place.spec.write_text(spec + DELIVERY)
    with found.place.warehouse.writing() as connection:
        here = destination_name(connection, found.shop.pipeline.destination)
        write_delivery(connection, "crm", here, 1, "merged", missing=6)
    return found


def make_context(shop: PromotingShop, tokens: TokenFile) -> WebContext:
    settings = shop.shop.settings.model_copy(update={"pipelines": shop.place.folder})
    now, hosts = NOW + timedelta(minutes=5), ("127.0.0.1",)
    opened = (settings, connector(settings), shop.place.registry, tokens)
    return WebContext(*opened, needs_token=False, hosts=hosts, session_key=b"k" * 32, now=lambda: now)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 1400), ("light", PHONE)])
def test_every_page_is_accessible(shop: PromotingShop, scheme: str, width: int) -> None:
    """axe finds nothing, the console says nothing, and no page is wider than the screen."""
    tokens = TokenFile(shop.place.folder / "tokens")
    token = add_token(tokens.file, "ada", "approver", NOW)
    runs = list_runs(shop.shop.warehouse, variant=LIVE)
    halted, published = (next(run for run in runs if run.state == state) for state in ("halted", "published"))
    size = {"width": width, "height": 1000}
    with served(make_context(shop, tokens)) as url, browser_page(url, color_scheme=scheme, viewport=size) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto("/ui/sign-in")
        page.get_by_label("Your token").fill(token)
        page.keyboard.press("Enter")
        page.get_by_text("ada (approver)").wait_for()
        wanted = {
            "pipelines": "/",
            "calendar": "/pipelines/card-risk?month=2026-01",
            "run": f"/runs/{published.run_id}",
            "explain": "/explain?pipeline=card-risk&key=7",
            "try": "/pipelines/card-risk/try",
            "compare": "/compare?pipeline=card-risk&a=live&b=shadow:card-risk/2",
            "halted": "/halted",
            "halted-run": f"/runs/{halted.run_id}",
            "accept": f"/runs/{halted.run_id}/accept",
            "quarantine": "/quarantine?pipeline=card-risk",
            "models": "/models",
            "model": "/models/card-risk",
            "answer": "/models/card-risk/answer",
            "sign-in": "/sign-in",
        }
        broken = {}
        for name, path in wanted.items():
            answer = page.goto(f"/ui{path}")
            assert answer.status == 200, (name, page.content())
            broken[name] = find_barriers(page)
            keep_picture(page, f"pages-{name}-{scheme}-{width}", whole=True)
        assert {name: barriers for name, barriers in broken.items() if barriers} == {}
        assert said == []


def test_a_page_is_used_by_keyboard(shop: PromotingShop) -> None:
    """Every link and field is reached with Tab, in the order of the page, and shows that it has the focus."""
    with served(make_context(shop, TokenFile(shop.place.folder / "tokens"))) as url, browser_page(url) as page:
        page.goto("/ui/explain")
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            element, outline = page.evaluate(FOCUSED)
            if element.startswith("<body"):
                break
            assert outline != "none", element
            reached.append(element)

        assert reached == page.evaluate(REACHABLE)
        assert "Skip to the content" in reached[0]


def test_the_score_changes_while_a_person_types(shop: PromotingShop) -> None:
    with served(make_context(shop, TokenFile(shop.place.folder / "tokens"))) as url, browser_page(url) as page:
        page.goto("/ui/pipelines/card-risk/try")
        for name, value in (("amount", "12.5"), ("items", "3"), ("country", "DE")):
            page.get_by_label(re.compile(f"^{name} ")).fill(value)
        page.get_by_role("heading", name="Reasons").wait_for()
        before = page.locator("#result dd").first.text_content()
        page.get_by_label(re.compile("^amount ")).fill("90")
        page.wait_for_function("before => document.querySelector('#result dd').textContent !== before", arg=before)
