"""`penstock rename`, `penstock withdraw --pipeline` and `penstock ledger verify` as people use them."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from penstock.database.connections import Database
from penstock.ledger.known_ledgers import KnownLedger
from penstock.ledger.reader import list_runs
from penstock.settings import load_settings
from penstock.tasks.deployed import read_pause
from penstock.tasks.ledger_record import read_record, write_record
from tests.changing_place import ChangingPlace, keys
from tests.project import CRON, Project


@pytest.fixture
def place(changing_place: ChangingPlace) -> ChangingPlace:
    """A pipeline that has scored three days, with its spec in the folder of pipelines."""
    folder = load_settings().pipelines
    folder.mkdir(parents=True)
    changing_place.spec = changing_place.spec.rename(folder / "card-risk.yaml")
    return changing_place


def give_new_name(place: ChangingPlace) -> None:
    """Rename the pipeline in its spec and its file."""
    place.edit("name: card-risk", "name: payment-risk")
    place.spec = place.spec.rename(place.spec.with_name("payment-risk.yaml"))


def pipelines_of_runs(warehouse: Database) -> set[str]:
    return {run.pipeline for run in list_runs(warehouse)}


# --- rename -------------------------------------------------------------------------------------


def test_rename_moves_the_ledger_and_speaks_of_deployments(place: ChangingPlace) -> None:
    give_new_name(place)

    code, text = place.command("rename", "card-risk", "payment-risk")

    assert code == 0, text
    assert "card-risk is payment-risk now" in text
    assert "no Prefect server is up; when it is, `penstock deploy` makes the new deployment" in text
    assert pipelines_of_runs(place.warehouse) == {"payment-risk"}
    assert place.view() == keys(1, 2, 3)
    assert place.run(4) == ["published 2026-01-04 → 01-05"]
    place.verify()


def test_rename_again_finds_nothing_to_move(place: ChangingPlace) -> None:
    give_new_name(place)
    place.command("rename", "card-risk", "payment-risk")

    code, text = place.command("rename", "card-risk", "payment-risk")

    assert code == 2
    assert "the ledger has no runs of `card-risk`" in text


@pytest.mark.parametrize("file", ["card-risk.yaml", "another.yaml"])
def test_rename_is_refused_while_a_spec_has_the_old_name(place: ChangingPlace, file: str) -> None:
    old = place.spec.read_text()
    give_new_name(place)
    place.spec.with_name(file).write_text(old)

    code, text = place.command("rename", "card-risk", "payment-risk")

    assert code == 2
    assert f"{file} still has the name `card-risk`, so they are two pipelines" in " ".join(text.split())
    assert pipelines_of_runs(place.warehouse) == {"card-risk"}


def test_rename_needs_the_new_spec(place: ChangingPlace) -> None:
    code, text = place.command("rename", "card-risk", "payment-risk")

    assert code == 2
    assert "payment-risk" in text
    assert pipelines_of_runs(place.warehouse) == {"card-risk"}


@pytest.mark.slow
@pytest.mark.parametrize("paused", [True, False])
def test_rename_replaces_the_deployment_as_paused_as_it_was(
    place: ChangingPlace, prefect_client: SyncPrefectClient, prefect_api: str, paused: bool
) -> None:
    place.add(CRON)
    project = Project(prefect_api, load_settings())
    project.deploy()
    before = prefect_client.read_deployment_by_name("score/card-risk")
    if paused:
        prefect_client.update_deployment(before.id, DeploymentUpdate(paused=True))
    give_new_name(place)

    code, text = place.command("rename", "card-risk", "payment-risk")

    assert code == 0, text
    after = prefect_client.read_deployment_by_name("score/payment-risk")
    assert after.paused is paused
    assert [str(schedule.schedule) for schedule in after.schedules] == [str(each.schedule) for each in before.schedules]
    with pytest.raises(ObjectNotFound):
        prefect_client.read_deployment_by_name("score/card-risk")
    assert not any(change.kind == "created" for change in project.deploy().values())
    assert prefect_client.read_deployment_by_name("score/payment-risk").paused is paused


@pytest.mark.slow
def test_rename_takes_along_why_the_pipeline_is_paused_and_what_the_server_knows_of_its_ledger(
    place: ChangingPlace, prefect_client: SyncPrefectClient, prefect_api: str
) -> None:
    place.add(CRON)
    project = Project(prefect_api, load_settings())
    project.deploy()
    assert place.command("pause", "card-risk", "--reason", "the shop migrates")[0] == 0
    known = KnownLedger("warehouse", "sqlite:///w", "2026-01-01T00:00:00Z")
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        write_record("card-risk", known)
    give_new_name(place)

    assert place.command("rename", "card-risk", "payment-risk")[0] == 0

    deployment = prefect_client.read_deployment_by_name("score/payment-risk")
    pause = read_pause(prefect_client, deployment)
    assert pause is not None
    assert pause.reason == "the shop migrates"
    assert pause.reason in str(deployment.description)
    assert [deployment.schedules[0].active, deployment.paused] == [False, False]
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        assert [read_record(name) for name in ("card-risk", "payment-risk")] == [None, known]
    assert prefect_client.read_variable_by_name("penstock_pause_card_risk") is None
    assert project.deploy()["deployment score/payment-risk"].kind == "unchanged"


@pytest.mark.slow
def test_rename_of_a_pipeline_that_was_never_deployed_says_so(
    place: ChangingPlace, prefect_client: SyncPrefectClient
) -> None:
    give_new_name(place)

    code, text = place.command("rename", "card-risk", "payment-risk")

    assert code == 0, text
    assert "the Prefect server has no deployment `score/card-risk` of this project" in text
    with pytest.raises(ObjectNotFound):
        prefect_client.read_deployment_by_name("score/payment-risk")


# --- withdraw -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "left"),
    [
        ((), ()),
        (("--start", "2026-01-02"), (1,)),
        (("--end", "2026-01-03"), (3,)),
        (("--start", "2026-01-02", "--end", "2026-01-03"), (1, 3)),
        (("--start", "2026-01-02T12:00", "--end", "2026-01-02T13:00"), (1, 3)),
        (("--table", "card_risk_scores"), ()),
    ],
)
def test_withdraw_takes_out_a_pipelines_runs_of_a_range(
    place: ChangingPlace, bounds: tuple[str, ...], left: tuple[int, ...]
) -> None:
    code, text = place.command("withdraw", "--pipeline", "card-risk", *bounds, "--yes")

    assert code == 0, text
    assert place.view() == keys(*left)
    assert place.plan(3) == []
    assert place.run(3, "restate", "2026-01-01T00:00", "2026-01-04T00:00")
    assert place.view() == keys(1, 2, 3)
    place.verify()


def test_withdraw_says_how_many_runs_and_scores(place: ChangingPlace) -> None:
    code, text = place.command("withdraw", "--pipeline", "card-risk", "--end", "2026-01-03", "--yes")

    assert code == 0
    assert text == "withdrawn: 2 runs (8 scores) are no longer in `card_risk_scores`\n"


@pytest.mark.parametrize("bounds", [("--table", "other"), ("--start", "2027-01-01")])
def test_withdraw_of_nothing_changes_nothing(place: ChangingPlace, bounds: tuple[str, ...]) -> None:
    code, text = place.command("withdraw", "--pipeline", "card-risk", *bounds, "--yes")

    assert code == 0
    assert "nothing to withdraw" in text
    assert place.view() == keys(1, 2, 3)


def test_withdraw_takes_several_ids_or_none(place: ChangingPlace) -> None:
    newest, middle, oldest = (run.run_id for run in list_runs(place.warehouse))

    code, text = place.command("withdraw", newest[:8], oldest, "--yes")
    assert code == 0, text
    assert place.view() == keys(2)

    code, text = place.command("withdraw", middle[:8], oldest[:8], "--yes")
    assert code == 2
    assert "withdrawn" in text
    assert place.view() == keys(2)


@pytest.mark.parametrize(
    "arguments", [(), ("abc", "--pipeline", "card-risk"), ("abc", "--start", "2026-01-01"), ("abc", "--table", "t")]
)
def test_withdraw_takes_ids_or_a_pipeline(place: ChangingPlace, arguments: tuple[str, ...]) -> None:
    code, _ = place.command("withdraw", *arguments, "--yes")

    assert code == 2
    assert place.view() == keys(1, 2, 3)


# --- ledger verify ------------------------------------------------------------------------------


def test_verify_of_a_whole_ledger_ends_with_zero(place: ChangingPlace) -> None:
    assert place.command("ledger", "verify") == (0, "every invariant of the ledger holds\n")
    code, text = place.command("ledger", "verify", "--json")
    assert (code, json.loads(text)) == (0, [])


def test_verify_names_what_is_broken_and_ends_with_one(place: ChangingPlace) -> None:
    with place.warehouse.writing() as connection:
        connection.execute(sa.text("delete from card_risk_scores__history where payment_id = 21"))
    middle = list_runs(place.warehouse)[1].run_id

    code, text = place.command("ledger", "verify")
    assert code == 1
    assert "warehouse: main.card_risk_scores: broken: a published run has its rows" in text
    assert f"{middle}: 3 rows, 4 scored" in text
    assert "1 violation; nothing was changed" in text

    code, text = place.command("ledger", "verify", "--json")
    assert code == 1
    assert json.loads(text) == [
        {
            "connection": "warehouse",
            "invariant": "a published run has its rows",
            "where": "main.card_risk_scores",
            "rows": [f"{middle}: 3 rows, 4 scored"],
            "remedy": "Restate the intervals of these runs.",
        }
    ]


def test_verify_looks_into_each_warehouse(place: ChangingPlace) -> None:
    place.move("lake", "sqlite")
    place.edit("connection: warehouse", "connection: lake")
    place.run(3)
    with place.warehouse.writing() as connection:
        connection.execute(sa.text("delete from card_risk_scores__history where payment_id = 21"))

    code, text = place.command("ledger", "verify")

    assert code == 1
    assert "lake: main.card_risk_scores: broken" in text
    assert "warehouse: main" not in text


def test_verify_before_the_first_run_finds_nothing(tmp_path: Path, place: ChangingPlace) -> None:
    place.move("warehouse", "sqlite")

    assert place.command("ledger", "verify")[0] == 0
