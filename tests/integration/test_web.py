"""What people change on the pages: the same functions as the commands, once, under the name of their token."""

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from penstock.access.token_file import add_token
from penstock.cli.serve import ServingProcess
from penstock.ledger.pointer_moves import moves_of
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import find_run, list_published, list_runs
from penstock.ledger.releases import pending_releases
from penstock.serving.server import Address
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.verify import verify_ledger
from penstock.web import context as pages
from tests.changing_place import ChangingPlace, end_of, keys
from tests.conftest import DIALECTS
from tests.driver import Driver
from tests.integration.test_accept import GATES
from tests.integration.test_delivery import DELIVER
from tests.integration.test_reasons import REASONS
from tests.promotions import NOW as ASKED
from tests.promotions import make_promoting_shop
from tests.receivers import OK, receiving
from tests.shop import COUNTRIES, SPEC, Place
from tests.unit.web.conftest import MakeBrowser, make_browser, words_of

__all__ = ["make_browser"]


@pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
def test_a_halted_run_is_accepted_by_an_operator_once(changing_place: ChangingPlace, make_browser: MakeBrowser) -> None:
    place = changing_place
    place.add(GATES)
    place.run(4)
    run = next(each for each in list_runs(place.warehouse) if each.state == "halted")
    browser = make_browser(place.registry, lambda: end_of(4.1))
    page = f"/runs/{run.run_id}/accept"
    assert "Accept …" in browser.words("/halted")
    browser.sign_in("operator", "Ada")

    assert "Publish 4 scores of card-risk 2026-01-04 → 01-05 in spite of the halt?" in browser.words(page)
    assert "amount column_max_to_be_between" in browser.words(page)
    assert browser.fill_in(page, reason=" ").status_code == 400
    assert place.view() == keys(1, 2, 3)
    answer = browser.fill_in(page, reason="the sale doubled the amounts")

    assert answer.status_code == 200
    assert "✓ published" in words_of(answer.text)
    assert place.view() == keys(1, 2, 3, 4)
    [move] = moves_of(place.warehouse, run.run_id)
    assert (move.moved_by, move.reason) == ("Ada", "the sale doubled the amounts")
    assert find_run(place.warehouse, run.run_id).state == "published"
    assert "Ada accepted it already at" in browser.words(page, 409)
    assert "No interval waits" in browser.words("/halted")
    place.verify()


def test_an_accepted_run_is_delivered(changing_place: ChangingPlace, make_browser: MakeBrowser) -> None:
    place = changing_place
    with receiving() as receiver:
        place.use_settings(crm=receiver.url)
        place.add(GATES + DELIVER)
        place.run(4)
        run = next(each for each in list_runs(place.warehouse) if each.state == "halted")
        browser = make_browser(place.registry, lambda: end_of(4.1))
        browser.sign_in("operator", "Ada")

        answer = browser.fill_in(f"/runs/{run.run_id}/accept", reason="the sale doubled the amounts")

    assert "`crm`: 4 intervals delivered, 16 rows" in words_of(answer.text)
    assert len(receiver.rows) == 16


@pytest.mark.parametrize("dialect", DIALECTS)
def test_refused_rows_are_released_by_an_operator(
    make_place: Callable[..., Place], make_browser: MakeBrowser, dialect: str
) -> None:
    place = make_place(dialect, dialect, days=1, a_day=200)
    with place.shop.writing() as connection:
        connection.execute(sa.text("update payments set amount = -5 where payment_id <= 3"))
    pipeline = load_pipeline(place.spec)
    driver = Driver(pipeline, connect, place.registry)
    driver.run(end_of(1))
    browser = make_browser(place.registry, lambda: end_of(1.1))
    browser.sign_in("operator", "Ada")
    page = browser.get("/quarantine?pipeline=card-risk")
    [link] = re.findall(r'href="/ui(/pipelines/card-risk/release[^"]*)"', page)

    assert "payment_id 1 –" in words_of(page)
    assert "Release 3 rows of card-risk?" in browser.words(link)
    other = browser.fill_in(link, note="they are refunds", rows="0" * 64)
    assert (other.status_code, "Look again" in words_of(other.text)) == (409, True)
    assert pending_releases(place.warehouse, "card-risk") == {}
    answer = browser.fill_in(link, note="they are refunds")

    assert "3 released rows for the next run" in words_of(answer.text)
    assert sum(pending_releases(place.warehouse, "card-risk").values()) == 3
    assert {row.state for row in quarantined_rows(place.warehouse, "card-risk")} == {"released"}
    driver.run(end_of(1.2))
    assert "No rows in quarantine." in browser.words("/quarantine?pipeline=card-risk")
    assert "payment_id 1 –" not in browser.words("/quarantine?pipeline=card-risk")
    assert browser.words("/pipelines/card-risk?month=2026-01").count("↻ restated") == 1
    assert verify_ledger(place.warehouse) == ()


