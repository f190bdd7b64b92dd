"""Changes to a pipeline that runs. Each row of docs/changing.md is a test here: the plan, the run, and the view."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from pyarrow import parquet

from penstock.database.connections import open_database
from penstock.errors import (
    DestinationTaken,
    Halted,
    OverlappingRuns,
)
from penstock.interval import iso
from penstock.models.registry import Registry
from penstock.settings import Settings
from tests.changing_place import ChangingPlace, end_of, fill_shop, keys, payments, train_models
from tests.conftest import DIALECTS

EVERYWHERE = pytest.mark.parametrize("place", DIALECTS, indirect=True)
"""For changes that touch types, schemas or views."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_models(tmp_path_factory.mktemp("models")).folder


@pytest.fixture
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_settings: Callable[..., Settings],
    database_url: Callable[[str, str], str],
) -> Iterator[ChangingPlace]:
    """A pipeline that has scored three days. Its ledger must be whole after the test."""
    dialect = getattr(request, "param", "sqlite")
    connections = {name: database_url(dialect, name) for name in ("shop", "warehouse")}
    settings = use_settings(**connections)
    shop = open_database(settings, "shop")
    fill_shop(shop)
    shutil.copytree(models, settings.models_folder)
    registry = Registry(settings.models_folder)
    here = ChangingPlace(tmp_path, settings, shop, registry, monkeypatch, use_settings, database_url, connections)
    assert here.run(3) == ["published 2026-01-01 → 01-02", "published 2026-01-02 → 01-03", "published 2026-01-03 → 01-04"]
    yield here
    here.verify()


def due(*labels: str) -> list[tuple[str, str]]:
    return [(label, "due") for label in labels]


# --- intervals ----------------------------------------------------------------------------------


def test_grain_finer(place: ChangingPlace) -> None:
    before = place.view("score", "run_id")

    place.edit("grain: 1d", "grain: 12h")

    print(place.plan(4))
    print(place.run(4))
    print(place.view("interval_start"))
    assert place.view("score", "run_id")[:12] == before
    print(place.refused_plan(4, "--start", "2026-01-01", "--end", "2026-01-01T12:00", "--restate"))
    print(place.run(4, "restate", "2026-01-01T00:00", "2026-01-02T00:00"))
    print(place.view("interval_start"))


def test_grain_coarser(place: ChangingPlace) -> None:
    place.edit("grain: 1d", "grain: 2d")

    print(place.plan(3))
    print(place.plan(4))
    print(place.run(4))
    print(place.states())
    assert place.view() == keys(1, 2, 3, 4)


def test_start_earlier(place: ChangingPlace) -> None:
    place.change("update payments set created_at = '2025-12-31 03:00:00.000000' where payment_id = 11")
    place.edit("start: 2026-01-01", "start: 2025-12-30")
    print(place.plan(3))
    print(place.run(3))
    print(place.view("interval_start"))


def test_start_later(place: ChangingPlace) -> None:
    place.edit("start: 2026-01-01", "start: 2026-01-03")
    print(place.plan(4))
    print(place.run(4))
    print(place.view())


def test_start_inside(place: ChangingPlace) -> None:
    place.edit("start: 2026-01-01T00", "start: 2025-12-31T18")
    print(place.refused_plan(4))
    print(place.refused_run(4, OverlappingRuns))
    print(place.view())
    print(place.run(4.75, "restate", "2025-12-31T18:00", "2026-01-04T18:00"))
    print(place.view("interval_start"))


def test_calendar(place: ChangingPlace) -> None:
    place.edit("grain: 1d, start: 2026-01-01T00:00:00Z", "grain: 1d, timezone: Europe/Berlin, start: 2026-01-01")
    print(place.refused_plan(4))
    print(place.refused_run(4, OverlappingRuns))
    print(place.run(4, "restate", "2026-01-01", "2026-01-05"))
    print(place.states())
    print(place.view("interval_start"))


def test_week(place: ChangingPlace) -> None:
    place.edit("grain: 1d, start: 2026-01-01T00:00:00Z", "grain: week, start: 2025-12-29")
    print(place.plan(3))
    print(place.plan(4))
    print(place.run(4))
    print(place.states())


