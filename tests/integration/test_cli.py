"""The command line as people use it: what it prints, how it ends, and that a wrong input leaves nothing half-done."""

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
import xgboost as xgb
from pyarrow import csv, parquet
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.cli.run import command as running
from penstock.cli.run.flow_call import FlowEnd, call_score
from penstock.database.connections import Database
from penstock.ledger.reader import list_runs
from penstock.models.registry import Registry
from tests.conftest import DIALECTS, view_rows
from tests.shop import Place, payments
from tests.waiting import SECONDS

PENSTOCK = Path(sys.executable).with_name("penstock")
RANGE = ("--end", "2026-01-04")
LOG_SPEC = """
name: visits
interval: {column: time, grain: 1d, start: 2026-01-01T00:00:00Z}
sources:
  visits: {kind: log, path: logs/access.log*, format: combined}
model: card-risk@champion
destination: {table: visit_scores}
"""
LOG_LINE = '10.0.0.1 - ann [01/Jan/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 12 "-" "-"\n'


@dataclass(frozen=True)
class Ended:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


def invoke(*arguments: str, answer: str | None = None) -> Ended:
    """Run a command in this process."""
    result = CliRunner().invoke(app, list(arguments), input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


def call(*arguments: str) -> Ended:
    """Run the installed command, as a shell does."""
    done = subprocess.run([PENSTOCK, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def respec(place: Place, old: str, new: str) -> None:
    assert old in place.spec.read_text()
    place.spec.write_text(place.spec.read_text().replace(old, new))


def change(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(sa.text(statement))


def tables(database: Database) -> list[str]:
    with database.reading() as connection:
        names = sa.inspect(connection).get_table_names()
    return [name for name in names if not name.startswith("penstock_")]


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place(a_day=60)


@pytest.fixture(scope="module")
def ledgers() -> dict[str, bytes]:
    """Warehouse files by name: what took a run to make is made once."""
    return {}


@pytest.fixture
def scored(place: Place, prefect_api: str, ledgers: dict[str, bytes]) -> Place:
    """A place whose first interval is published with two rows in quarantine; the second is halted."""
    change(place.shop, "update payments set amount = null where payment_id in (3, 5)")
    change(place.shop, "update payments set amount = -1 where payment_id between 61 and 90")
    file = place.folder / "warehouse.sqlite"
    if not ledgers:
        ended = invoke("run", "card-risk.yaml", "--end", "2026-01-03")
        assert ended.exit_code == 3, ended.text
        ledgers["scored"] = file.read_bytes()
    file.write_bytes(ledgers["scored"])
    return place


# --- run ----------------------------------------------------------------------------------------


def test_run_publishes_what_is_due_and_a_second_run_finds_nothing_to_do(place: Place, prefect_api: str) -> None:
    first = call("run", "card-risk.yaml", *RANGE)
    second = call("run", "card-risk.yaml", *RANGE)

    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.count("published") == 3
    assert "✓ 2026-01-03 → 01-04  published  60 scored" in first.stdout
    assert len(view_rows(place.warehouse)) == 180
    assert (second.exit_code, second.stderr) == (0, "")
    assert second.stdout == "nothing to do: 3 intervals are published already\n"


@pytest.mark.slow
def test_run_without_a_configured_server_uses_its_own_and_leaves_none(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place("duckdb", "duckdb", a_day=60)
    place.warehouse.engine.dispose()  # DuckDB takes one process a file
    place.shop.engine.dispose()
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)

    ended = call("run", "card-risk.yaml", *RANGE)

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.count("published") == 3
    assert "incomplete" not in ended.stdout
    assert not (place.folder / ".penstock" / "prefect" / "server.json").exists()


def test_interrupted_run_ends_clean_and_the_ledger_says_so(place: Place, prefect_api: str) -> None:
    process = subprocess.Popen(
        [PENSTOCK, "run", "card-risk.yaml", *RANGE, "--partition-rows", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        while not list_runs(place.warehouse, states=("running",)):
            assert process.poll() is None
            time.sleep(0.1)

        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == 130
    assert "Traceback" not in errors
    assert [(run.state, run.error) for run in list_runs(place.warehouse)] == [
        ("failed", "cancelled before it was done: its process was stopped")
    ]


@pytest.mark.parametrize(("scored_days", "exit_code"), [(3, 0), (2, 1)])
def test_ledger_tells_how_a_run_ended_when_prefect_was_gone(
    place: Place, prefect_api: str, monkeypatch: pytest.MonkeyPatch, scored_days: int, exit_code: int
) -> None:
    def call_and_lose_the_answer(api_url: str, **parameters: Any) -> FlowEnd:
        call_score(api_url, **parameters | {"end": datetime(2026, 1, 1 + scored_days, tzinfo=UTC)})
        return FlowEnd(None, ConnectionRefusedError("the server is gone"))

    monkeypatch.setattr(running, "call_score", call_and_lose_the_answer)

    ended = invoke("run", "card-risk.yaml", *RANGE)

    assert ended.exit_code == exit_code
    assert ended.stdout.count("published  60") == scored_days
    assert "the server is gone" in ended.text
    assert ("all intervals are published" in ended.stdout) == (exit_code == 0)
    assert ("1 interval not scored" in ended.stderr) == (exit_code == 1)


def test_range_is_restated_on_demand_and_superseded_once(scored: Place) -> None:
    ended = invoke("run", "card-risk.yaml", "--start", "2026-01-01", "--end", "2026-01-02", "--restate")

    assert ended.exit_code == 0, ended.text
    assert sorted(run.state for run in list_runs(scored.warehouse)) == ["halted", "published", "superseded"]


def test_dry_run_and_plan_write_nothing(place: Place) -> None:
    plan = invoke("plan", "card-risk.yaml", *RANGE)
    dry = invoke("run", "card-risk.yaml", *RANGE, "--dry-run")

    assert dry == plan
    assert plan.exit_code == 0
    assert "2026-01-02 → 01-03" in plan.stdout
    assert list_runs(place.warehouse) == []


# --- what is wrong before anything starts -------------------------------------------------------


def spec_key(place: Place) -> None:
    respec(place, "lookback: 3", "lookbak: 3")


def spec_not_yaml(place: Place) -> None:
    place.spec.write_text("name: [card-risk\nsources: }{")


def spec_binary(place: Place) -> None:
    place.spec.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")


def table_missing(place: Place) -> None:
    respec(place, "table: payments", "table: payment")


def column_missing(place: Place) -> None:
    respec(place, "updated_column: updated_at", "updated_column: changed_at")


def connection_unset(place: Place) -> None:
    respec(place, "connection: shop", "connection: till")


def model_unknown(place: Place) -> None:
    respec(place, "card-risk@champion", "card-risk@champoin")


def model_changed(place: Place) -> None:
    file = place.registry.folder / "card-risk" / "1" / "model.ubj"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")


@pytest.mark.parametrize(
    ("damage", "exit_code", "culprit"),
    [
        (spec_key, 2, ["line 3", "lookbak", "Did you mean `lookback`?"]),
        (spec_not_yaml, 2, ["card-risk.yaml", "line 2", "not YAML"]),
        (spec_binary, 2, ["card-risk.yaml", "UTF-8"]),
        (table_missing, 1, ["`payment`", "Did you mean `payments`?"]),
        (column_missing, 1, ["`payments`", "`changed_at`"]),
        (connection_unset, 2, ["`till`", "PENSTOCK_CONNECTIONS__TILL"]),
        (model_unknown, 1, ["card-risk@champoin", "Did you mean `card-risk@champion`?"]),
        (model_changed, 1, ["card-risk/1", "digest"]),
    ],
)
def test_wrong_input_is_named_before_anything_starts(
    place: Place, damage: Callable[[Place], None], exit_code: int, culprit: list[str]
) -> None:
    damage(place)

    run, check = invoke("run", "card-risk.yaml", *RANGE), invoke("check", "card-risk.yaml")

    for ended in (run, check):
        assert ended.exit_code == exit_code, ended.text
        assert all(word in ended.text for word in culprit), ended.text
        assert "Traceback" not in ended.text
    assert run.stderr.startswith("Error: ")
    assert list_runs(place.warehouse) == []
    assert tables(place.warehouse) == []


def test_unreachable_database_is_named_and_its_password_is_not(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CONNECTIONS__SHOP", "postgresql+psycopg://ann:s3cret@127.0.0.1:1/shop")

    called = call("run", "card-risk.yaml", *RANGE)
    verbose = invoke("run", "card-risk.yaml", *RANGE, "--verbose")
    check = invoke("check", "card-risk.yaml")

    for ended in (called, verbose, check):
        assert ended.exit_code == 1
        assert "`shop` is not available" in ended.text
        assert "s3cret" not in ended.text
    assert called.stderr.startswith("Error: connection `shop`")
    assert len(called.stderr.splitlines()) == 1
    assert list_runs(place.warehouse) == []


def test_wrong_password_is_told_without_it(place: Place, postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = sa.make_url(postgres.get_uri("postgres")).set(
        drivername="postgresql+psycopg", username="eve", password="s3cret"
    )
    monkeypatch.setenv("PENSTOCK_CONNECTIONS__SHOP", url.render_as_string(hide_password=False))

    ended = invoke("run", "card-risk.yaml", *RANGE)

    assert ended.exit_code == 1
    assert "connection `shop` was refused" in ended.stderr
    assert "s3cret" not in ended.text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("run", "card-rusk"), "`card-rusk`"),
        (("run", "card-risk.yaml", "--start", "yesterday"), "yesterday"),
        (("run", "card-risk.yaml", "--restate"), "--start and --end"),
        (("run", "card-risk.yaml", *RANGE, "--model", "champion"), "name@alias"),
        (("runs", "card-rusk"), "`card-rusk`"),
        (("show", "abc"), "`abc`"),
        (("models", "register", "m", "gone.ubj", "--reference", "gone.csv"), "gone.csv"),
        (("runn",), "runn"),
    ],
)
def test_wrong_usage_ends_with_code_2(place: Place, arguments: tuple[str, ...], word: str) -> None:
    ended = invoke(*arguments)

    assert ended.exit_code == 2
    assert word in ended.stderr
    assert ended.stdout == ""


def test_setting_that_cannot_be_read_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_RUNNER", "hamsters:4")

    ended = invoke("run", "card-risk.yaml", *RANGE)

    assert ended.exit_code == 2
    assert "PENSTOCK_RUNNER" in ended.stderr


def test_traceback_is_shown_on_demand_only(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_DEBUG", "1")

    ended = invoke("run", "card-rusk")

    assert ended.exit_code == 2
    assert "Traceback" in ended.stderr


def test_log_path_that_matches_nothing_is_named(place: Place) -> None:
    place.spec.write_text(LOG_SPEC)

    for command in ("run", "check"):
        ended = invoke(command, "card-risk.yaml")
        assert ended.exit_code == 1
        assert "logs/access.log*" in ended.text
    assert list_runs(place.warehouse) == []


# --- what shows only while a run works ----------------------------------------------------------


def test_an_interval_whose_only_archive_is_cut_halts_and_names_it(place: Place, prefect_api: str) -> None:
    place.spec.write_text(LOG_SPEC)
    (place.folder / "logs").mkdir()
    packed = gzip.compress(LOG_LINE.encode() * 5000)
    (place.folder / "logs" / "access.log.1.gz").write_bytes(packed[: len(packed) - 20])

    ended, check = invoke("run", "card-risk.yaml", *RANGE), invoke("check", "card-risk.yaml")

    assert (ended.exit_code, check.exit_code) == (3, 1)
    assert "has no rows, and 1 archive is set aside: " in ended.stderr
    assert "access.log.1.gz" in ended.stderr
    assert "access.log.1.gz" in check.stdout
    assert {run.state for run in list_runs(place.warehouse)} == {"halted"}
    with place.warehouse.reading() as connection:
        assert connection.execute(sa.text("select count(*) from visits__visits")).scalar() == 0


def query_lacks_a_feature(place: Place) -> None:
    respec(place, "table: payments", "query: select payment_id, created_at, updated_at, amount, country from payments")


def key_not_unique(place: Place) -> None:
    doubled = "query: select * from payments union all select * from payments where payment_id in (7, 70, 130)"
    respec(place, "table: payments", doubled)


@pytest.mark.parametrize(
    ("damage", "exit_code", "state", "culprit"),
    [
        (query_lacks_a_feature, 1, "failed", ["card-risk/1", "`items`", "`first`"]),
        (key_not_unique, 3, "halted", ["`payment_id`", "not unique", "7 (2 rows)"]),
    ],
)
def test_run_that_fails_names_the_culprit_and_publishes_nothing(
    place: Place, prefect_api: str, damage: Callable[[Place], None], exit_code: int, state: str, culprit: list[str]
) -> None:
    damage(place)

    run, check = invoke("run", "card-risk.yaml", *RANGE), invoke("check", "card-risk.yaml")

    assert run.exit_code == exit_code, run.text
    assert all(word in run.stderr for word in culprit), run.stderr
    assert "Traceback" not in run.text
    assert {r.state for r in list_runs(place.warehouse)} == {state}
    assert check.exit_code == 1, check.text
    assert all(word in check.stdout for word in culprit), check.stdout


def test_empty_source_halts(place: Place, prefect_api: str) -> None:
    change(place.shop, "delete from payments")

    ended = invoke("run", "card-risk.yaml", *RANGE)

    assert ended.exit_code == 3, ended.text
    assert "halted" in ended.stdout
    halted = list_runs(place.warehouse)
    assert [run.state for run in halted] == ["halted"] * 3
    for run in halted:  # an empty interval can be accepted
        assert f"if the data are right, publish it: penstock accept {run.run_id[:8]} --reason" in ended.stdout


# --- check --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_check_finds_nothing_wrong_with_a_pipeline_that_runs(make_place: Callable[..., Place], dialect: str) -> None:
    place = make_place(dialect, dialect, a_day=60)

    ended = invoke("check", "card-risk.yaml")

    assert ended.exit_code == 0, ended.text
    assert "✗" not in ended.stdout
    assert "golden rows scored as registered" in ended.stdout
    assert invoke("plan", "card-risk.yaml", *RANGE).stdout.count("60") == 3
    assert tables(place.warehouse) == []


def test_check_tells_all_problems_of_a_pipeline(place: Place) -> None:
    respec(place, "column: amount, severity: warning", "column: amoun, severity: warning")
    respec(place, "@champion", "@nobody")
    respec(place, "keep: [amount, country]", "keep: [amount, county]")
    change(place.shop, "update payments set created_at = null where payment_id < 4")

    ended = invoke("check", "card-risk.yaml")

    assert ended.exit_code == 1
    problems = [line for line in ended.stdout.splitlines() if "✗" in line]
    for word in ("`amoun`", "card-risk@nobody", "`county`"):
        assert any(word in line for line in problems), ended.stdout
    assert "3 rows have no `created_at`" in ended.stdout


def test_check_without_a_name_takes_every_pipeline_of_the_folder(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PIPELINES", str(place.folder))
    (place.folder / "other.yaml").write_text("name: other\n")

    found = json.loads(invoke("check", "--json").stdout)

    assert [(entry["pipeline"], entry["exit_code"]) for entry in found] == [("card-risk", 0), ("other", 2)]


# --- listings -----------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_as_json(scored: Place) -> None:
    table, objects = invoke("runs"), json.loads(invoke("runs", "card-risk.yaml", "--json").stdout)

    assert table.exit_code == 0
    assert "2026-01-02 → 01-03  halted" in table.stdout
    assert max(map(len, table.stdout.splitlines())) <= 100
    assert [(run["state"], run["rows_quarantined"]) for run in objects] == [("halted", 30), ("published", 2)]
    assert objects[1]["interval_start"] == "2026-01-01T00:00:00Z"
    assert [run["state"] for run in json.loads(invoke("runs", "--state", "halted", "--json").stdout)] == ["halted"]


def test_runs_of_a_pipeline_whose_file_is_gone_are_still_listed(scored: Place) -> None:
    scored.spec.unlink()

    assert len(json.loads(invoke("runs", "card-risk", "--json").stdout)) == 2


def test_one_run_is_shown_with_all_that_the_ledger_knows(scored: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = next(run for run in list_runs(scored.warehouse) if run.state == "published")
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api")

    page, details = invoke("show", run.run_id[:8]), json.loads(invoke("show", run.run_id[:8], "--json").stdout)

    for word in (run.run_id, "quarantined", "column_values_to_not_be_null", "extract", "█", "median"):
        assert word in page.stdout
    assert f"http://prefect.example:4200/runs/flow-run/{run.flow_run_id}" in page.stdout
    assert max(map(len, page.stdout.splitlines())) <= 100
    assert details["rows_scored"] == 58
    assert details["quarantine"][0]["rows"] == 2
    assert set(details["step_seconds"]) == {"extract", "validate", "score", "load"}


def test_halted_run_shows_why(scored: Place) -> None:
    run = next(run for run in list_runs(scored.warehouse) if run.state == "halted")

    page = invoke("show", run.run_id)

    assert "Nothing was published" in " ".join(page.stdout.split())


def test_quarantine_is_counted_by_reason_and_its_rows_are_shown(scored: Place) -> None:
    run = next(run for run in list_runs(scored.warehouse) if run.state == "published")

    listed, objects = invoke("quarantine", "list"), json.loads(invoke("quarantine", "list", "--json").stdout)
    rows = json.loads(invoke("quarantine", "show", run.run_id[:8], "--json").stdout)
    one = json.loads(invoke("quarantine", "show", run.run_id[:8], "--row", rows[1]["row_number"], "--json").stdout)

    assert listed.exit_code == 0
    assert {entry["rows"] for entry in objects["counts"]} == {2, 30}
    assert [row["key"] for row in rows] == [{"payment_id": 3}, {"payment_id": 5}]
    assert rows[0]["row"]["amount"] is None
    assert one == rows[1:]


def test_withdraw_asks_first_and_takes_the_rows_out(scored: Place) -> None:
    run = next(run for run in list_runs(scored.warehouse) if run.state == "published")

    refused = invoke("withdraw", run.run_id[:8], answer="n\n")
    before = len(view_rows(scored.warehouse))
    done = invoke("withdraw", run.run_id[:8], "--yes")
    again = invoke("withdraw", run.run_id[:8], "--yes")

    assert (refused.exit_code, before) == (1, 58)
    assert (done.exit_code, view_rows(scored.warehouse)) == (0, [])
    assert again.exit_code == 2
    assert "withdrawn" in again.stderr


# --- models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_model_is_registered_promoted_and_listed(place: Place, form: str) -> None:
    file = place.registry.folder / "card-risk" / "1" / "model.ubj"
    rows = payments(days=1, a_day=50)
    write: Callable[[pa.Table, Path], None] = parquet.write_table if form == "parquet" else csv.write_csv
    write(rows, place.folder / f"rows.{form}")

    registered = invoke("models", "register", "card-risk", str(file), "--reference", f"rows.{form}")
    promoted = invoke("models", "promote", "card-risk", "2", "champion")
    listed = json.loads(invoke("models", "list", "--json").stdout)

    assert (registered.exit_code, promoted.exit_code) == (0, 0), registered.text + promoted.text
    assert "was card-risk/1" in promoted.stdout
    assert [(model["version"], model["aliases"]) for model in listed] == [("1", []), ("2", ["champion"])]
    assert "card-risk/2" in invoke("models", "list").stdout


def test_the_history_of_a_model_says_who_moved_its_aliases_and_why(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    file = place.registry.folder / "card-risk" / "1" / "model.ubj"
    parquet.write_table(payments(days=1, a_day=50), place.folder / "rows.parquet")
    invoke("models", "register", "card-risk", str(file), "--reference", "rows.parquet", "--alias", "challenger")
    invoke("models", "promote", "card-risk", "2", "champion", "--by", "Ada", "--note", "[bold]fewer[/] false alarms")

    shown = invoke("models", "history", "card-risk", "--timezone", "Europe/Berlin")
    moves = json.loads(invoke("models", "history", "card-risk", "--alias", "champion", "--json").stdout)
    never = invoke("models", "history", "card-risk", "--alias", "other")
    unknown = invoke("models", "history", "card-rusk")

    assert "moved at (Europe/Berlin)" in shown.stdout
    lines = [line.split() for line in shown.stdout.splitlines()[2:]]
    assert [line[2:5] for line in lines] == [["champion", "1", "2"], ["challenger", "–", "2"], ["champion", "–", "1"]]
    assert "[bold]fewer[/] false alarms" in shown.stdout
    assert [(move["by"], move["version"]) for move in moves] == [("Ada", "2"), ("", "1")]
    assert "alias `other` of card-risk was never moved" in never.stdout
    assert unknown.exit_code == 1
    assert "there is no model `card-rusk`" in unknown.stderr


def train_on_payments(folder: Path) -> pa.Table:
    """Train as somebody without Penstock would, with -999 for a missing amount and a base margin."""
    rows = payments(days=1, a_day=200).select(["amount", "items", "country"])
    amounts = np.where(np.arange(200) % 3, rows["amount"].to_numpy(), -999.0)
    rows = rows.set_column(0, "amount", pa.array(amounts)).append_column("offset", pa.array(np.sin(amounts)))
    frame = rows.select(["amount", "items"]).to_pandas()
    matrix = xgb.DMatrix(frame, amounts > 20, missing=-999, base_margin=np.sin(amounts))
    booster = xgb.train({"objective": "binary:logistic", "seed": 1}, matrix, 6)
    booster.save_model(folder / "model.json")
    return rows.append_column("predicted", pa.array(booster.predict(matrix).astype(float)))


@pytest.mark.parametrize("where", ["column", "parquet", "csv"])
def test_a_model_is_registered_with_what_its_file_does_not_tell(place: Place, where: str) -> None:
    rows = train_on_payments(place.folder)
    if where == "column":
        parquet.write_table(rows, place.folder / "rows.parquet")
    else:
        parquet.write_table(rows.drop_columns(["predicted"]), place.folder / "rows.parquet")
        outputs = rows.select(["predicted"])
        write: Callable[[pa.Table, Path], None] = parquet.write_table if where == "parquet" else csv.write_csv
        write(outputs, place.folder / f"outputs.{where}")
    register = ("models", "register", "offset", "model.json", "--reference", "rows.parquet")
    expected = ("--expected", "predicted" if where == "column" else f"outputs.{where}")

    bare = invoke(*register)
    wrong = invoke(*register, *expected, "--missing", "-999")
    right = invoke(*register, *expected, "--missing", "-999", "--base-margin", "offset", "--iterations", "6")

    assert (bare.exit_code, wrong.exit_code, right.exit_code) == (0, 1, 0), bare.text + right.text
    assert "not verified: missing value, base margin, link and rounds" in bare.stdout
    assert "differ from the expected ones in" in wrong.stderr
    assert "verified: 200 reference rows score as expected" in right.stdout
    listed = [model for model in json.loads(invoke("models", "list", "--json").stdout) if model["name"] == "offset"]
    assert [model["verified_rows"] for model in listed] == [None, 200]
    assert (listed[1]["missing"], listed[1]["base_margin"], listed[1]["rounds"]) == (-999, ["offset"], 6)
    assert [line.split()[-3] for line in invoke("models", "list").stdout.splitlines() if "offset/" in line] == [
        "no",
        "rows",
    ]


def test_a_file_without_names_is_registered_with_rows_of_a_compressed_csv(place: Place) -> None:
    frame = payments(days=1, a_day=50).select(["amount", "items"]).to_pandas()
    matrix = xgb.DMatrix(frame.to_numpy(), frame["amount"] > 20)
    booster = xgb.train({"objective": "binary:logistic", "seed": 1}, matrix, 4)
    booster.save_model(place.folder / "model.ubj")
    frame = frame.assign(predicted=booster.predict(matrix), note="NA")
    frame.to_csv(place.folder / "rows.csv.gz", index=False)
    (place.folder / "names.txt").write_text("amount\nitems\n")
    register = ("models", "register", "bare", "model.ubj", "--reference", "rows.csv.gz", "--expected", "predicted")

    bare = invoke(*register)
    named = invoke(*register, "--features", "names.txt")

    assert (bare.exit_code, named.exit_code) == (1, 0), bare.text + named.text
    assert "2 features without names, and the reference rows have 3 columns" in bare.stderr
    assert "verified: 50 reference rows score as expected" in named.stdout
    assert place.registry.manifest("bare", "1").feature_names == ("amount", "items")


def test_registration_says_how_many_reference_rows_cannot_be_scored(place: Place) -> None:
    file = place.registry.folder / "card-risk" / "1" / "model.ubj"
    rows = payments(days=1, a_day=50)
    countries = pa.array(["XX", *rows["country"].to_pylist()[1:]])
    rows = rows.set_column(rows.column_names.index("country"), "country", countries)
    parquet.write_table(rows, place.folder / "rows.parquet")

    refused = invoke("models", "register", "card-risk", str(file), "--reference", "rows.parquet")
    allowed = invoke(
        "models", "register", "card-risk", str(file), "--reference", "rows.parquet", "--max-unscorable", "0.02"
    )

    assert (refused.exit_code, allowed.exit_code) == (1, 0)
    assert "cannot score 1 of 50 reference rows" in refused.stderr
    assert "1 of 50 reference rows cannot be scored" in allowed.stdout


def test_pickle_is_refused_as_a_model_and_not_stored(place: Place) -> None:
    (place.folder / "model.ubj").write_bytes(pickle.dumps({"a": 1}))
    csv.write_csv(payments(days=1, a_day=50), place.folder / "rows.csv")

    ended = invoke("models", "register", "risky", "model.ubj", "--reference", "rows.csv")

    assert ended.exit_code == 1
    assert "`risky`" in ended.stderr
    assert "pickle" in ended.stderr.lower()
    assert Registry(place.registry.folder).names() == ("card-risk",)


def test_unreadable_reference_rows_are_named(place: Place) -> None:
    (place.folder / "rows.parquet").write_bytes(b"no parquet")
    file = place.registry.folder / "card-risk" / "1" / "model.ubj"

    ended = invoke("models", "register", "card-risk", str(file), "--reference", "rows.parquet")

    assert ended.exit_code == 2
    assert "rows.parquet" in ended.stderr
    assert place.registry.versions("card-risk") == ("1",)


def test_promotion_of_an_unknown_version_changes_nothing(place: Place) -> None:
    ended = invoke("models", "promote", "card-risk", "9", "champion")

    assert ended.exit_code == 1
    assert "card-risk@9" in ended.stderr
    assert place.registry.aliases("card-risk") == {"champion": "1"}