def test_a_promotion_is_approved_once_by_an_approver(
    make_place: Callable[..., Place], make_browser: MakeBrowser
) -> None:
    shop = make_promoting_shop(make_place)
    shop.advance()
    before = shop.champion
    browser = make_browser(shop.place.registry, lambda: ASKED + timedelta(minutes=5))
    assert "card-risk@champion #1" in browser.words("/models")
    assert "Approve or decline …" in browser.words("/models/card-risk")
    browser.sign_in("approver", "Ada")
    form = browser.words("/models/card-risk/answer")
    assert "If it has changed since, nothing moves" in form
    assert browser.fill_in("/models/card-risk/answer", decision="approve", number="7").status_code == 409

    answer = browser.fill_in("/models/card-risk/answer", decision="approve", note="looks well")

    assert shop.champion != before
    assert shop.states() == ["moved"]
    assert [by for _, _, by in shop.moves] == ["Ada"]
    assert "looks well" in words_of(answer.text)
    assert "No question about card-risk waits" in browser.words("/models/card-risk/answer", 404)


def test_an_alias_does_not_move_while_a_pipeline_cannot_be_read(
    make_place: Callable[..., Place], make_browser: MakeBrowser
) -> None:
    shop = make_promoting_shop(make_place)
    shop.advance()
    before = shop.champion
    browser = make_browser(shop.place.registry, lambda: ASKED + timedelta(minutes=5))
    browser.sign_in("approver", "Ada")
    [csrf] = re.findall(r'name="csrf" value="(\w+)"><input type="hidden" name="number"', browser.get(ANSWER))
    second = shop.place.spec.with_name("second.yaml")
    second.write_text("name: second\npromotion: {requires: 1}\n")

    answer = browser.send(ANSWER, csrf=csrf, number="1", decision="approve")

    assert answer.status_code == 409
    assert "second.yaml" in words_of(answer.text)
    assert shop.champion == before
    assert shop.states() == ["waiting"]
    assert "second.yaml" in browser.words(ANSWER, 409)
    for page in ("/", "/models", "/halted", "/quarantine"):
        assert "second.yaml" in browser.words(page)


def test_champion_and_challenger_are_compared(make_place: Callable[..., Place], make_browser: MakeBrowser) -> None:
    shop = make_promoting_shop(make_place)
    browser = make_browser(shop.place.registry, lambda: ASKED)
    asked = browser.words("/compare?pipeline=card-risk")
    assert "shadow:card-risk/2" in browser.get("/compare?pipeline=card-risk")
    assert "Scores" not in asked
    warehouse = shop.shop.warehouse
    assert list_runs(warehouse, "card-risk", limit=1)[0].variant != "live"
    assert [run.variant for run in list_runs(warehouse, "card-risk", limit=3, variant="live")] == ["live"] * 3
    assert list_published(warehouse, "card-risk", newest=2) == list_published(warehouse, "card-risk")[-2:]

    page = browser.words("/compare?pipeline=card-risk&a=live&b=shadow:card-risk/2")

    assert "card-risk: A is live, B is shadow:card-risk/2" in page
    assert "all 3 750 0 0" in page
    assert "auc" in page
    assert "A block" in page
    assert "This is not possible" in browser.words("/compare?pipeline=card-risk&a=live&b=shadow:none/9", 409)


def test_a_promotion_is_declined(make_place: Callable[..., Place], make_browser: MakeBrowser) -> None:
    shop = make_promoting_shop(make_place)
    shop.advance()
    browser = make_browser(shop.place.registry, lambda: ASKED + timedelta(minutes=5))
    browser.sign_in("approver", "Ada")

    answer = browser.fill_in("/models/card-risk/answer", decision="decline", note="too few rows")

    assert "✗ declined" not in words_of(answer.text)
    assert "Ada declined it: too few rows" in words_of(answer.text)
    assert shop.states() == ["declined"]
    assert shop.moves == []


ANSWER = "/models/card-risk/answer"
OPEN_FILE = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


