"""`penstock ledger check-seals` and `seals`, and what other commands say of seals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.deployments.doctor.context import CheckContext
from penstock.deployments.doctor.specs import check_keys
from penstock.report.card import run_card
from penstock.settings import load_settings
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.rename import rename_pipeline
from tests.driver import SETTINGS
from tests.integration.test_seals import KEY, OTHER, SEALED, Sealed, key
from tests.shop import SPEC, START, Place

SECRET = KEY.get_secret_value()


@pytest.fixture
def sealed(make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sealed:
    """A sealed pipeline in the folder of pipelines, with its key in the environment."""
    monkeypatch.setenv("PENSTOCK_SEAL_KEY", SECRET)
    place = make_place(spec=SEALED, days=2, a_day=60)
    folder = load_settings().pipelines
    folder.mkdir(parents=True, exist_ok=True)
    return Sealed(replace(place, spec=place.spec.rename(folder / "card-risk.yaml")))


def command(*words: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, list(words))
    return ended.exit_code, ended.output


def test_check_seals_names_what_was_changed(sealed: Sealed) -> None:
    sealed.run()
    assert command("ledger", "check-seals") == (
        0,
        "card-risk: 2 sealed runs with 120 rows checked\nevery seal holds\n",
    )
    first, second = sealed.runs()
    sealed.write("update card_risk_scores__history set score = 0 where payment_id = 7")
    sealed.write("delete from card_risk_scores__history where payment_id = 70")

    code, text = command("ledger", "check-seals", "card-risk")
    only, of_run = command("ledger", "check-seals", second.run_id[:8])
    listed = json.loads(command("ledger", "check-seals", "--json")[1])

    assert (code, only) == (1, 1)
    assert f"card-risk: run {first.run_id[:8]} {first.interval_key}, partition" in text
    assert "1 row altered" in text
    assert "1 row removed" in text
    assert key(7) in text
    assert key(70) in text
    assert "1 sealed run with 59 rows checked" in of_run
    assert "altered" not in of_run
    assert [each["keys"] for each in listed["findings"]] == [[key(7)], [key(70)]]
    assert listed["pipelines"] == [
        {"pipeline": "card-risk", "runs": 2, "rows": 119, "erased": 0, "pruned": 0, "older": []}
    ]


def test_check_seals_names_runs_that_it_cannot_check(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed.place.spec.write_text(SPEC)
    sealed.run(1)
    sealed.place.spec.write_text(SEALED)
    sealed.run(2)
    older, first = sealed.runs()
    assert command("ledger", "check-seals", "card-risk") == (
        0,
        "card-risk: 1 sealed run with 60 rows checked, 1 run without seals, from before the first one\n"
        f"  run {older.run_id[:8]} {older.interval_key}\nevery seal holds\n",
    )
    monkeypatch.setenv("PENSTOCK_SEAL_KEY", OTHER.get_secret_value())

    code, text = command("ledger", "check-seals", "card-risk")

    key_id = str(first.seal_root).partition(".")[0]
    about = f"run {first.run_id[:8]} {first.interval_key}: 60 rows sealed under the key {key_id}, which is not set"
    assert (code, f"card-risk: {about}\n" in text, "Restate" in text) == (1, True, False)
    assert "Set PENSTOCK_SEAL_KEY_OLD to the key that is not set" in text
    assert "rows are sealed under the key" in command("ledger", "check-seals", first.run_id)[1]


def test_an_export_is_compared_with_the_ledger(sealed: Sealed, tmp_path: Path) -> None:
    assert command("ledger", "seals") == (0, "no run is sealed\n")
    sealed.run()
    file = tmp_path / "seals.json"
    file.write_text(command("ledger", "seals", "card-risk", "--json")[1])
    assert len(json.loads(file.read_text())) == 2
    assert sealed.runs()[0].run_id[:8] in command("ledger", "seals")[1]
    assert command("ledger", "check-seals", "--against", str(file))[0] == 0
    lost = sealed.runs()[0].run_id
    tables = ("penstock_seals", "penstock_runs", "card_risk_scores__history")
    sealed.write(*(f"delete from {table} where run_id = :run" for table in tables), run=lost)

    assert command("ledger", "check-seals")[0] == 0  # nothing in the warehouse shows that the run was there
    code, text = command("ledger", "check-seals", "--against", str(file))

    assert code == 1
    assert f"run {lost[:8]}" in text
    assert "it is in the file, and not in the ledger" in text
    file.write_text("[1]")
    assert "is not a list of sealed runs" in command("ledger", "check-seals", "--against", str(file))[1]


def test_an_export_is_compared_after_a_rename_and_without_its_pipeline(sealed: Sealed, tmp_path: Path) -> None:
    sealed.run()
    file = tmp_path / "seals.json"
    file.write_text(command("ledger", "seals", "--json")[1])
    compare = ("ledger", "check-seals", "--against", str(file))
    spec = sealed.place.spec.rename(sealed.place.spec.with_name("card-danger.yaml"))
    spec.write_text(SEALED.replace("name: card-risk", "name: card-danger"))
    assert command(*compare)[1].count("no pipeline here has it") == 2
    code, text = command("ledger", "check-seals", "card-danger", *compare[2:])
    assert (code, "2 runs of other pipelines in the file not compared" in text) == (0, True)

    rename_pipeline(sealed.place.warehouse, "card-risk", load_pipeline(spec))
    same = command(*compare)
    sealed.write("update penstock_runs set seal_root = substr(seal_root, 1, 70) || '000'")

    assert same == (0, "card-danger: 2 sealed runs with 120 rows checked\nevery seal holds\n")
    assert command(*compare)[1].count("its root is another one than in the file") == 2


def test_check_seals_does_not_say_that_seals_hold_if_there_are_none(sealed: Sealed) -> None:
    sealed.place.spec.write_text(SPEC)
    sealed.run(1)

    [run] = sealed.runs()

    for which in ((), (run.run_id,)):
        code, text = command("ledger", "check-seals", *which)
        assert (code, text.splitlines()[-1]) == (0, "no sealed rows were checked")


def test_explain_says_whether_the_seal_holds(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed.run()
    sealed.write("update card_risk_scores__history set score = 0 where payment_id = 7")

    assert "Seal holds" in command("explain", "card-risk", "8")[1]
    assert json.loads(command("explain", "card-risk", "8", "--json")[1])["seal"] == "holds"
    assert "Seal does not hold: the row was changed after it was scored" in command("explain", "card-risk", "7")[1]
    monkeypatch.setenv("PENSTOCK_SEAL_KEY", OTHER.get_secret_value())
    assert "Seal not checked, because it is under the key" in command("explain", "card-risk", "8")[1]
    monkeypatch.delenv("PENSTOCK_SEAL_KEY")
    assert "Seal not checked, because PENSTOCK_SEAL_KEY is not set" in command("explain", "card-risk", "8")[1]


def test_the_run_card_shows_the_root(sealed: Sealed) -> None:
    sealed.run()
    run = sealed.runs()[0]

    card = run_card(sealed.place.warehouse, run.run_id)

    key_id, _, root = str(run.seal_root).partition(".")
    assert f"Sealed under the key `{key_id}`, root `{root}`" in card
    assert run.seal_root in json.dumps(json.loads(command("show", run.run_id, "--json")[1]))


def test_a_missing_key_is_named_by_every_command_that_needs_it(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed.run()
    assert "rows are sealed under the key" in command("check", "card-risk")[1]
    monkeypatch.setenv("PENSTOCK_SEAL_KEY", OTHER.get_secret_value())
    code, text = command("check", "card-risk")
    assert (code, "PENSTOCK_SEAL_KEY_OLD if it is the former one" in " ".join(text.split())) == (2, True)

    monkeypatch.delenv("PENSTOCK_SEAL_KEY")

    for words in (("check", "card-risk"), ("ledger", "check-seals"), ("forget", "card-risk", "7", "--yes")):
        monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "a secret of more than 16 characters")
        code, text = command(*words)
        assert code, words
        assert "PENSTOCK_SEAL_KEY is not set" in " ".join(text.split()), words


def test_the_doctor_names_missing_keys(sealed: Sealed) -> None:
    def states(**keys: Any) -> list[tuple[str, str]]:
        pipelines = (load_pipeline(sealed.place.spec),)
        context = CheckContext(SETTINGS.model_copy(update=keys), {}, START, pipelines=pipelines)
        return [(each.state, each.what) for each in check_keys(context)]

    assert states(seal_key=KEY) == [("ok", "those of private columns and of seals are set")]
    assert states() == [("broken", "`card-risk` seals its rows, and PENSTOCK_SEAL_KEY is not set")]


def test_the_ledger_must_have_the_roots_of_sealed_runs(sealed: Sealed) -> None:
    sealed.run()
    sealed.write("update penstock_seals set rows = rows + 1 where partition = 0")
    assert "each row of a sealed run is sealed" in command("ledger", "verify")[1]
    sealed.write("update penstock_runs set seal_root = null")
    assert "a sealed run has its root" in command("ledger", "verify")[1]
    with connect("warehouse").writing() as connection:
        connection.execute(sa.text("delete from penstock_seals"))
    assert command("ledger", "verify")[0] == 0
