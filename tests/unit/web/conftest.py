"""A project with a shop, and a browser's side of its pages."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from penstock.access.token_file import TokenFile, add_token
from penstock.access.tokens import Role
from penstock.cli.opening import connector
from penstock.models.registry import Registry
from penstock.settings import load_settings
from penstock.web.context import WebContext
from penstock.web.routes import web_routes

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
BASE = "http://localhost:4300"


@dataclass
class Browser:
    """One person at a browser."""

    context: WebContext
    client: TestClient = field(init=False)

    def __post_init__(self) -> None:
        app = Starlette(routes=web_routes(self.context))
        self.client = TestClient(app, BASE, follow_redirects=True)

    def get(self, path: str, status: int = 200) -> str:
        answer = self.client.get(f"/ui{path}")
        assert answer.status_code == status, answer.text
        return answer.text

    def words(self, path: str, status: int = 200) -> str:
        """Return what a person reads: without tags, and with single blanks."""
        return words_of(self.get(path, status))

    def send(self, path: str, origin: str = BASE, **fields: str) -> httpx.Response:
        """Send a form."""
        return self.client.post(f"/ui{path}", data=fields, headers={"Origin": origin})

    def fill_in(self, path: str, **fields: str) -> httpx.Response:
        """Open the page of a form, and send it with its hidden fields."""
        hidden = dict(
            re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', self.get(path).split("<main")[1])
        )
        return self.send(path.partition("?")[0], **{name: unescape(value) for name, value in hidden.items()} | fields)

    def sign_in(self, role: Role, name: str = "ana") -> None:
        token = add_token(self.context.tokens.file, name, role, NOW)
        answer = self.send("/sign-in", token=token, next="/")
        assert answer.status_code == 200, answer.text


def words_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


MakeBrowser = Callable[..., Browser]


@pytest.fixture
def make_browser(tmp_path: Path) -> MakeBrowser:
    """Make a browser at the pages of the project in the working folder."""

    def make(registry: Registry, now: Callable[[], datetime] = lambda: NOW, *, needs_token: bool = False) -> Browser:
        settings = load_settings().model_copy(update={"pipelines": tmp_path})
        return Browser(
            WebContext(
                settings,
                connector(settings),
                registry,
                TokenFile(tmp_path / "tokens"),
                needs_token,
                ("localhost", "127.0.0.1", "::1"),
                b"k" * 32,
                now=now,
            )
        )

    return make


@pytest.fixture
def registry(tmp_path: Path, use_settings: Callable[..., object]) -> Registry:
    """The store of a project without models."""
    use_settings()
    return Registry(tmp_path / ".penstock" / "models")
