"""The flow that promotes: deployed for each model, beside the pipelines of the same name, and run without a worker."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Scheduled

from penstock.deployments.deploy.automations import define_lapse_automation
from penstock.ledger.tables import promotions
from penstock.promotion.decision import Answer
from penstock.promotion.specs import group_by_model
from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.deployed import PROMOTION_ENTRYPOINT, list_ours, read_schedule_states
from tests.integration.test_quarantine import invoke
from tests.project import CRON, Project
from tests.promotions import PROMOTING, make_promoting_shop
from tests.shop import SPEC, Place


@pytest.mark.slow
def test_a_model_has_a_deployment_that_pipelines_of_its_name_are_not_taken_for(
    project: Project, prefect_client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(project.settings.pipelines.absolute()))
    file = project.settings.pipelines / "card-risk.yaml"
    file.write_text(f"{PROMOTING}{CRON}\n")

    changes = project.deploy()

    made = prefect_client.read_deployment_by_name("promote/card-risk")
    assert changes["deployment promote/card-risk"].kind == "created"
    assert changes["automation card-risk on lapse"].kind == "created"
    assert (made.entrypoint, made.parameters) == (PROMOTION_ENTRYPOINT, {"model": "card-risk"})
    assert made.parameter_openapi_schema["properties"]["model"]["enum"] == ["card-risk"]
    assert {change.kind for change in project.deploy().values()} == {"unchanged"}

    invoke("pause", "card-risk", "--reason", "the shop migrates")
    paused = {(each.entrypoint or "").rpartition(".")[2] for each in list_ours(prefect_client) if each.schedules
              and not any(schedule.active for schedule in each.schedules)}  # fmt: skip
    assert paused == {"score", "labels"}  # a promotion belongs to a model
    state = read_schedule_states(prefect_client, ["card-risk"])["card-risk"]
    assert state.pause is not None
    assert state.pause.reason == "the shop migrates"
    invoke("resume", "card-risk")

    other = project.settings.pipelines / "card-risk-eu.yaml"  # of the same model, and deployed alone
    other.write_text(SPEC.replace("name: card-risk", "name: card-risk-eu").replace("card_risk_scores", "eu_scores"))
    assert {change.kind for change in project.deploy([other]).values()} <= {"created", "unchanged"}
    other.unlink()

    file.write_text(PROMOTING.partition("promotion:")[0])
    told = project.deploy(remove_orphans=True)
    assert told["deployment promote/card-risk"].kind == "removed"
    assert told["automation card-risk on lapse"].kind == "removed"


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
def test_the_flow_says_why_nobody_is_asked_or_moves_the_alias(
    make_place: Callable[..., Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.flows.promotion import promote

    monkeypatch.setenv("PENSTOCK_PIPELINES", str(tmp_path))
    shop = make_promoting_shop(make_place)
    free = PROMOTING.replace("alias: champion,", "alias: champion, approval: none,")

    shop.place.spec.write_text(free.replace("labelled: 600", "labelled: 6000"))
    refused = promote("card-risk", return_state=True)
    shop.place.spec.write_text(free)
    moved = promote("card-risk", return_state=True)
    again = promote("card-risk", return_state=True)
    unknown = promote("other", return_state=True)

    assert refused.is_completed()
    assert "Skipped: card-risk/2 does not meet the requirements" in (refused.message or "")
    assert (moved.is_completed(), moved.message) == (True, "the alias moved to card-risk/2")
    assert "names already" in (again.message or "")
    assert shop.moves == [("1", "2", "penstock (approval: none)")]
    assert unknown.is_failed()
    assert "no pipeline has a `promotion:` for the model `other`" in (unknown.message or "")


@pytest.mark.slow
def test_an_answer_is_dated_by_the_resumption_of_the_flow_run_that_asked(
    make_place: Callable[..., Place],
    prefect_client: SyncPrefectClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker may start it after the time for answers is over, and the schedule may look in between."""
    from penstock.flows.promotion import promote
    from penstock.tasks.asked import read_asked_promotion
    from penstock.tasks.promotion import advance_promotion, find_resumption

    monkeypatch.setenv("PENSTOCK_PIPELINES", str(tmp_path))
    shop = make_promoting_shop(make_place)
    asking, other = (prefect_client.create_flow_run(promote, parameters={"model": "card-risk"}) for _ in range(2))
    asked = read_asked_promotion("card-risk", ask_again=False)
    assert advance_promotion.fn(asked, str(asking.id), None).step == "wait"
    prefect_client.set_flow_run_state(asking.id, Scheduled(name="Resuming"), force=True)
    resumed_at = find_resumption(prefect_client, str(asking.id))
    assert resumed_at is not None
    with shop.shop.warehouse.writing() as connection:  # the time ends as soon as somebody has answered
        connection.execute(sa.update(promotions).values(answer_until=resumed_at))

    looks = advance_promotion.fn(asked, str(other.id), None)
    moved = advance_promotion.fn(asked, str(asking.id), Answer(1, True, "Ada", "", datetime.now(UTC)))

    assert (looks.step, looks.ended) == ("nothing", ()), looks.why
    assert (moved.step, shop.moves) == ("settle", [("1", "2", "Ada")]), moved.why
    assert shop.records()[0].answered_at == resumed_at


def test_a_question_lapses_by_an_automation_after_its_time() -> None:
    spec = parse_pipeline(PROMOTING.encode(), "card-risk.yaml")

    automation = define_lapse_automation(group_by_model([spec])["card-risk"])

    assert automation.trigger.within.days == 3
    assert automation.trigger.after == {"prefect.flow-run.Suspended"}
    assert "prefect.flow-run.Resuming" in automation.trigger.expect
    assert (automation.actions[0].state, automation.actions[0].message[:6]) == ("CANCELLED", "Lapsed")
