"""A promotion from its evidence to the move of the alias: once or not at all, whatever happens in between."""

import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.database.connections import close_engines
from penstock.errors import NoPromotion, PromotionsDiffer, SpecError
from penstock.ledger.migrations import migrate
from penstock.ledger.promotions import PromotionRecord, ask, list_promotions, read_newest
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import promotions
from penstock.ledger.writer import withdraw
from penstock.promotion.card import describe_question, evidence_card
from penstock.promotion.specs import find_promoting
from penstock.spec.yaml_file import parse_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.compared import open_warehouse
from tests.conftest import DIALECTS
from tests.promotions import NOW, PROMOTING, PromotingShop, make_promoting_shop, register_challenger
from tests.shop import Place

DAY = timedelta(days=1)


@pytest.fixture
def shop(make_place: Callable[..., Place], request: pytest.FixtureRequest) -> PromotingShop:
    return make_promoting_shop(make_place, getattr(request, "param", "sqlite"))


@pytest.mark.parametrize("shop", DIALECTS, indirect=True)
def test_the_alias_moves_once_after_a_person_approved(shop: PromotingShop) -> None:
    asked = shop.advance()
    assert (asked.step, shop.champion) == ("wait", "1"), asked.why

    moved = shop.answer()

    assert moved.step == "settle", moved.why
    assert (shop.champion, shop.moves, shop.states()) == ("2", [("1", "2", "Ada")], ["moved"])
    assert shop.advance().step == "nothing"
    assert shop.moves == [("1", "2", "Ada")]
    assert verify_ledger(shop.shop.warehouse) == ()


def test_the_evidence_is_kept_with_the_question_and_its_digest_with_the_move(shop: PromotingShop) -> None:
    shop.advance()
    asked = shop.records()[0]
    shop.answer()

    document = json.loads(asked.evidence)
    assert [len(each["runs"]) for each in document["pipelines"]] == [3]
    assert document["pipelines"][0]["labelled"] == 750
    move = shop.place.registry.alias_history("card-risk")[-1]
    assert (move.evidence, move.flow_run_id, move.by, move.note) == (asked.digest, "one", "Ada", "looks well")
    for text in (evidence_card(asked), describe_question(asked)):
        assert asked.digest[:12] in text
        assert "the name is what somebody types" in text


def test_new_labels_leave_the_evidence_as_it_was_shown(shop: PromotingShop) -> None:
    shop.advance()
    shop.report_labels(seen=NOW + timedelta(hours=1))

    assert shop.answer(after=DAY).step == "settle"


def test_labels_that_are_collected_late_leave_the_evidence_as_it_was_shown(shop: PromotingShop) -> None:
    """They were seen before the question was asked, and nobody knew them."""
    shop.advance()
    shop.correct_label(1, seen=NOW - timedelta(hours=12))

    moved = shop.answer(after=DAY)

    assert (moved.step, shop.states()) == ("settle", ["moved"]), moved.why


def test_a_question_without_the_number_of_the_last_collection_can_be_answered(shop: PromotingShop) -> None:
    """Earlier versions asked it."""
    asked = shop.advance().record
    assert asked is not None
    document = json.loads(asked.evidence)
    del document["pipelines"][0]["additions"]
    older = json.dumps(document, sort_keys=True, ensure_ascii=False)
    with shop.shop.warehouse.writing() as connection:
        digest = hashlib.sha256(older.encode()).hexdigest()
        connection.execute(sa.update(promotions).values(evidence=older, digest=digest))

    assert shop.answer().step == "settle"


def test_labels_that_turn_against_the_challenger_end_the_question(shop: PromotingShop) -> None:
    shop.advance()
    shop.report_labels(seen=NOW + timedelta(hours=1), good=False)

    ended = shop.answer(after=DAY)

    assert (ended.step, shop.states(), shop.moves) == ("nothing", ["outdated"], [])
    assert "the requirements are no longer met: card-risk: auc" in ended.why


def test_evidence_that_has_changed_is_asked_about_anew(shop: PromotingShop) -> None:
    shop.place.spec.write_text(PROMOTING.replace("intervals: 3, labelled: 600", "intervals: 2, labelled: 400"))
    shop.advance()
    first = shop.records()[0]
    run = next(run for run in list_runs(shop.shop.warehouse, limit=20) if run.variant == "live")
    withdraw(shop.shop.warehouse, run.run_id)

    again = shop.answer()

    assert (again.step, shop.states(), shop.moves) == ("wait", ["outdated", "waiting"], [])
    assert shop.records()[0].digest != first.digest
    assert shop.answer(after=timedelta(minutes=9)).step == "settle"
    assert shop.moves == [("1", "2", "Ada")]