def test_delay(place: ChangingPlace) -> None:
    place.edit("lookback: 1", "lookback: 1, delay: 12h")
    print(place.plan(4))
    print(place.plan(4.5))
    print(place.run(4.5))


def test_column(place: ChangingPlace) -> None:
    place.change("update payments set updated_at = '2026-01-04 10:00:00.000000' where payment_id = 12")
    place.edit("column: created_at", "column: updated_at")
    print(place.plan(4))
    print(place.run(4))
    print(place.view("interval_start"))


# --- 

@EVERYWHERE
def test_key(place: ChangingPlace) -> None:
    place.edit("key: [payment_id]", "key: [payment_id, country]")
    place.edit("keep: [amount, country]", "keep: [amount]")
    print(place.plan(4))
    print(place.run(4))
    print(place.view())


@EVERYWHERE
def test_keep(place: ChangingPlace) -> None:
    place.edit("keep: [amount, country]", "keep: [amount, items]")
    print(place.plan(4))
    print(place.run(4))
    print(place.view("amount", "items", "country"), place.columns())


@EVERYWHERE
def test_keep_case(place: ChangingPlace) -> None:
    place.edit("keep: [amount, country]", "keep: [Amount, country]")
    print(place.plan(4))
    print(place.run(4))
    print(place.columns())


@EVERYWHERE
def test_table(place: ChangingPlace) -> None:
    place.edit("table: card_risk_scores", "table: other_scores")
    print(place.plan(4))
    print(place.run(4))
    print(place.view(), place.view(table="other_scores"))


@EVERYWHERE
def test_table_case(place: ChangingPlace) -> None:
    place.edit("table: card_risk_scores", "table: Card_risk_scores")
    print(place.plan(4))
    print(place.run(4))
    print(place.view(), place.view(table='"Card_risk_scores"'))


@EVERYWHERE
def test_schema(place: ChangingPlace) -> None:
    place.edit("table: card_risk_scores", "schema: risk, table: card_risk_scores")
    try:
        print(place.plan(4))
        print(place.run(4))
    except Exception as e:
        print(type(e), e)
    if place.warehouse.dialect == "sqlite":
        return
    with place.warehouse.writing() as c:
        c.execute(sa.text("create schema risk"))
    print(place.plan(4))
    print(place.run(4))
    print(place.view(), place.view(table="risk.card_risk_scores"))


@EVERYWHERE
def test_connection(place: ChangingPlace) -> None:
    old = place.warehouse
    place.move("lake", place.warehouse.dialect)
    place.edit("connection: warehouse", "connection: lake")
    print(place.plan(4))
    print(place.run(4))
    print(place.view())


def test_name(place: ChangingPlace) -> None:
    place.edit("name: card-risk", "name: payment-risk")
    print(place.refused_plan(4))
    print(place.refused_run(4, DestinationTaken))


def test_model_version(place: ChangingPlace) -> None:
    place.registry.promote("card-risk", "2", "champion")
    print(place.plan(4))
    print(place.run(4))
    print(place.view("model_version"))


def test_model_name(place: ChangingPlace) -> None:
    place.edit("card-risk@champion", "small-risk@champion")
    print(place.plan(4))
    print(place.run(4))
    print(place.view("model_name"))


@EVERYWHERE
def test_model_classes(place: ChangingPlace) -> None:
    place.edit("card-risk@champion", "class-risk@champion")
    print(place.plan(4))
    print(place.run(4))
    print(place.columns(), place.view("score"))


def test_features(place: ChangingPlace) -> None:
    place.spec.write_text(place.spec.read_text() + "features: select *, amount * 2 as amount2 from payments\n")
    place.edit("keep: [amount, country]", "keep: [amount, amount2]")
    print(place.plan(4))
    print(place.run(4))
    print(place.columns(), place.view("amount2"))


@EVERYWHERE
def test_files(place: ChangingPlace) -> None:
    parquet.write_table(payments(), place.folder / "payments.parquet")
    place.edit("{kind: sql, connection: shop, table: payments, key: [payment_id], updated_column: updated_at}", "{kind: files, path: payments.parquet, format: parquet, key: [payment_id]}")
    print(place.plan(4))
    print(place.run(4))
    print(place.states(), place.view())


