"""`penstock accept`: a run that the audit halted is published by moving the pointer, once, on real databases."""

import json
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.deployments.deploy.deploy_pipelines import client_of
from penstock.errors import AcceptRefused, PublishRefused, TransientError
from penstock.ledger.pointer_moves import moves_of
from penstock.ledger.reader import RunRecord, find_run, list_runs
from penstock.ledger.releases import pending_releases
from penstock.ledger.schema_contracts import read_published_models
from penstock.ledger.tables import moves, runs, validations
from penstock.run.planning import PlannedInterval
from penstock.settings import load_settings
from penstock.upkeep.acceptance import accept_run, plan_acceptance
from penstock.upkeep.verify import verify_ledger
from tests.changing_place import ChangingPlace, end_of, keys
from tests.conftest import DIALECTS
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
GATES = """
expectations:
  payments:
    - {type: expect_column_max_to_be_between, column: amount, max_value: 30}
partition_rows: 2
"""
FEW_ITEMS = "    - {type: expect_column_values_to_be_between, column: items, max_value: 2"
WHY = ("--reason", "the sale doubled the amounts", "--by", "Ada")


@pytest.fixture
def place(changing_place: ChangingPlace) -> ChangingPlace:
    """A pipeline that has scored three days, and whose fourth day is halted by the audit."""
    folder = load_settings().pipelines
    folder.mkdir(parents=True)
    place = changing_place
    place.spec = place.spec.rename(folder / "card-risk.yaml")
    place.add(GATES)
    [ended] = place.run(4)
    assert ended.startswith("halted 2026-01-04 → 01-05")
    return place


def halted(place: ChangingPlace) -> RunRecord:
    return next(run for run in list_runs(place.warehouse, limit=1000) if run.state == "halted")


def test_a_halted_run_is_accepted_once(place: ChangingPlace) -> None:
    run = halted(place)
    assert place.view() == keys(1, 2, 3)

    code, text = place.command("accept", run.run_id[:8], *WHY, "--yes")

    assert code == 0, text
    assert "overrules payments: amount column_max_to_be_between" in " ".join(text.split())
    assert "accepted: 4 scores of card-risk 2026-01-04 → 01-05 are in `card_risk_scores`" in text
    assert place.view() == keys(1, 2, 3, 4)
    assert place.seen_scores() == place.scores(1, 2, 3, 4)
    now = find_run(place.warehouse, run.run_id)
    assert (now.state, now.error, now.rows_published) == ("published", None, 4)
    [move] = moves_of(place.warehouse, run.run_id)
    assert (move.state_before, move.instead_of, move.moved_by) == ("halted", (), "Ada")
    place.verify()

    code, text = place.command("accept", run.run_id, *WHY, "--yes")
    assert code == 2
    assert "Ada accepted it already at" in " ".join(text.split())
    assert place.view() == keys(1, 2, 3, 4)
    place.verify()


def test_the_next_run_leaves_an_accepted_interval_alone_until_late_rows_come(place: ChangingPlace) -> None:
    run = halted(place)
    assert place.plan(4) == [("2026-01-04 → 01-05", "due")]
    accept_run(place.warehouse, run.run_id, "Ada", "it is right")

    assert place.plan(4) == []
    place.change("update payments set amount = 1.5, updated_at = '2026-01-04 23:59:00' where payment_id = 41")
    assert place.plan(4) == [("2026-01-04 → 01-05", "late rows")]
    [ended] = place.run(4)  # the rows are judged again, and the accepted run stays live
    assert ended.startswith("halted 2026-01-04 → 01-05")
    assert find_run(place.warehouse, run.run_id).state == "published"

    place.change("update payments set amount = 1.5, updated_at = '2026-01-04 23:59:59' where payment_id > 40")
    assert place.run(4) == ["published 2026-01-04 → 01-05"]
    assert find_run(place.warehouse, run.run_id).state == "superseded"
    place.verify()


def test_an_accepted_restate_supersedes_what_is_live(place: ChangingPlace) -> None:
    place.change("update payments set amount = 90, updated_at = '2026-01-02 23:59:00' where payment_id = 22")
    place.run(3, "restate", "2026-01-02", "2026-01-03")
    run = next(each for each in list_runs(place.warehouse) if each.state == "halted" and each.reason == "restate")
    before = next(each for each in list_runs(place.warehouse) if each.interval_key == run.interval_key != run.run_id)

    code, text = place.command("accept", run.run_id, "--dry-run", "--json")
    assert code == 0, text
    [change] = json.loads(text)
    assert (change["same"], change["changed"], change["added"], change["removed"]) == (3, 1, 0, 0)
    accept_run(place.warehouse, run.run_id, "Ada", "it is right")

    now = [each for each in list_runs(place.warehouse, limit=1000) if each.interval_key == before.interval_key]
    assert sorted(each.state for each in now) == ["published", "superseded"]
    old = next(each for each in now if each.state == "superseded")
    assert old.replaced_by_run_id == run.run_id
    assert place.view() == keys(1, 2, 3)
    place.verify()