def test_an_alias_that_is_moved_by_hand_meanwhile_stays_there(shop: PromotingShop) -> None:
    other = register_challenger(shop.place.registry, rounds=2)
    shop.place.registry.promote("card-risk", "2", "challenger")
    shop.advance()
    shop.place.registry.promote("card-risk", other, "champion", by="Bob")

    ended = shop.answer()

    assert f"the alias `champion` was moved meanwhile: it names card-risk/{other}" in ended.why
    assert (shop.champion, shop.moves, shop.states()) == (other, [("1", other, "Bob")], ["outdated"])


def test_a_declined_version_is_asked_about_again_only_on_demand(shop: PromotingShop) -> None:
    shop.advance()
    assert shop.answer(approve=False).step == "decline"

    assert "Ada declined card-risk/2" in shop.advance(DAY).why
    assert shop.advance(DAY, ask_again=True).step == "wait"
    assert (shop.states(), shop.moves) == (["declined", "waiting"], [])


def test_a_question_lapses_and_a_late_answer_moves_nothing(shop: PromotingShop) -> None:
    shop.advance()

    late = shop.answer(after=4 * DAY)

    assert (late.step, shop.states(), shop.moves) == ("lapse", ["lapsed"], [])
    assert "Ada answered at" in late.why
    assert shop.answer(after=4 * DAY).step == "wait"  # that answer was to the question before
    assert shop.states() == ["lapsed", "waiting"]


def test_another_flow_run_leaves_an_answer_in_time_to_the_resumed_one(shop: PromotingShop) -> None:
    """The schedule may look between the answer and the moment at which a worker starts the flow run that asked."""
    resumed = {"one": NOW + DAY}
    shop.advance()

    looks = shop.advance(4 * DAY, flow_run="two", can_answer=lambda _: True, find_resumption=resumed.get)
    moved = shop.answer(after=DAY)

    assert (looks.step, looks.ended, moved.step) == ("nothing", (), "settle"), looks.why
    assert (shop.states(), shop.moves) == (["moved"], [("1", "2", "Ada")])


def test_another_flow_run_leaves_the_question_alone_and_takes_over_from_a_dead_one(
    shop: PromotingShop,
) -> None:
    shop.advance()

    leaves = shop.advance(flow_run="two", can_answer=lambda _: True)
    takes_over = shop.advance(flow_run="two", can_answer=lambda _: False)

    assert (leaves.step, takes_over.step) == ("nothing", "wait")
    assert [record.flow_run_id for record in shop.records()] == ["two"]
    ended = shop.advance(5 * DAY, flow_run="three", can_answer=lambda _: True)
    assert [record.flow_run_id for record in ended.ended] == ["two"]  # its form disappears
    assert (ended.step, shop.states()) == ("wait", ["lapsed", "waiting"])


@pytest.mark.slow
@pytest.mark.parametrize("shop", ["sqlite", "postgresql"], indirect=True)
def test_without_a_person_many_at_once_move_the_alias_once(shop: PromotingShop) -> None:
    shop.place.spec.write_text(PROMOTING.replace("alias: champion,", "alias: champion, approval: none,"))

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda number: shop.advance(flow_run=str(number)).step, range(4)))

    assert set(ended) <= {"settle", "nothing"}
    assert shop.moves == [("1", "2", "penstock (approval: none)")]
    assert shop.states() == ["moved"]
    assert verify_ledger(shop.shop.warehouse) == ()


def test_every_pipeline_of_the_model_must_pass(shop: PromotingShop) -> None:
    second = PROMOTING.replace("name: card-risk", "name: other").replace("card_risk_scores", "other_scores")
    file = shop.place.spec.with_name("other.yaml")
    file.write_text(second)

    refused = shop.advance()

    assert refused.step == "nothing"
    assert "other: intervals 0, wanted at least 3" in refused.why
    file.write_text(second.replace("alias: champion,", "alias: champion, answer_within: 1d,"))
    with pytest.raises(PromotionsDiffer, match="`answer_within`"):
        find_promoting(file.parent, "card-risk")
    file.unlink()
    with pytest.raises(NoPromotion, match="`card-risk`"):
        find_promoting(file.parent, "risk")


