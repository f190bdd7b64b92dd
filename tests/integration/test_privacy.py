"""Private columns: their values reach the features and the model, and no other place where Penstock writes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.cli.app import app
from penstock.database.connections import Database
from penstock.errors import SettingsError
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import list_runs, validations_of
from penstock.privacy.masking import make_masking
from penstock.report.card import run_card
from penstock.settings import load_settings
from penstock.spec.yaml_file import load_pipeline
from tests.conftest import view_rows
from tests.integration.test_quarantine import change, invoke, published, run_score
from tests.shop import SPEC, Place

pytestmark = pytest.mark.usefixtures("prefect_api")

SECRET = "a long random text, known to nobody"
CANARY = "canary.example"
UPDATED = "    updated_column: updated_at\n"
GATES = """  payments:
    - {type: expect_column_values_to_match_regex, column: email, regex: '^[a-z]+[0-9]+@', severity: warning}
    - {type: expect_column_distinct_values_to_be_in_set, column: email, value_set: [x], severity: info}
"""
PRIVATE_SPEC = SPEC.replace(UPDATED, f"{UPDATED}    private: {{email: hash, first: drop}}\n").replace(
    "expectations:\n  payments:\n", f"expectations:\n{GATES}"
)


def tell_all(database: Database) -> str:
    """Return everything that the warehouse holds, as text."""
    with database.reading() as connection:
        names = sa.inspect(connection).get_table_names()
        tables = {name: connection.execute(sa.text(f'select * from "{name}"')).all() for name in names}
    return "\n".join(f"{name}: {row}" for name, rows in tables.items() for row in rows)


@pytest.fixture
def private_place(make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Place]:
    """Payments with the payers' addresses: two that a gate refuses, one with an unseen country."""

    def make(dialect: str = "sqlite", spec: str = PRIVATE_SPEC) -> Place:
        monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", SECRET)
        place = make_place(dialect, dialect, a_day=60, spec=spec)
        change(place.shop, "alter table payments add column email varchar(80)")
        change(place.shop, f"update payments set email = 'ann' || payment_id || '@{CANARY}'")
        change(place.shop, f"update payments set email = 'BOB@{CANARY}' where payment_id in (3, 4)")
        change(place.shop, "update payments set country = 'Ruritania' where payment_id = 5")
        return place

    return make


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "duckdb"])
def test_private_values_stand_nowhere_in_the_warehouse_the_logs_and_the_run_card(
    private_place: Callable[..., Place], caplog: pytest.LogCaptureFixture, dialect: str
) -> None:
    place = private_place(dialect)

    state = run_score(place, end="2026-01-02")

    assert state.is_completed(), state.message
    [run] = list_runs(place.warehouse)
    written = tell_all(place.warehouse) + caplog.text + run_card(place.warehouse, run.run_id)
    assert CANARY not in written
    rows = [json.loads(row.row) for row in quarantined_rows(place.warehouse)]
    assert len(rows) == 3
    assert all("first" not in row and row["email"].startswith("hash:") for row in rows)
    assert rows[0]["email"] == rows[1]["email"] != rows[2]["email"]
    details = {v.detail for v in validations_of(place.warehouse, run.run_id) if v.expectation.startswith("email")}
    assert details == {"2 of 60 rows", "observed (private)"}
    assert len(view_rows(place.warehouse)) == 57


def test_a_private_key_is_hashed_in_the_ledger_and_still_found(private_place: Callable[..., Place]) -> None:
    place = private_place(spec=PRIVATE_SPEC.replace("{email: hash", "{payment_id: hash, email: hash"))
    change(place.shop, "update payments set payment_id = payment_id + 770000000")

    run_score(place, end="2026-01-02")
    run_score(place, end="2026-01-02")
    runs = list_runs(place.warehouse)
    told = tell_all(place.warehouse)
    ledger = "\n".join(line for line in told.splitlines() if not line.startswith("card_risk_scores__history"))
    invoke("quarantine", "release", "card-risk.yaml", "--key", "770000003", "--yes")

    assert len(runs) == 1
    assert "7700000" not in ledger
    assert 770000003 in {row[0] for row in view_rows(place.warehouse)}
    assert "7700000" not in run_card(place.warehouse, published(place)[0].run_id)


