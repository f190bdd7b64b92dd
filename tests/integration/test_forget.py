"""Forgetting a subject: gone from every run's rows, once, and with a record that does not name it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.ledger.tables import forgotten
from tests.conftest import DIALECTS, view_rows
from tests.integration.test_privacy import SECRET, tell_all
from tests.integration.test_quarantine import change, invoke, run_score
from tests.shop import SPEC, Place

pytestmark = pytest.mark.usefixtures("prefect_api")

LINE = '10.0.0.{n} - {user} [01/Jan/2026:10:00:00 +0000] "GET /{n} HTTP/1.1" 200 12 "-" "-"\n'
VISITS = "  visits: {kind: log, path: logs/access.log, format: combined, max_malformed: 1}\n"
WITH_LOG = SPEC.replace("expectations:\n", f"{VISITS}expectations:\n")


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", SECRET)


def shifted_place(make_place: Callable[..., Place], dialect: str, spec: str = SPEC) -> Place:
    """One day of payments whose keys no other number resembles; two are refused; scored twice."""
    place = make_place(dialect, dialect, a_day=60, spec=spec)
    change(place.shop, "update payments set payment_id = payment_id + 770000000")
    change(place.shop, "update payments set amount = -5 where payment_id in (770000003, 770000004)")
    run_score(place, end="2026-01-02")
    run_score(place, mode="restate", start="2026-01-01", end="2026-01-02")
    return place


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_forgotten_key_is_gone_from_the_rows_of_every_run(make_place: Callable[..., Place], dialect: str) -> None:
    place = shifted_place(make_place, dialect)
    before = len(view_rows(place.warehouse))

    scored = invoke("forget", "card-risk.yaml", "770000001", "--yes")
    refused = invoke("forget", "card-risk.yaml", "770000003", "--yes")

    told = tell_all(place.warehouse)
    assert "770000001" not in told
    assert "770000003" not in told
    assert "770000002" in told
    assert "770000004" in told
    assert (before, len(view_rows(place.warehouse))) == (58, 57)
    assert "card_risk_scores__history" in scored
    assert "penstock_quarantine" in refused
    with place.warehouse.reading() as connection:
        records = connection.execute(sa.select(forgotten).order_by(forgotten.c.forgotten_at)).mappings().all()
    assert [json.loads(r["counts"])["card_risk_scores__history"] for r in records] == [2, 0]
    assert all(r["subject_hash"].startswith("hash:") for r in records)


def test_a_dry_run_counts_and_removes_nothing(make_place: Callable[..., Place]) -> None:
    place = shifted_place(make_place, "sqlite")
    before = tell_all(place.warehouse)

    told = invoke("forget", "card-risk.yaml", "770000001", "--dry-run")

    assert told.splitlines()[2].split() == ["card_risk_scores__history", "2"]
    assert tell_all(place.warehouse) == before


def test_forgetting_asks_first_and_says_that_the_source_must_forget(make_place: Callable[..., Place]) -> None:
    place = shifted_place(make_place, "sqlite")
    before = tell_all(place.warehouse)

    ended = CliRunner().invoke(app, ["forget", "card-risk.yaml", "770000001"], input="n\n")

    assert ended.exit_code == 1
    assert "Delete the rows at the source first" in ended.stdout
    assert tell_all(place.warehouse) == before


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_value_of_a_log_is_forgotten_in_landed_and_in_unreadable_lines(
    make_place: Callable[..., Place], dialect: str, tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    users = ["ann", "bob", "annika", "ann"]
    lines = [LINE.format(n=n, user=user) for n, user in enumerate(users)]
    (tmp_path / "logs" / "access.log").write_text("".join([*lines, "ann broke this line\n", "planning broke this\n"]))
    place = shifted_place(make_place, dialect, WITH_LOG)

    told = invoke("forget", "card-risk.yaml", "--where", "visits.user=ann", "--yes")
    run_score(place, mode="restate", start="2026-01-01", end="2026-01-02")

    with place.warehouse.reading() as connection:
        left = connection.execute(sa.text('select line from card_risk__visits order by "offset"')).scalars().all()
        broken = connection.execute(sa.text("select line from penstock_log_lines")).scalars().all()
    assert left == [lines[1].rstrip("\n"), lines[2].rstrip("\n")]
    assert broken == ["planning broke this"]
    assert "card_risk__visits" in told


def test_a_log_line_that_was_scored_is_forgotten_with_its_score(
    make_place: Callable[..., Place], tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "access.log").write_text(
        "".join(LINE.format(n=n, user=user) for n, user in enumerate(["ann", "bob"]))
    )
    spec = """
name: card-risk
interval: {column: time, grain: 1d, start: 2026-01-01T00:00:00Z}
sources:
  visits: {kind: log, path: logs/access.log, format: combined}
features: select _row_id, 1.0 as amount, 2 as items, 'DE' as country, true as first from visits
model: card-risk@champion
destination: {connection: warehouse, table: card_risk_scores}
"""
    place = make_place(a_day=10, spec=spec)
    assert run_score(place, end="2026-01-02").is_completed()

    invoke("forget", "card-risk.yaml", "--where", "visits.user=ann", "--yes")

    with place.warehouse.reading() as connection:
        rows = connection.execute(sa.text("select count(*) from card_risk_scores__history")).scalar_one()
    assert rows == 1


def test_a_source_that_is_not_there_is_named(make_place: Callable[..., Place]) -> None:
    make_place(a_day=10)

    ended = CliRunner().invoke(app, ["forget", "card-risk.yaml", "--where", "payment.email=x", "--dry-run"])

    assert ended.exit_code == 2
    assert "no source `payment`. Did you mean `payments`?" in ended.stderr
