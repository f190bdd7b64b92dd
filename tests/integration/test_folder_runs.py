"""Runs over files in folders named `key=value`, with the event time in the folder or in the file."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.ledger.reader import list_runs
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from tests.conftest import view_rows
from tests.driver import Driver
from tests.shop import START, Place, payments

DAYS, A_DAY = 3, 40
NOW = START + timedelta(days=DAYS)
ROWS = payments(days=DAYS, a_day=A_DAY).drop_columns(["updated_at", "created_at"])
FORMATS = ("parquet", "csv")


def write(rows: pa.Table, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".csv":
        pyarrow.csv.write_csv(rows, file)
    else:
        pq.write_table(rows, file)


@pytest.fixture
def make_driver(make_place: Callable[..., Place], tmp_path: Path) -> Callable[..., tuple[Place, Driver]]:
    def make(kind: str, **more: Any) -> tuple[Place, Driver]:
        place = make_place(spec="", days=1, a_day=20)
        for number in range(DAYS):
            day = (START + timedelta(days=number)).date()
            for country in ("DE", "FR", "IT", "PL"):
                rows = ROWS.slice(number * A_DAY, A_DAY)
                mine = rows.filter(pa.compute.equal(rows["country"], country)).drop_columns(["country"])
                write(mine, tmp_path / f"in/day={day}/country={country}/part.{kind}")
        source = {"kind": "files", "path": f"in/**/*.{kind}", "format": kind, "key": ["payment_id"]} | more
        spec = {
            "name": "card-risk",
            "interval": {"column": "day", "grain": "1d", "start": "2026-01-01T00:00:00Z", "lookback": 3},
            "sources": {"payments": source},
            "model": "card-risk@champion",
            "destination": {"connection": "warehouse", "table": "card_risk_scores", "keep": ["amount", "country"]},
            "partition_rows": 15,
        }
        place.spec.write_text(yaml.safe_dump(spec))
        return place, Driver(load_pipeline(place.spec), connect, place.registry)

    return make


def scored(place: Place) -> dict[int, tuple[float, str]]:
    with place.warehouse.reading() as connection:
        rows = connection.exec_driver_sql("select payment_id, amount, country from card_risk_scores").all()
    return {int(key): (float(amount), country) for key, amount, country in rows}


EXPECTED = {row["payment_id"]: (row["amount"], row["country"]) for row in ROWS.to_pylist()}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("path", ["in/**/*", "in/day={interval_start:%Y-%m-%d}/*/*"])
def test_days_and_countries_that_are_only_in_folders_are_scored_right(
    make_driver: Callable[..., tuple[Place, Driver]], kind: str, path: str
) -> None:
    place, driver = make_driver(kind, path=f"{path}.{kind}")

    driver.run(NOW)
    driver.run(NOW)

    assert scored(place) == EXPECTED
    assert [run.reason for run in list_runs(place.warehouse)] == ["due"] * DAYS


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_comes_late_into_a_folder_is_scored(
    make_driver: Callable[..., tuple[Place, Driver]], kind: str, tmp_path: Path
) -> None:
    place, driver = make_driver(kind, path=f"in/day={{interval_start:%Y-%m-%d}}/*/*.{kind}")
    driver.run(NOW)

    late = ROWS.slice(0, 1).set_column(0, "payment_id", pa.array([1000])).drop_columns(["country"])
    write(late, tmp_path / f"in/day=2026-01-02/country=DE/late.{kind}")
    driver.run(NOW)

    assert scored(place) == EXPECTED | {1000: (EXPECTED[1][0], "DE")}
    newest, *_ = list_runs(place.warehouse)
    assert (newest.reason, newest.interval.start.day) == ("late rows", 2)
    assert len(view_rows(place.warehouse)) == DAYS * A_DAY + 1


@pytest.mark.parametrize("kind", FORMATS)
def test_check_shows_the_columns_that_folders_give(make_driver: Callable[..., tuple[Place, Driver]], kind: str) -> None:
    make_driver(kind)

    ended = CliRunner().invoke(app, ["check", "card-risk.yaml", "--end", "2026-01-02"], env={"COLUMNS": "400"})

    assert ended.exit_code == 0, ended.output
    assert f"12 files match in/**/*.{kind}; their folders give `day` (date), `country` (text)" in ended.output
