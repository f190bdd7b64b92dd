"""The scoring flow delivers after it has published. A target that fails fails no run, and is told of once."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.states import Failed
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.delivery import deliver
from penstock.deployments.deploy.automations import define_automations
from penstock.errors import KeyCollision, SpecError, TargetBusy
from penstock.flows.score import score
from penstock.ledger.reader import list_runs
from penstock.report.card import run_card
from penstock.report.status import read_status
from penstock.report.status_sections import build_status
from penstock.spec.sandbox import as_sandbox
from penstock.spec.yaml_file import load_pipeline, parse_pipeline
from penstock.tasks import events
from penstock.tasks.deliveries import deliver as deliver_task
from tests.changing_place import end_of
from tests.conftest import Place
from tests.receivers import receiving
from tests.shop import SPEC

DELIVER = """
deliver: [{kind: http, name: crm, url: crm, private_address: true, columns: [score], where: score > 0.2}]
"""


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
def test_the_flow_delivers_what_it_published_and_tells_once_of_a_target_that_fails(
    make_place: Callable[..., Place], use_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: sent.append(event))
    monkeypatch.setattr(deliver, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(deliver, "COOL_DOWN_SECONDS", 0.0)
    with receiving() as receiver:
        place = make_place(spec=SPEC + DELIVER)
        use_settings(crm=receiver.url)
        receiver.answer = lambda _: (500, {})
        for day in ("2026-01-02", "2026-01-03"):
            state = score(str(place.spec), end=day, return_state=True)
            assert state.is_completed(), state.message
        failed = [each for each in sent if each["event"] == events.DELIVERY_FAILED]
        assert [each["payload"]["target"] for each in failed] == ["crm"]
        assert "500 Internal Server Error" in failed[0]["payload"]["message"]
        pipeline = load_pipeline(place.spec)
        status = read_status(place.warehouse, pipeline, end_of(2))
        [need] = [each for each in status.needs if each.kind == "delivery"]
        assert need.command == "penstock deliver list card-risk"
        assert "does not get its rows since" in str(build_status([status], end_of(2)))

        again = ["run", str(place.spec), "--restate", "--start", "2026-01-01", "--end", "2026-01-02"]
        ran = CliRunner().invoke(app, again)
        assert ran.exit_code == 0, ran.output
        assert "`crm` does not get its rows, and the next run tries again" in " ".join(ran.output.split())

        receiver.answer = lambda _: (200, {})
        before = len(receiver.requests)
        score(str(place.spec), end="2026-01-04", return_state=True)
        assert len([each for each in sent if each["event"] == events.DELIVERY_FAILED]) == 1
        with place.warehouse.reading() as connection:
            rows = connection.exec_driver_sql("select count(*) from card_risk_scores where score > 0.2").scalar()
        assert len(receiver.rows) == rows
        assert receiver.batches[before]["interval"]["start"] == "2026-01-03T00:00:00Z"  # the backlog makes it not late
        newest = list_runs(place.warehouse)[0]
        assert "Deliveries" in run_card(place.warehouse, newest.run_id)
        assert not [n for n in read_status(place.warehouse, pipeline, end_of(3)).needs if n.kind == "delivery"]


def test_on_delivery_makes_an_automation_for_the_event() -> None:
    text = SPEC + DELIVER + "notify: {on_delivery: [custom-webhook/ops]}\n"
    spec = parse_pipeline(text.encode(), "card-risk.yaml")
    [automation] = define_automations(spec, {"custom-webhook/ops": uuid4()})
    assert automation.name == "penstock: card-risk on delivery"
    assert automation.trigger.expect == {events.DELIVERY_FAILED}
    assert as_sandbox(spec, "lower").deliver == ()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("columns: [score]", "columns: [items]", "`crm` in `deliver` names `items`, which is not stored"),
        ("score > 0.2", "items > 2", "`crm` in `deliver` names `items`, which is not stored"),
        ("url: crm", "url: 'https://example.com/#here'", "an address has no fragment"),
        ("url: crm", "url: 'https://me:secret@example.com'", "no user and no password"),
        ("]\n", ", {kind: http, name: crm, url: crm}]\n", "two targets of the name `crm`"),
    ],
)
def test_a_spec_with_a_target_that_cannot_be_delivered_to_is_refused(old: str, new: str, told: str) -> None:
    start, mark, end = DELIVER.rpartition(old)
    with pytest.raises(SpecError) as refused:
        parse_pipeline((SPEC + start + new + end).encode(), "card-risk.yaml")
    assert mark
    assert told in str(refused.value)


def test_a_target_of_a_pipeline_without_intervals_has_no_start() -> None:
    text = re.sub(r"^interval:.*\n", "", SPEC, flags=re.M) + DELIVER.replace(
        "url: crm", "url: crm, start: 2026-01-01T00:00:00Z"
    )
    with pytest.raises(SpecError, match="has a `start`, and the pipeline has no `interval`"):
        parse_pipeline(text.encode(), "card-risk.yaml")


def test_a_target_that_is_busy_is_left_to_the_process_that_has_it() -> None:
    """It delivers what is live by now, so the task is not tried again."""
    retries = deliver_task.retry_condition_fn
    assert retries is not None
    for error, again in ((TargetBusy("crm", None), False), (KeyCollision("warehouse", "reason"), True)):
        assert retries(deliver_task, SimpleNamespace(run_count=1), Failed(data=error)) is again
    assert str(TargetBusy("crm", None)).startswith("another process delivers to `crm`. Deliver again later")
