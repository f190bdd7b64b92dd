"""Who may see and change what: hosts, sessions, forms, and texts that try to be code."""

import re
from datetime import timedelta

import pytest

from penstock.access.token_file import add_token, remove_token
from penstock.models.registry import Registry
from penstock.web.guard import HEADERS
from tests.shop import SPEC
from tests.unit.web.conftest import BASE, NOW, Browser, MakeBrowser

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}</textarea>"


@pytest.fixture
def browser(make_browser: MakeBrowser, registry: Registry) -> Browser:
    return make_browser(registry)


@pytest.fixture
def closed(make_browser: MakeBrowser, registry: Registry) -> Browser:
    """A server that others can reach: reading needs a token too."""
    return make_browser(registry, needs_token=True)


def test_every_answer_forbids_code_and_frames(browser: Browser) -> None:
    for path, code in (("/", 200), ("/explain", 200), ("/none", 404), ("/static/style.css", 200), ("/runs/zz", 404)):
        answer = browser.client.get(f"/ui{path}")
        assert answer.status_code == code
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
        assert "style=" not in answer.text, path
        assert not re.search(r"<script|<style|\bon\w+=", answer.text), path


@pytest.mark.parametrize(
    ("host", "code"),
    [("localhost:4300", 200), ("LOCALHOST", 200), ("127.0.0.1:80", 200), ("[::1]:4300", 200), ("evil.example", 421),
     ("localhost.evil.example", 421), ("localhost@evil.example", 421), ("", 421), ("[", 421)],
)  # fmt: skip
def test_only_known_hosts_are_answered(browser: Browser, host: str, code: int) -> None:
    assert browser.client.get("/ui/sign-in", headers={"Host": host}).status_code == code


def test_reading_needs_a_token_where_others_reach_the_server(closed: Browser) -> None:
    assert "Sign in" in closed.words("/explain?key=7")
    assert 'value="/explain?key=7"' in closed.get("/explain?key=7")

    closed.sign_in("reader")

    assert "Explain a score" in closed.words("/explain")


def test_the_cookie_is_for_this_server_alone(closed: Browser) -> None:
    closed.client.follow_redirects = False
    token = add_token(closed.context.tokens.file, "ana", "reader", NOW)

    answer = closed.send("/sign-in", token=token, next="/")

    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/ui" in cookie
    assert "Secure" not in cookie
    behind_proxy = closed.send("/sign-in", BASE.replace("http:", "https:"), token=token, next="/")
    assert "Secure" in behind_proxy.headers["set-cookie"]
    assert token not in cookie


@pytest.mark.parametrize(
    "next_", ["https://evil.example/", "//evil.example", "/\\evil.example", "", "\t//evil.example"]
)
def test_signing_in_leads_to_no_other_site(closed: Browser, next_: str) -> None:
    closed.client.follow_redirects = False
    token = add_token(closed.context.tokens.file, "ana", "reader", NOW)

    assert closed.send("/sign-in", token=token, next=next_).headers["location"] == "/ui/"


def test_a_wrong_token_signs_nobody_in(closed: Browser) -> None:
    add_token(closed.context.tokens.file, "ana", "reader", NOW)

    answer = closed.send("/sign-in", token="pst_wrong", next="/")

    assert answer.status_code == 403
    assert "This is no valid token" in answer.text
    assert closed.client.get("/ui/", follow_redirects=False).status_code == 303


def test_a_session_ends_with_its_token_and_with_time(make_browser: MakeBrowser, registry: Registry) -> None:
    now = [NOW]
    browser = make_browser(registry, needs_token=True, now=lambda: now[0])
    browser.sign_in("reader")
    assert "ana (reader)" in browser.words("/")

    now[0] = NOW + timedelta(hours=13)
    assert "ana (reader)" not in browser.words("/")
    now[0] = NOW
    assert "ana (reader)" in browser.words("/")
    remove_token(browser.context.tokens.file, "ana")
    add_token(browser.context.tokens.file, "ana", "approver", NOW)
    assert "ana (" not in browser.words("/")


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[:-1] + ("0" if v[-1] != "0" else "1"),
        lambda v: "x" + v,
        lambda v: "",
        lambda v: v.replace(".", ".9", 1),
    ],
)
def test_a_forged_session_is_nobodys(browser: Browser, change: object) -> None:
    browser.sign_in("approver")
    value = browser.client.cookies["penstock_session"]
    browser.client.cookies.clear()
    browser.client.cookies.set("penstock_session", change(value), path="/ui")  # type: ignore[operator]

    assert "ana (approver)" not in browser.words("/")


