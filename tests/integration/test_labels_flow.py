"""The flow that collects labels: deployed beside the scoring, stopped with it, and heard of once an alert."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.deployments.deploy.automations import define_automations
from penstock.labels.alerts import judge_performance, list_alerts, mark_announced
from penstock.labels.performance import refresh_performance
from penstock.report.card import write_sections
from penstock.report.status import read_status
from penstock.report.status_sections import build_status
from penstock.spec.yaml_file import parse_pipeline
from penstock.tasks.deployed import LABELS_ENTRYPOINT, read_pause, read_schedule_states
from tests.conftest import DIALECTS
from tests.integration.test_labels import LABELS, LATER, NOW, Shop, guess_labels, make_shop
from tests.integration.test_quarantine import invoke
from tests.project import CRON, Project
from tests.shop import SPEC

__all__ = ["make_shop"]

ALERT = LABELS + "  alert: {auc: {below: 0.6}}\n"


def labels_of(client: SyncPrefectClient) -> DeploymentResponse:
    return client.read_deployment_by_name("labels/card-risk")


@pytest.mark.slow
def test_labels_are_deployed_with_their_pipeline_and_paused_with_it(
    project: Project, prefect_client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(project.settings.pipelines.absolute()))
    project.write("card-risk", CRON, LABELS)

    changes = project.deploy()

    made = labels_of(prefect_client)
    assert changes["deployment labels/card-risk"].kind == "created"
    assert (made.entrypoint, made.parameters) == (LABELS_ENTRYPOINT, {"pipeline": "card-risk"})
    assert [each.schedule for each in made.schedules] == [CronSchedule(cron="0 6 * * *", timezone="UTC")]
    assert {change.kind for change in project.deploy().values()} == {"unchanged"}

    invoke("pause", "card-risk", "--reason", "the shop migrates")
    assert [each.active for each in labels_of(prefect_client).schedules] == [False]
    state = read_schedule_states(prefect_client, ["card-risk"])["card-risk"]
    assert state.pause is not None
    assert state.pause.reason == "the shop migrates"
    project.deploy()
    assert [each.active for each in labels_of(prefect_client).schedules] == [False]

    invoke("resume", "card-risk")
    assert [each.active for each in labels_of(prefect_client).schedules] == [True]

    project.write("card-risk", LABELS)  # the labels alone have a schedule
    project.deploy()
    invoke("pause", "card-risk", "--reason", "the shop migrates")
    paused = labels_of(prefect_client)
    assert [each.active for each in paused.schedules] == [False]
    assert "the shop migrates" in (paused.description or "")
    assert "Collects the labels" in (paused.description or "")
    pause = read_pause(prefect_client, paused)
    assert pause is not None
    assert pause.reason == "the shop migrates"
    assert "resumed; it was paused by" in invoke("resume", "card-risk")
    assert [each.active for each in labels_of(prefect_client).schedules] == [True]

    project.write("card-risk", CRON)
    told = project.deploy(remove_orphans=True)
    assert told["deployment labels/card-risk"].kind == "removed"


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_flow_collects_measures_and_says_what_it_did(make_shop: Callable[..., Shop], dialect: str) -> None:
    from penstock.flows.labels import labels

    shop = make_shop(dialect, labels=ALERT)
    shop.report([(key, label, NOW) for key, label in guess_labels(shop.scores()).items()])

    first = labels(str(shop.place.spec), return_state=True)
    again = labels(str(shop.place.spec), return_state=True)

    assert first.is_completed(), first.message
    assert "750 new labels of 750 read" in (first.message or "")
    assert "; 3 runs measured" in (first.message or "")
    assert "0 new labels of 750 read" in (again.message or "")
    assert "; 0 runs measured" in (again.message or "")


@pytest.mark.usefixtures("prefect_api")
def test_a_pipeline_without_labels_says_what_to_add(make_shop: Callable[..., Shop]) -> None:
    from penstock.flows.labels import labels

    shop = make_shop(labels="")

    state = labels(str(shop.place.spec), return_state=True)

    assert state.is_failed()
    assert "Add `labels:`" in (state.message or "")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_alert_is_raised_once_an_episode(make_shop: Callable[..., Shop], dialect: str) -> None:
    shop = make_shop(dialect, labels=ALERT)
    scores = shop.scores()
    reversed_labels = {key: 1 - label for key, label in guess_labels(scores).items()}

    def judge(now: datetime, labels: Mapping[int, int | None]) -> list[Any]:
        shop.report([(key, label, now - timedelta(minutes=1)) for key, label in labels.items()])
        shop.collect(now)
        refresh_performance(shop.warehouse, shop.question(now))
        return judge_performance(shop.warehouse, shop.question(now))

    [alert] = judge(LATER, reversed_labels)
    untold = judge_performance(shop.warehouse, shop.question(LATER))
    mark_announced(shop.warehouse, "card-risk", alert, LATER)
    told = judge(LATER + timedelta(days=1), {})
    better = judge(LATER + timedelta(days=2), guess_labels(scores))
    over = list_alerts(shop.warehouse, "card-risk")
    worse = judge(LATER + timedelta(days=3), reversed_labels)
    judge(LATER + timedelta(days=4), dict.fromkeys(scores))  # all labels are taken back
    lasting = list_alerts(shop.warehouse, "card-risk")

    assert alert.metric == "auc"
    assert "below 0.6" in alert.message
    assert untold == [alert]  # killed before it was announced: the next collection announces it
    assert (told, better, over) == ([], [], [])
    assert [each.began_at for each in worse] == [LATER + timedelta(days=3)]
    assert lasting == worse


def test_an_alert_needs_the_whole_interval_below_the_limit(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(labels=ALERT)
    few = {key: 1 - label for key, label in list(guess_labels(shop.scores()).items())[:10]}
    shop.report([(key, label, NOW) for key, label in few.items()])
    shop.collect()
    refresh_performance(shop.warehouse, shop.question())

    assert judge_performance(shop.warehouse, shop.question()) == []


def test_one_label_raises_no_alert(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(labels=LABELS + "  alert: {calibration: {beyond: 0.05}, auc: {below: 0.72}}\n")
    shop.report([(1, 1, NOW)])
    shop.collect()
    refresh_performance(shop.warehouse, shop.question())

    assert judge_performance(shop.warehouse, shop.question()) == []


def test_on_performance_makes_an_automation_for_the_event() -> None:
    from uuid import uuid4

    text = SPEC + ALERT + "notify: {on_performance: [custom-webhook/ops]}\n"
    spec = parse_pipeline(text.encode(), "card-risk.yaml")

    [automation] = define_automations(spec, {"custom-webhook/ops": uuid4()})

    assert automation.name == "penstock: card-risk on performance"
    assert automation.trigger.expect == {"penstock.performance.alert"}


def test_the_commands_show_what_was_measured(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(labels=ALERT + "decide: {decision: case when score > 0.6 then 'block' else 'pass' end}\n")
    scores = shop.scores()
    shop.report([(key, label, NOW) for key, label in guess_labels(scores).items()])
    spec = str(shop.place.spec)

    collected = invoke("labels", "collect", spec)
    shown = invoke("monitor", "performance", spec, "--top", "50")
    sliced = invoke("monitor", "performance", spec, "--by", "country")
    early = invoke("monitor", "performance", spec, "--as-of", "2026-01-02")
    replayed = invoke("monitor", "threshold", spec, "--cost", "fp=5,fn=100")
    unknown = CliRunner().invoke(app, ["monitor", "performance", spec, "--by", "items"])

    assert "750 new labels" in collected
    assert "card-risk/1: 750 of 750 scored rows of 3 runs count (100%), 750 labelled" in " ".join(shown.split())
    assert all(word in shown for word in ("auc", "pr_auc", "precision at 0.5", "recall of the top 50"))
    assert all(f"country: {name}" in sliced for name in ("DE", "FR", "IT", "PL"))
    assert "0 of 250 scored rows of 1 run count (0%), 0 labelled; provisional" in " ".join(early.split())
    assert "now" in replayed
    assert "cheapest" in replayed
    assert unknown.exit_code != 0


def test_the_spec_refuses_labels_that_cannot_be_joined() -> None:
    from penstock.errors import SpecError

    wrong = {
        "write `key: [payment_id]`": LABELS.replace("key: [payment_id]", "key: [id]"),
        "not stored with the scores": LABELS.replace("[country]", "[items]"),
        "needs `mature`": LABELS.replace("mature: 20d", "missing: negative"),
        "exactly one of": LABELS + "  alert: {auc: {below: 0.7, above: 0.1}}\n",
        "`labels.alert`": LABELS + "notify: {on_performance: [custom-webhook/ops]}\n",
    }
    for words, labels in wrong.items():
        with pytest.raises(SpecError, match=re.escape(words)):
            parse_pipeline((SPEC + labels).encode(), "card-risk.yaml")


def test_text_is_no_label(make_shop: Callable[..., Shop]) -> None:
    from penstock.errors import LabelValue

    shop = make_shop(labels=LABELS.replace("value: is_fraud", "value: \"'yes'\""))
    shop.report([(1, 1, NOW)])

    with pytest.raises(LabelValue, match="gives string"):
        shop.collect()
    with shop.warehouse.reading() as connection:
        assert connection.execute(sa.text("select count(*) from penstock_labels")).scalar() == 0


def test_the_status_shows_the_trend_and_what_is_beyond_its_limit(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(labels=ALERT)
    reversed_labels = {key: 1 - label for key, label in guess_labels(shop.scores()).items()}
    shop.report([(key, label, NOW) for key, label in reversed_labels.items()])
    invoke("labels", "collect", str(shop.place.spec))

    shown = " ".join(CliRunner().invoke(app, ["status", str(shop.place.spec)]).stdout.split())
    status = read_status(shop.warehouse, shop.pipeline, LATER)
    page = "\n".join(write_sections(build_status([status], LATER)))

    assert "over 3 intervals, 100% labelled" in shown
    assert "below 0.6" in shown
    assert "auc by interval, the newest last: 2026-01-01 → 01-02" in page
    assert page.count("data:image/svg+xml;base64") == 1