@EVERYWHERE
def test_source_table(place: ChangingPlace) -> None:
    place.change("create table payments2 as select * from payments where payment_id <> 11 and payment_id <> 32")
    place.edit("table: payments,", "table: payments2,")
    print(place.plan(4))
    print(place.run(4))
    print(place.states(), place.view())


def test_source_query(place: ChangingPlace) -> None:
    place.edit("table: payments,", "query: select * from payments where amount > 15,")
    print(place.plan(4))
    print(place.run(4))
    print(place.states(), place.view())


@EVERYWHERE
def test_column_added(place: ChangingPlace) -> None:
    place.change("alter table payments add column note text")
    print(place.plan(4))
    print(place.run(4))
    print(place.columns())
    place.edit("keep: [amount, country]", "keep: [amount, country, note]")
    print(place.run(5))
    print(place.columns(), place.view("note"))


@EVERYWHERE
def test_column_renamed(place: ChangingPlace) -> None:
    place.change("alter table payments rename column items to pieces")
    print(place.plan(4))
    print(place.run(4))
    print(place.command("check", str(place.spec), "--accept"))
    print(place.run(4))


@EVERYWHERE
def test_column_dropped(place: ChangingPlace) -> None:
    place.change('alter table payments drop column "first"')
    print(place.plan(4))
    print(place.run(4))
    place.change('alter table payments drop column updated_at')
    try:
        print(place.plan(5))
    except AssertionError as e:
        print(e)
    try:
        print(place.run(5))
    except Halted as e:
        print(e)


@EVERYWHERE
def test_column_retyped(place: ChangingPlace) -> None:
    place.change("alter table payments add column t text", "update payments set t = cast(amount as text)", "alter table payments drop column amount", "alter table payments rename column t to amount")
    print(place.plan(4))
    print(place.run(4))
    print(place.command("check", str(place.spec), "--accept"))
    print(place.run(4))
    print(place.view())


@EVERYWHERE
def test_decide(place: ChangingPlace) -> None:
    place.spec.write_text(place.spec.read_text() + "decide: {verdict: \"case when score > 0.5 then 'block' else 'pass' end\"}\n")
    print(place.plan(4))
    print(place.run(4))
    print(place.columns(), place.view("verdict"))
    place.edit("'block' else 'pass'", "1 else 0")
    print(place.run(5))


def test_partition_rows(place: ChangingPlace) -> None:
    before = place.view("score", "run_id")
    place.spec.write_text(place.spec.read_text() + "partition_rows: 2\n")
    print(place.plan(4))
    print(place.run(4))
    assert place.view("score", "run_id")[:12] == before


def test_limit(place: ChangingPlace) -> None:
    place.change("update payments set amount = -1 where payment_id in (41)")
    place.spec.write_text(place.spec.read_text() + "expectations: {payments: [{type: expect_column_values_to_be_between, column: amount, min_value: 0, severity: warning}]}\n")
    print(place.plan(4))
    print(place.run(4))
    place.spec.write_text(place.spec.read_text() + "quarantine_limit: 0.5\n")
    print(place.plan(4))
    print(place.run(4))
    print(place.view())


@EVERYWHERE
def test_snapshot(place: ChangingPlace) -> None:
    line = place.spec.read_text().splitlines()[2]
    place.edit(line + "\n", "")
    print(place.plan(4))
    print(place.run(4))
    print(place.states(), place.view("interval_start"))
    place.edit("name: card-risk\n", f"name: card-risk\n{line}\n")
    print(place.refused_plan(4))
    print(place.refused_run(4, OverlappingRuns))


def test_private(place: ChangingPlace) -> None:
    place.edit("updated_column: updated_at}", "updated_column: updated_at, private: {country: hash, payment_id: hash}}")
    place.monkeypatch.setenv("PENSTOCK_HASH_KEY", "x" * 40)
    try:
        print(place.plan(4))
    except Exception as e:
        print(e)