def test_a_form_must_come_from_a_page_of_this_session(browser: Browser) -> None:
    browser.sign_in("operator")
    page = browser.get("/")
    [csrf] = set(re.findall(r'name="csrf" value="(\w+)"', page))

    foreign = [
        browser.send("/sign-out", origin="https://evil.example", csrf=csrf),
        browser.send("/sign-out", origin="http://localhost:4200", csrf=csrf),
        browser.send("/sign-out", origin="null", csrf=csrf),
        browser.send("/sign-out", origin="http://[", csrf=csrf),
        browser.client.post("/ui/sign-out", data={"csrf": csrf}),
        browser.send("/sign-out", csrf="0" * 64),
        browser.send("/sign-out", csrf=""),
    ]

    assert browser.send("/explain", origin="https://evil.example", key="7").status_code == 403  # it reads the source
    assert browser.send("/explain", key="").status_code == 200
    assert [answer.status_code for answer in foreign] == [403] * 7
    assert "ana (operator)" in browser.words("/")
    assert "ana (operator)" not in browser.send("/sign-out", csrf=csrf).text


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [(b"a" * 70_000, "application/x-www-form-urlencoded", 413), (b"{}", "application/json", 415),
     (b"token=%ff%fe", "application/x-www-form-urlencoded", 400), (b"\xff", "application/x-www-form-urlencoded", 400),
     (b"&".join(b"a=1" for _ in range(200)), "application/x-www-form-urlencoded", 400)],
)  # fmt: skip
def test_a_form_is_bounded_and_text(browser: Browser, content: bytes, kind: str, code: int) -> None:
    answer = browser.client.post("/ui/sign-in", content=content, headers={"Origin": BASE, "Content-Type": kind})

    assert answer.status_code == code


@pytest.mark.parametrize("path", ["/runs/abc/accept", "/pipelines/card-risk/release", "/models/card-risk/answer"])
def test_a_change_needs_a_role_on_loopback_too(browser: Browser, path: str) -> None:
    codes = [browser.client.get(f"/ui{path}").status_code, browser.send(path, reason="x").status_code]
    browser.sign_in("reader")
    codes += [browser.client.get(f"/ui{path}").status_code, browser.send(path, reason="x").status_code]

    assert codes == [401, 401, 403, 403]


@pytest.mark.parametrize("name", ["../card-risk", "..%2Fcard-risk", "%2Fetc%2Fpasswd", "card-risk.yaml", "*"])
def test_a_pipeline_is_found_by_name_alone(browser: Browser, name: str) -> None:
    assert browser.client.get(f"/ui/pipelines/{name}").status_code == 404


def test_a_pipeline_in_a_file_of_another_name_is_found(browser: Browser) -> None:
    folder = browser.context.settings.pipelines
    (folder / "nightly.yaml").write_text(SPEC)
    (folder / "broken.yaml").write_text("name: [")

    assert browser.context.load("card-risk").name == "card-risk"
    assert browser.client.get("/ui/pipelines/nightly").status_code == 404
    assert "broken.yaml" in browser.words("/pipelines/broken", 409)


def test_what_is_typed_is_shown_as_text(browser: Browser) -> None:
    for path in ("/explain", "/quarantine", "/pipelines/card-risk"):
        for name in ("pipeline", "key", "run", "month", "day", "next"):
            text = browser.client.get(f"/ui{path}", params={name: HOSTILE}).text
            assert "<script" not in text, (path, name)
            assert "<img" not in text, (path, name)
            assert "49" not in text or name != "key"