def test_the_card_and_the_status_name_the_command(place: ChangingPlace) -> None:
    run = halted(place)
    command = f'penstock accept {run.run_id[:8]} --reason "why it is right"'

    assert command in place.command("show", run.run_id)[1]
    code, text = place.command_on(4, "status", "card-risk")
    assert (code, command in text) == (1, True), text

    place.command("accept", run.run_id, *WHY, "--yes")

    _, shown = place.command("show", run.run_id)
    assert command not in shown
    line = " ".join(shown.split())
    assert "Accepted, although the audit had halted it," in line
    assert "by Ada: the sale doubled the amounts" in line
    assert "penstock accept" not in place.command_on(4, "status", "card-risk")[1]


def test_a_halted_run_keeps_its_scores_shift(place: ChangingPlace) -> None:
    """The one who decides sees how the scores have moved, and the next run is compared with an accepted one."""
    run = halted(place)
    assert len(run.score_quantiles) == 101
    assert "against the published run before" in " ".join(place.command("show", run.run_id)[1].split())


def test_without_a_reason_nothing_is_accepted(place: ChangingPlace) -> None:
    before = place.states()

    assert place.command("accept", halted(place).run_id, "--yes")[0] == 2
    assert place.command("accept", halted(place).run_id, *WHY, "--json")[0] == 2
    code, text = place.command("accept", halted(place).run_id, "--dry-run")

    assert (code, "What readers of `card_risk_scores` see change" in text) == (0, True)
    assert place.states() == before


def test_an_accepted_run_counts_for_contracts_and_releases(place: ChangingPlace) -> None:
    place.edit("card-risk@champion", "card-risk@2")
    place.run(4)
    run = halted(place)
    assert run.model_version == "2"
    accept_run(place.warehouse, run.run_id, "Ada", "it is right")

    assert read_published_models(place.warehouse, "card-risk", "card_risk_scores")[""].version == "2"
    assert pending_releases(place.warehouse, "card-risk") == {}
    place.edit("max_value: 30", "max_value: 300")
    assert place.run(5) == ["published 2026-01-05 → 01-06"]
    place.verify()


def test_an_accepted_run_sends_the_event_of_a_published_one(place: ChangingPlace, prefect_api: str) -> None:
    run = halted(place)

    code, text = place.command("accept", run.run_id, *WHY, "--yes")

    assert (code, "could not send" in text) == (0, False), text
    wanted = {"event": {"name": ["penstock.run.published"]}, "resource": {"id": ["penstock.pipeline.card-risk"]}}

    def sent() -> list[Any]:
        with client_of(prefect_api) as client:
            found = client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]
        return [each for each in found if each["payload"]["run_id"] == run.run_id]

    wait_until(lambda: bool(sent()))
    [event] = sent()
    assert event["payload"]["interval_start"] == "2026-01-04T00:00:00+00:00"
    assert event["payload"]["rows"] == {"extracted": 4, "scored": 4, "quarantined": 0, "excluded": 0}
    assert "Ada accepted the halted run: the sale doubled the amounts" in event["payload"]["message"]
    assert event["resource"]["penstock.deployment"] == ""


# --- refused by name ----------------------------------------------------------------------------


def refusal(place: ChangingPlace, run_id: str) -> str:
    """Return the message of a refusal, which may change nothing."""
    before = place.states()
    with pytest.raises((AcceptRefused, PublishRefused)) as refused:
        plan_acceptance(place.warehouse, run_id)
    with pytest.raises(type(refused.value)):
        accept_run(place.warehouse, run_id, "Ada", "it is right")
    assert place.states() == before
    place.verify()
    return str(refused.value)


def test_a_run_that_failed_is_refused(place: ChangingPlace) -> None:
    """A failed reconciliation: a row of the run is gone when the audit counts."""
    driver, table = place.driver, "card_risk_scores__history"
    for step in driver.steps(end_of(4)):
        if step == "load 1/2":
            first = sa.text(f"delete from {table} where payment_id = {keys(4)[0]} and run_id = :run")
            newest = list_runs(place.warehouse, limit=1)[0].run_id
            with place.warehouse.writing() as connection:
                connection.execute(first, {"run": newest})
    [run] = list_runs(place.warehouse, limit=1)
    assert run.state == "failed"
    assert "does not add up" in (run.error or "")

    message = refusal(place, run.run_id)

    assert "it failed, and only a halt can be overruled" in message
    assert f"`penstock show {run.run_id[:8]}` says why it failed" in message