def test_a_private_feature_hides_the_unseen_category(private_place: Callable[..., Place]) -> None:
    spec = PRIVATE_SPEC.replace("keep: [amount, country]", "keep: [amount]").replace("first: drop", "country: hash")
    place = private_place(spec=spec)

    run_score(place, end="2026-01-02")

    assert "Ruritania" not in tell_all(place.warehouse)
    reasons = {row.reasons for row in quarantined_rows(place.warehouse) if row.stage == "model"}
    assert reasons == {("`country`: unseen category (private)",)}


@pytest.mark.parametrize(
    ("spoil", "features"),
    [
        ("", "select *, cast(email as integer) as n from payments"),
        ("", "select *, strptime(email, '%d.%m.%Y') as n from payments"),
        ("", "select p.* from payments p join (values (1), (2)) t(n) on true"),
        ("update payments set payment_id = 1", ""),
    ],
    ids=["cast", "a function of a value", "two rows for a key", "key not unique"],
)
def test_errors_about_private_values_do_not_quote_them(
    private_place: Callable[..., Place], caplog: pytest.LogCaptureFixture, spoil: str, features: str
) -> None:
    spec = PRIVATE_SPEC.replace("{email: hash", "{payment_id: hash, email: hash")
    place = private_place(spec=spec + (f"features: {features}\n" if features else ""))
    change(place.shop, "create table twice as select * from payments")
    if spoil:
        change(place.shop, "update twice set payment_id = 770000001")
        place.spec.write_text(place.spec.read_text().replace("table: payments", "table: twice"))
    else:
        change(place.shop, "update payments set payment_id = payment_id + 770000000")

    state = run_score(place, end="2026-01-02")

    assert state.is_failed()
    assert "(private)" in state.message
    [run] = list_runs(place.warehouse)
    written = f"{state.message} {run.error} {caplog.text} {tell_all(place.warehouse)}"
    assert CANARY not in written
    assert "7700000" not in written


def test_without_the_secret_a_pipeline_with_private_columns_is_refused(
    private_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    place = private_place()
    monkeypatch.delenv("PENSTOCK_PRIVATE_KEY")

    ended = CliRunner().invoke(app, ["run", "card-risk.yaml", "--end", "2026-01-02"])

    assert ended.exit_code == 2
    assert "PENSTOCK_PRIVATE_KEY" in ended.stderr
    assert "openssl rand -hex 32" in ended.stderr
    assert list_runs(place.warehouse) == []
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "short")
    with pytest.raises(SettingsError, match="fewer than 16"):
        make_masking(load_pipeline(place.spec), load_settings())


def test_unreadable_lines_of_a_private_log_are_kept_by_their_place_only(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str], tmp_path: Any
) -> None:
    from penstock.database.connections import open_database
    from penstock.sources.logs.landing import land_lines
    from penstock.spec.sources import LogSource

    warehouse = open_database(use_settings(warehouse=database_url("sqlite", "warehouse")), "warehouse")
    good = '10.0.0.1 - ann [01/Jan/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 12 "-" "-"\n'
    (tmp_path / "access.log").write_text(good + f"bob@{CANARY} is no line\n")
    source = LogSource(kind="log", path=str(tmp_path / "access.log"), format="combined", private={"user": "hash"})

    landed = land_lines("card-risk", "visits", source, warehouse, ())

    assert (landed.lines, landed.malformed) == (1, 1)
    assert CANARY not in tell_all(warehouse)


def test_check_tells_of_a_missing_secret_and_does_not_quote_private_values(
    private_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    spec = PRIVATE_SPEC.replace("keep: [amount, country]", "keep: [amount]").replace("first: drop", "country: hash")
    private_place(spec=spec)

    told = CliRunner().invoke(app, ["check", "card-risk.yaml"]).output
    monkeypatch.delenv("PENSTOCK_PRIVATE_KEY")
    without = CliRunner().invoke(app, ["check", "card-risk.yaml"])

    assert "Ruritania" not in told
    assert CANARY not in told
    assert "PENSTOCK_PRIVATE_KEY" in without.output
    assert without.exit_code != 0