def test_a_duckdb_file_is_never_kept_open_and_a_busy_one_is_told(
    make_place: Callable[..., Place], make_browser: MakeBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place("sqlite", "duckdb", days=1, a_day=40)
    Driver(load_pipeline(place.spec), connect, place.registry).run(end_of(1))
    place.warehouse.engine.dispose()
    monkeypatch.setattr(pages, "BUSY_SECONDS", 0.3)
    browser = make_browser(place.registry, lambda: end_of(1.1))
    assert "✓ published" in browser.words("/pipelines/card-risk?month=2026-01")

    command = [sys.executable, "-c", OPEN_FILE, str(place.warehouse.url.database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"  # no page has the file open
        answer, tried = browser.client.get("/ui/"), browser.client.get("/ui/pipelines/card-risk/try")
        other.communicate(b"")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "The database is busy" in words_of(answer.text)
    assert (tried.status_code, "The database is busy" in words_of(tried.text)) == (503, True)
    assert "amount (number)" in browser.words("/pipelines/card-risk/try")
    assert "✓ published" in browser.words("/")


def test_a_row_is_tried_and_scores_as_a_run_scores_it(changing_place: ChangingPlace, make_browser: MakeBrowser) -> None:
    place = changing_place
    browser = make_browser(place.registry, lambda: end_of(3.1))
    page = "/pipelines/card-risk/try"
    stored = place.seen_scores()
    form = browser.words(page)
    assert "amount (number)" in form
    assert "first (true or false)" in form
    assert "Reasons" not in form
    typed = {"amount": "9.5", "items": "2", "country": COUNTRIES[0], "first": "true", "payment_id": "11"}

    right = browser.send(page, **{f"column.{name}": value for name, value in typed.items()})
    wrong = browser.send(page, **{f"column.{name}": value for name, value in (typed | {"items": "2<b>"}).items()})
    unseen = browser.send(page, **{f"column.{name}": value for name, value in (typed | {"country": HOSTILE}).items()})

    assert f"score {stored[11]}" in words_of(right.text)
    assert "To the raw score" in right.text
    assert "`items` takes a whole number, and has text" in words_of(wrong.text)
    assert "The row has no score" in words_of(unseen.text)
    assert "<img" not in unseen.text
    assert "<b>" not in wrong.text
    assert browser.send(page, origin="https://evil.example").status_code == 403


def test_the_scoring_server_has_the_pages(changing_place: ChangingPlace) -> None:
    place = changing_place
    process = ServingProcess((str(place.spec),), Address("127.0.0.1", 8080), None)
    token = add_token(place.folder / "tokens", "crm", "reader", end_of(4))
    closed = ServingProcess((str(place.spec),), Address("0.0.0.0", 8080, place.folder / "tokens", ("scores",)), None)

    with TestClient(process(), "http://127.0.0.1") as client:
        page, live = client.get("/"), client.get("/live")
        foreign = client.get("/ui/", headers={"Host": "evil.example"})
    with TestClient(closed(), "http://scores") as client:
        asked = client.get("/ui/")
        signed_in = client.post("/ui/sign-in", data={"token": token}, headers={"Origin": "http://scores"})

    assert (page.status_code, live.status_code, foreign.status_code) == (200, 200, 421)
    assert page.url.path == "/ui/"
    assert asked.url.path == "/ui/sign-in"
    assert "crm (reader)" in signed_in.text


HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>"


def test_hostile_texts_of_rows_and_people_are_shown_as_texts(
    make_place: Callable[..., Place], make_browser: MakeBrowser
) -> None:
    text_key = SPEC.replace("key: [payment_id]", "key: [country]").replace("table: payments", "table: named")
    place = make_place("sqlite", "sqlite", days=1, a_day=40, spec=text_key + REASONS)
    with place.shop.writing() as connection:
        connection.execute(sa.text("create table named as select * from payments where payment_id <= 30"))
        connection.execute(sa.text("update named set amount = -1 where payment_id = 2"))
        connection.execute(sa.text("update named set country = :text || payment_id"), {"text": HOSTILE})
    Driver(load_pipeline(place.spec), connect, place.registry).run(end_of(1))
    browser = make_browser(place.registry, lambda: end_of(1.1))
    browser.sign_in("approver", "Ada")
    run = list_runs(place.warehouse)[0]
    assert run.rows_quarantined

    pages_ = ["/", "/pipelines/card-risk", f"/runs/{run.run_id}", "/quarantine?pipeline=card-risk", "/halted"]
    shown = [browser.get(page) for page in pages_]
    for number in (1, 2):
        asked = {"pipeline": "card-risk", "key": f"{HOSTILE}{number}"}
        shown.append(browser.client.get("/ui/explain", params=asked).text)

    for page in shown:
        assert "<script" not in page
        assert "<img" not in page
    assert sum("&lt;script&gt;" in page for page in shown) >= 3


def test_pages_say_which_target_lacks_its_rows_and_why(
    changing_place: ChangingPlace, make_browser: MakeBrowser
) -> None:
    place = changing_place
    with receiving() as receiver:
        receiver.answer = lambda _: (400, {})
        place.use_settings(crm=receiver.url)
        place.add(DELIVER)
        browser = make_browser(place.registry, lambda: end_of(3.1))
        page = "/pipelines/card-risk"
        assert "crm waiting nothing yet" in browser.words(page)

        place.driver.does.deliver("crm")

        why = "card-risk: `crm` does not get its rows since"
        run = max(list_runs(place.warehouse), key=lambda run: run.interval_key)
        for words in map(browser.words, (page, f"/runs/{run.run_id}")):
            assert why in words
            assert "01-04: 400 Bad Request" in words
            assert "penstock deliver list card-risk" in words
        assert f"crm ✗ failed 2026-01-03 → 01-04 {run.run_id[:8]} 4 0 400 Bad Request" in browser.words(page)

        receiver.answer = lambda _: OK
        place.driver.does.deliver("crm")

        assert why not in browser.words(f"/runs/{run.run_id}")
        assert "crm ✓ acknowledged 2026-01-03 → 01-04" in browser.words(page)