def test_a_run_whose_partition_halted_is_refused(place: ChangingPlace) -> None:
    place.edit("  payments:\n", f"  payments:\n{FEW_ITEMS}, severity: critical}}\n")
    place.run(4)

    assert "partition 1 was halted, so its rows were not scored" in refusal(place, halted(place).run_id)


def test_a_run_that_halted_before_its_rows_were_read_is_refused(place: ChangingPlace) -> None:
    place.add("budget: {rows: 3}")
    place.run(4)

    assert "it halted when 0 of its 2 partitions had been scored" in refusal(place, halted(place).run_id)


def test_a_run_with_a_doubled_key_is_refused(place: ChangingPlace) -> None:
    run = halted(place)
    if place.warehouse.dialect != "duckdb":
        pytest.skip("its history table has a unique key")
    doubled = f"update card_risk_scores__history set payment_id = 41 where payment_id = 43 and run_id = '{run.run_id}'"
    with place.warehouse.writing() as connection:
        connection.execute(sa.text(doubled))

    with pytest.raises(AcceptRefused, match="it has loaded a key twice"):
        accept_run(place.warehouse, run.run_id, "Ada", "it is right")
    assert find_run(place.warehouse, run.run_id).state == "halted"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rows_extracted": 5}, "its counts are not those of its partitions"),
        ({"rows_planned": 5}, "5 rows were counted and 4 read"),
        ({"state": "abandoned"}, "its state is `abandoned`"),
        ({"variant": "sandbox:trial", "destination": None}, "it is a run of variant sandbox:trial"),
        ({"partitions": 3}, "it halted when 2 of its 3 partitions had been scored"),
    ],
)
def test_a_run_whose_records_do_not_allow_it_is_refused(
    place: ChangingPlace, change: dict[str, object], why: str
) -> None:
    run = halted(place)
    with place.warehouse.writing() as connection:
        connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(**change))

    assert why in refusal(place, run.run_id)


def test_a_run_that_no_gate_of_the_audit_halted_is_refused(place: ChangingPlace) -> None:
    run = halted(place)
    with place.warehouse.writing() as connection:
        connection.execute(sa.delete(validations).where(validations.c.run_id == run.run_id))

    assert "it was not halted by a gate of the audit" in refusal(place, run.run_id)


def test_a_run_is_refused_when_a_newer_one_is_live(place: ChangingPlace) -> None:
    run = halted(place)
    place.change("update payments set amount = 1.5 where payment_id > 40")
    place.run(4)

    assert "the newer run" in refusal(place, run.run_id)


def test_a_run_is_refused_while_another_one_scores_the_interval(place: ChangingPlace) -> None:
    run = halted(place)
    place.driver.kill(end_of(4), after=5)

    message = refusal(place, run.run_id)

    assert "is scoring 2026-01-04 → 01-05 (lease until" in message
    assert "Wait for that run." in message


def test_a_run_of_a_destination_that_another_pipeline_has_taken_is_refused(place: ChangingPlace) -> None:
    run = halted(place)
    place.command("withdraw", "--pipeline", "card-risk", "--yes")
    place.edit("name: card-risk", "name: other-risk")
    place.run(2, "restate", "2026-01-01", "2026-01-02")

    assert "belongs to another pipeline" in refusal(place, run.run_id)


def test_a_run_that_covers_a_live_one_in_part_is_refused(place: ChangingPlace) -> None:
    place.edit("max_value: 30", "max_value: 300")
    place.edit("grain: 1d", "grain: 2d")
    place.run(4, "restate", "2026-01-03", "2026-01-05")
    run = halted(place)
    with place.warehouse.writing() as connection:  # else the newer run is named
        connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(started_at=end_of(400)))

    assert "they cover live runs only in part" in refusal(place, run.run_id)


def test_a_run_whose_rows_were_pruned_is_refused(place: ChangingPlace) -> None:
    place.add("retention: {unpublished: 0d}")
    run = halted(place)
    place.command("prune", "card-risk", "--yes")

    assert "its rows were pruned" in refusal(place, run.run_id)