def test_the_gate_says_what_is_missing_and_writes_nothing(shop: PromotingShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(shop.place.spec.parent))
    monkeypatch.setenv("COLUMNS", "160")
    passes = CliRunner().invoke(app, ["models", "gate", "card-risk"])
    shop.place.spec.write_text(PROMOTING.replace("labelled: 600", "labelled: 6000"))
    fails = CliRunner().invoke(app, ["models", "gate", "card-risk"])
    shown = json.loads(CliRunner().invoke(app, ["models", "gate", "card-risk", "--json"]).stdout)

    assert (passes.exit_code, fails.exit_code) == (0, 3)
    assert "the flow would ask: card-risk/2 meets all requirements" in passes.stdout
    assert "labelled 750, wanted at least 6,000 rows" in " ".join(fails.stdout.split())
    assert (shown["would"], shown["passed"], shown["promotions"]) == ("nothing", False, [])
    assert shop.records() == []


def test_status_plan_and_history_show_where_a_promotion_stands(shop: PromotingShop) -> None:
    spec = str(shop.place.spec)
    shop.advance()

    asked = CliRunner().invoke(app, ["status", spec, "--json"])
    shop.answer()
    moved = CliRunner().invoke(app, ["plan", spec])
    history = CliRunner().invoke(app, ["models", "history", "card-risk", "--alias", "champion", "--json"])

    [pipeline] = json.loads(asked.stdout)["pipelines"]
    assert pipeline["promotion"]["candidate"] == "card-risk/2"
    assert "was approved by Ada, and the alias moved" in " ".join(moved.stdout.split())
    newest = json.loads(history.stdout)[0]
    assert (newest["evidence"], newest["flow_run_id"]) == (shop.records()[0].digest, "one")


ONE_CHALLENGER = r"^challengers: .*$"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("alias: champion,", "alias: best,", "name the same alias in both"),
        (ONE_CHALLENGER, "challengers: [{model: other@1}]", "needs an entry of `challengers`"),
        (ONE_CHALLENGER, "challengers: [{model: card-risk@2}, {model: card-risk@3}]", "name one as `challenger`"),
        ("alias: champion,", "alias: champion, challenger: card-risk@7,", "which `challengers` lacks"),
        (r"^labels:\n(  .*\n)*", "", "`labelled` of `promotion.require` needs `labels`"),
        (r"^decide: .*\n", "", "needs `decide`"),
        (r"^drift: .*\n", "", "needs `drift` in the spec"),
    ],
)
def test_the_spec_refuses_a_promotion_that_cannot_be_judged(old: str, new: str, problem: str) -> None:
    text = re.sub(old, new, PROMOTING, count=1, flags=re.MULTILINE)

    with pytest.raises(SpecError, match=re.escape(problem)):
        parse_pipeline(text.encode(), "card-risk.yaml")


@pytest.mark.slow
def test_the_check_names_a_metric_that_the_model_never_has(
    shop: PromotingShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    good = CliRunner().invoke(app, ["check", str(shop.place.spec)])
    shop.place.spec.write_text(PROMOTING.replace("auc: {not_worse_by: 0.01}", "rmse: {not_worse_by: 0.01}"))
    bad = CliRunner().invoke(app, ["check", str(shop.place.spec)])

    assert "promotion: `card-risk@champion` to card-risk@challenger by 1 pipeline, a person approves" in good.stdout
    assert "`rmse` is never measured for card-risk/1, which is a classification" in bad.stdout


def test_the_newest_question_of_an_alias_is_that_of_the_highest_number(database_url: Callable[[str, str], str]) -> None:
    """The second one was asked by a machine whose clock is an hour slow."""
    warehouse = open_warehouse(database_url("sqlite", "warehouse"))
    migrate(warehouse)
    for number, asked_at in ((1, NOW), (2, NOW - timedelta(hours=1))):
        about = ("risk", "champion", number, "1", "2")
        assert ask(warehouse, PromotionRecord(*about, "lapsed", "{}", f"d{number}", "", asked_at, asked_at + DAY))

    newest = read_newest(warehouse, "risk", "champion")

    assert newest is not None
    assert newest.number == 2
    assert [each.number for each in list_promotions(warehouse, "risk", "champion")] == [2, 1]
    close_engines()
