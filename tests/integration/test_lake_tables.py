"""Tables in a lake: a run reads the version that was the newest when it was planned."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.ledger.reader import list_runs, validations_of
from penstock.report.card import run_card
from penstock.run_types import ExtractedRows, Partition, ScoringRun
from penstock.scoring_steps import ScoringSteps
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import view_rows
from tests.driver import STAGING, Driver, lapse_leases
from tests.lake import KINDS, DeltaLake, IcebergLake, Kind, Lake
from tests.shop import START, Place, payments

DAYS = 3
A_DAY = 40
NOW = START + timedelta(days=DAYS)
ROWS = payments(days=DAYS, a_day=A_DAY).drop_columns(["updated_at"])
SPEC: dict[str, Any] = {
    "name": "card-risk",
    "interval": {"column": "created_at", "grain": "1d", "start": "2026-01-01T00:00:00Z", "lookback": 3},
    "model": "card-risk@champion",
    "destination": {"connection": "warehouse", "table": "card_risk_scores", "keep": ["amount", "country"]},
    "partition_rows": 15,
}
MakeLake = Callable[..., tuple[Lake, Place, Driver]]


@pytest.fixture
def make_lake(
    make_place: Callable[..., Place],
    use_settings: Callable[..., Any],
    database_url: Callable[[str, str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[MakeLake]:
    """Write three days into a table, a commit each, and a pipeline over it that reads a day in three partitions."""
    made: list[Lake] = []

    def make(kind: Kind, catalog: str = "sqlite", spec: dict[str, Any] | None = None, **more: Any) -> Any:
        place = make_place(spec="", days=1, a_day=20)
        lake: Lake = DeltaLake(tmp_path / "lake")
        if kind == "iceberg":
            url = database_url(catalog, "catalog")
            lake = IcebergLake(tmp_path / "lake", url)
            monkeypatch.setenv("PENSTOCK_CONNECTIONS__CATALOG", url)
            from penstock.tasks.process_resources import settings

            settings.cache_clear()
        for day in range(DAYS):
            lake.append(ROWS.slice(day * A_DAY, A_DAY))
        sources = {"payments": lake.source(**more)}
        place.spec.write_text(yaml.safe_dump(SPEC | {"sources": sources} | (spec or {})))
        made.append(lake)
        return lake, place, Driver(load_pipeline(place.spec), connect, place.registry)

    yield make
    for lake in made:
        if isinstance(lake, IcebergLake):
            lake.catalog.close()


def invoke(*arguments: str) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "400"})
    assert ended.exit_code == 0, ended.output
    return ended.output


def keys(place: Place) -> list[int]:
    return [row[0] for row in view_rows(place.warehouse)]


def scored_amounts(place: Place) -> dict[int, float]:
    with place.warehouse.reading() as connection:
        rows = connection.exec_driver_sql("select payment_id, amount from card_risk_scores").all()
    return {int(key): float(amount) for key, amount in rows}


def amounts(rows: pa.Table) -> dict[int, float]:
    return dict(zip(rows["payment_id"].to_pylist(), rows["amount"].to_pylist(), strict=True))


def noted(place: Place) -> dict[str, str]:
    """Return by interval the version that its newest run has on record."""
    found = {}
    for run in reversed(list_runs(place.warehouse)):
        for validation in validations_of(place.warehouse, run.run_id):
            if validation.expectation == "version":
                found[str(run.interval.start.date())] = validation.observed
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_interval_is_scored_and_its_run_names_the_version(make_lake: MakeLake, kind: Kind) -> None:
    lake, place, driver = make_lake(kind)

    driver.run(NOW)

    assert scored_amounts(place) == amounts(ROWS)
    word = "version" if kind == "delta" else "snapshot"
    assert set(noted(place).values()) == {f"{word} {lake.version} of {lake.source().get('table', lake.folder)}"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_halts_names_the_version_too_and_its_card_does(make_lake: MakeLake, kind: Kind) -> None:
    lake, place, driver = make_lake(kind)
    lake.delete(f"payment_id <= {A_DAY}")

    left = driver.run(START + timedelta(days=1))

    assert "source `payments` has no rows" in left[-1]
    [run] = list_runs(place.warehouse)
    word = "version" if kind == "delta" else "snapshot"
    assert f"{word} {lake.version} of " in run_card(place.warehouse, run.run_id).replace("<br>", " ")


@pytest.mark.parametrize("kind", KINDS)
def test_groups_of_a_table_are_not_cut(make_lake: MakeLake, kind: Kind) -> None:
    _, place, driver = make_lake(kind, spec={"partition_by": "country", "partition_rows": 20})

    driver.run(NOW)

    assert scored_amounts(place) == amounts(ROWS)


def append(lake: Lake) -> None:
    lake.append(ROWS.slice(0, 5).set_column(0, "payment_id", pa.array(range(1000, 1005))))


def delete(lake: Lake) -> None:
    lake.delete("payment_id <= 5")


def update(lake: Lake) -> None:
    lake.update("amount", 999.0, "payment_id <= 5")


def compact(lake: Lake) -> None:
    lake.compact()


def overwrite(lake: Lake) -> None:
    lake.overwrite(ROWS.slice(0, 7))


def add_a_column(lake: Lake) -> None:
    lake.append(ROWS.slice(0, 0).append_column("colour", pa.array([], pa.string())))


def drop_columns(lake: Lake) -> None:
    lake.overwrite(ROWS.select(["payment_id", "created_at"]))


CHANGES = (append, delete, update, compact, overwrite, add_a_column, drop_columns)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["plan partitions", "load 1/3"])
def test_a_commit_between_planning_and_reading_changes_no_row_of_the_run(
    make_lake: MakeLake, kind: Kind, change: Callable[[Lake], None], moment: str
) -> None:
    lake, place, driver = make_lake(kind)
    steps = driver.steps(START + timedelta(days=1))
    assert list(takewhile(lambda step: step != moment, steps))

    change(lake)
    for folder in STAGING.glob("*/payments-*"):  # as on another machine
        folder.unlink()

    assert "publish" in list(steps)
    assert scored_amounts(place) == amounts(ROWS.slice(0, A_DAY))


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_run_reads_the_newest_version(make_lake: MakeLake, kind: Kind) -> None:
    lake, place, driver = make_lake(kind)
    driver.run(NOW)

    lake.update("amount", 999.0, "payment_id <= 5")
    lake.delete(f"payment_id = {A_DAY}")
    driver.run(NOW)

    expected = amounts(ROWS) | dict.fromkeys(range(1, 6), 999.0)
    del expected[A_DAY]
    assert scored_amounts(place) == expected
    newest, *_ = list_runs(place.warehouse)
    assert (newest.reason, newest.interval.start.day) == ("late rows", 1)
    driver.run(NOW)
    assert len(list_runs(place.warehouse)) == DAYS + 1, "nothing has changed since"


@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_to_other_days_does_not_make_an_interval_run_again(make_lake: MakeLake, kind: Kind) -> None:
    lake, place, driver = make_lake(kind)
    driver.run(START + timedelta(days=2))

    lake.delete(f"payment_id > {2 * A_DAY + 5}")
    driver.run(START + timedelta(days=2))

    assert [run.reason for run in list_runs(place.warehouse)] == ["due", "due"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_the_version_that_are_gone_fail_the_run_by_name_and_the_next_reads_the_newest(
    make_lake: MakeLake, kind: Kind
) -> None:
    lake, place, driver = make_lake(kind)
    steps = driver.steps(START + timedelta(days=1))
    assert list(takewhile(lambda step: step != "load 1/3", steps))
    version = lake.version

    lake.update("amount", 999.0, f"payment_id <= {A_DAY}")
    lake.drop_old_files()
    for file in STAGING.glob("*/payments-*"):  # as on another machine
        file.unlink()
    left = list(steps)

    word = "version" if kind == "delta" else "snapshot"
    assert f"source `payments`: {word} {version} of " in left[-1], left
    assert "is gone: its file " in left[-1]
    assert ".parquet was removed" in left[-1]
    assert "Run again to read the newest version" in left[-1]
    assert keys(place) == []
    driver.run(START + timedelta(days=1))
    assert set(scored_amounts(place).values()) == {999.0}


@pytest.mark.parametrize("kind", KINDS)
def test_staged_rows_are_read_after_the_version_is_gone(make_lake: MakeLake, kind: Kind) -> None:
    lake, place, driver = make_lake(kind)
    steps = driver.steps(START + timedelta(days=1))
    assert list(takewhile(lambda step: step != "load 1/3", steps))

    lake.overwrite(ROWS.slice(0, 7))
    lake.drop_old_files()
    if kind == "iceberg":
        for file in (lake.folder / "shop/payments/metadata").glob("*.json"):
            file.rename(file.with_suffix(".gone"))

    assert "publish" in list(steps)
    assert scored_amounts(place) == amounts(ROWS.slice(0, A_DAY))


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_is_healed_by_the_next_which_reads_one_version_alone(make_lake: MakeLake, kind: Kind) -> None:
    lake, place, driver = make_lake(kind)
    steps = driver.steps(START + timedelta(days=1))
    assert list(takewhile(lambda step: step != "load 2/3", steps))
    steps.close()
    lapse_leases(place.warehouse)

    lake.update("amount", 999.0, f"payment_id <= {A_DAY}")
    driver.run(START + timedelta(days=1))

    assert scored_amounts(place) == dict.fromkeys(range(1, A_DAY + 1), 999.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restate_and_a_backfill_of_an_old_interval_read_the_newest_version(make_lake: MakeLake, kind: Kind) -> None:
    lake, place, driver = make_lake(kind)
    driver.run(NOW)
    lake.update("amount", 999.0, "payment_id <= 5")

    driver.run(NOW, "restate", START, START + timedelta(days=1))

    assert {scored_amounts(place)[key] for key in range(1, 6)} == {999.0}
    assert lake.version in noted(place)["2026-01-01"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_table_is_read_whole_at_the_version_of_the_plan(make_lake: MakeLake, kind: Kind) -> None:
    rates: Lake
    lake, place, _ = make_lake(kind)
    rates = (
        replace(lake, name="shop.rates") if isinstance(lake, IcebergLake) else DeltaLake(lake.folder.parent / "rates")
    )
    rates.append(pa.table({"country": ["DE", "FR", "IT", "PL"], "rate": [1.0, 2.0, 3.0, 4.0]}))
    query = "select p.* exclude (amount), r.rate as amount from payments p join rates r using (country)"
    spec = yaml.safe_load(place.spec.read_text())
    spec |= {"features": query, "sources": spec["sources"] | {"rates": rates.source(key=["country"])}}
    place.spec.write_text(yaml.safe_dump(spec))
    steps = Driver(load_pipeline(place.spec), connect, place.registry).steps(START + timedelta(days=1))
    assert list(takewhile(lambda step: step != "load 1/3", steps))

    rates.append(pa.table({"country": ["DE"], "rate": [77.0]}))
    list(steps)

    assert keys(place) == [*range(1, A_DAY + 1)]
    assert set(scored_amounts(place).values()) <= {1.0, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_the_pipeline_uses_and_a_commit_takes_away_halts_the_next_run(
    make_lake: MakeLake, kind: Kind
) -> None:
    lake, _, driver = make_lake(kind)
    driver.run(START + timedelta(days=1))

    lake.overwrite(ROWS.drop_columns(["items"]))
    left = driver.run(START + timedelta(days=2))

    assert "source `payments`: `items` was int and is gone" in left[-1], left


@pytest.mark.parametrize("catalog", ["sqlite", "postgresql"])
def test_a_catalog_may_be_in_any_database(make_lake: MakeLake, catalog: str) -> None:
    _, place, driver = make_lake("iceberg", catalog)

    driver.run(NOW)

    assert scored_amounts(place) == amounts(ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_line_checks_and_plans_a_table(make_lake: MakeLake, kind: Kind) -> None:
    lake, place, _ = make_lake(kind)
    word = f"{'version' if kind == 'delta' else 'snapshot'} {lake.version}"

    checked = invoke("check", str(place.spec), "--end", "2026-01-02")
    assert f"✓ source `payments`: {kind.capitalize()} table, {word} of " in checked
    assert "40 rows of 2026-01-01 → 01-02 read as a sample" in checked
    planned = [line.split() for line in invoke("plan", str(place.spec), "--end", "2026-01-02").splitlines()]
    assert ["backfill", "40", "3"] in [words[3:6] for words in planned]


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("kind", KINDS)
def test_the_flow_reads_an_interval_afresh_whose_version_is_gone(
    make_lake: MakeLake, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.flows.score import score

    lake, place, _ = make_lake(kind)
    extract, removed = ScoringSteps.extract, []

    def remove_once(self: ScoringSteps, run: ScoringRun, partition: Partition) -> ExtractedRows:
        if not removed and partition.index == 1:
            removed.append(run.run_id)
            lake.update("amount", 999.0, f"payment_id <= {A_DAY}")
            lake.drop_old_files()
            assert self.connect.staging is not None
            for file in self.connect.staging.glob("*/payments-*"):
                file.unlink()
        return extract(self, run, partition)

    monkeypatch.setattr(ScoringSteps, "extract", remove_once)

    state = score(str(place.spec), end="2026-01-02", return_state=True)

    assert state.is_completed(), state.message
    assert [run.state for run in list_runs(place.warehouse)] == ["published", "failed"]
    assert set(scored_amounts(place).values()) == {999.0}
    newest, *_ = list_runs(place.warehouse)
    word = "version" if kind == "delta" else "snapshot"
    assert f"{word} {lake.version} of " in invoke("show", newest.run_id)


def test_staged_rows_are_removed_at_the_end_of_the_run(make_lake: MakeLake) -> None:
    _, place, driver = make_lake("delta")

    driver.run(NOW)

    assert not any((STAGING / run.run_id).exists() for run in list_runs(place.warehouse))
    shutil.rmtree(STAGING, ignore_errors=True)