def test_a_run_whose_rows_are_gone_is_refused(place: ChangingPlace) -> None:
    run = halted(place)
    with place.warehouse.writing() as connection:
        connection.execute(sa.text(f"delete from card_risk_scores__history where payment_id = {keys(4)[0]}"))

    with pytest.raises(PublishRefused, match="has lost 1 of its 4 rows"):
        accept_run(place.warehouse, run.run_id, "Ada", "it is right")
    assert place.view() == keys(1, 2, 3)


def test_an_empty_interval_and_too_many_refused_rows_can_be_accepted(place: ChangingPlace) -> None:
    place.edit("max_value: 30", "max_value: 300")
    place.edit("  payments:\n", f"  payments:\n{FEW_ITEMS}, severity: warning}}\n")
    place.change("delete from payments where payment_id > 50")
    ended = place.run(5)
    assert [each.split(":")[0] for each in ended] == ["halted 2026-01-04 → 01-05", "halted 2026-01-05 → 01-06"]

    for run in list_runs(place.warehouse, limit=2):
        accept_run(place.warehouse, run.run_id, "Ada", "it is right")

    assert place.view() == [*keys(1, 2, 3), keys(4)[0]]
    assert place.plan(5) == []
    place.verify()


# --- verify -------------------------------------------------------------------------------------


def test_verify_finds_a_halted_run_that_nobody_accepted(place: ChangingPlace) -> None:
    run = halted(place)
    accept_run(place.warehouse, run.run_id, "Ada", "it is right")
    place.verify()
    with place.warehouse.writing() as connection:
        connection.execute(sa.delete(moves).where(moves.c.run_id == run.run_id))

    found = verify_ledger(place.warehouse)

    assert [each.invariant for each in found] == ["a halted run is published only if a person accepts it"]
    assert found[0].rows == (f"{run.run_id} (published)",)


# --- at once ------------------------------------------------------------------------------------


def test_of_two_people_at_once_one_accepts(place: ChangingPlace) -> None:
    run, ended = halted(place), []

    def accept(by: str) -> None:
        for _ in range(50):
            try:
                accept_run(place.warehouse, run.run_id, by, "at once")
                ended.append("accepted")
                return
            except AcceptRefused as error:
                ended.append(error.reason)
                return
            except TransientError:
                continue

    threads = [threading.Thread(target=accept, args=(by,)) for by in ("Ada", "Grace", "Mary")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ended.count("accepted") == 1
    assert len([each for each in ended if "accepted it already" in each]) == 2
    assert len(moves_of(place.warehouse, run.run_id)) == 1
    place.verify()


def test_of_a_person_and_a_new_run_at_once_one_gets_the_interval(place: ChangingPlace) -> None:
    run, driver, ended = halted(place), place.driver, []

    def accept() -> None:
        for _ in range(50):
            try:
                accept_run(place.warehouse, run.run_id, "Ada", "at once")
                ended.append("accepted")
                return
            except AcceptRefused as error:
                ended.append(error.reason)
                return
            except TransientError:
                continue

    def claim() -> None:
        planned = PlannedInterval(run.interval, "due")
        for _ in range(50):
            try:
                claimed = driver.does.claim(planned, {"score": driver.registry.resolve("card-risk@champion")})
                ended.append("claimed" if claimed else "published already")
                return
            except TransientError:
                continue

    threads = [threading.Thread(target=target) for target in (accept, claim)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    first_accepted = sorted(ended) == ["accepted", "published already"]
    assert first_accepted or ("claimed" in ended and any("is scoring" in each for each in ended)), ended
    place.verify()


def test_an_acceptance_that_fails_changes_nothing(place: ChangingPlace) -> None:
    """Each statement of the transaction fails once, the COMMIT too."""
    run = halted(place)
    before, number, failures = place.states(), 0, 0
    engine = place.warehouse.engine
    while True:
        number += 1
        said = iter(range(1, 1000))

        def fail(*_: object, count: int = number, said: object = said) -> None:
            if next(said) == count:  # type: ignore[call-overload]
                raise RuntimeError("injected")

        sa.event.listen(engine, "before_cursor_execute", fail)
        sa.event.listen(engine, "commit", fail)
        try:
            accept_run(place.warehouse, run.run_id, "Ada", "it is right")
        except RuntimeError:
            failures += 1
        else:
            break
        finally:
            sa.event.remove(engine, "before_cursor_execute", fail)
            sa.event.remove(engine, "commit", fail)
        assert place.states() == before
        assert moves_of(place.warehouse, run.run_id) == []
        place.verify()
    assert failures > 12
    assert place.view() == keys(1, 2, 3, 4)
    place.verify()
