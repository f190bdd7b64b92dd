"""The demo, run once as a user runs it, and held to what its shop planted."""

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.cli.demo.shop import NO_COUNTRY, Shop, customers, make_shop, outcomes, payments
from penstock.database.bulk import read
from penstock.database.connections import Database, open_database
from penstock.errors import SettingsError
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import RunRecord, list_runs, validations_of
from penstock.ledger.tables import log_lines
from penstock.settings import Settings
from penstock.spec.yaml_file import load_pipeline
from tests.waiting import SECONDS

pytestmark = pytest.mark.slow

ROWS, SEED = 3_000, 7


def penstock(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command line as a user would, without the variables of whoever runs the tests."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "PREFECT_"))}
    command = [sys.executable, "-c", "from penstock.cli import main; main()", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=inherited | variables, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@dataclass(frozen=True)
class Demo:
    """A demo that has ended."""

    folder: Path
    result: subprocess.CompletedProcess[str]
    warehouse: Database
    runs: list[RunRecord]
    """Oldest first."""

    @property
    def published(self) -> list[RunRecord]:
        return [run for run in self.runs if run.state == "published"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    place = tmp_path_factory.mktemp("demo")
    elsewhere = f"sqlite:///{place / 'elsewhere.db'}"
    result = penstock(
        "demo", "--rows", str(ROWS), "--seed", str(SEED), cwd=place, PENSTOCK_CONNECTIONS__WAREHOUSE=elsewhere
    )
    folder = place / "penstock-demo"
    warehouse = open_database(Settings(_env_file=None, home=folder / ".penstock"), "warehouse")
    return Demo(folder, result, warehouse, list_runs(warehouse, "card-risk")[::-1])


@pytest.fixture(scope="module")
def twin(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same shop once more, for what was planted in it."""
    folder = tmp_path_factory.mktemp("twin")
    end = demo.published[-1].interval_end
    assert end is not None
    return make_shop(folder, shop_database(folder), end, ROWS, SEED)


def shop_database(folder: Path) -> Database:
    return open_database(Settings(_env_file=None, connections={"shop": f"sqlite:///{folder / 'shop.db'}"}), "shop")


def test_demo_ends_well_and_says_nothing_on_its_way_out(demo: Demo) -> None:
    assert demo.result.returncode == 0, demo.result.stdout + demo.result.stderr
    assert [line for line in demo.result.stderr.splitlines() if not line.startswith("Error: `card-risk`")] == []


def test_demo_publishes_three_days_after_one_halted_run(demo: Demo) -> None:
    assert [run.state for run in demo.runs] == ["published", "published", "halted", "published"]
    assert len({run.interval_key for run in demo.published}) == 3
    assert demo.runs[2].interval_key == demo.runs[3].interval_key


def test_demo_accounts_for_every_row(demo: Demo) -> None:
    for run in demo.published:
        told = [run.rows_scored, run.rows_quarantined, run.rows_excluded]
        assert run.rows_extracted == sum(n for n in told if n is not None)
        assert run.rows_scored


def test_demo_quarantines_exactly_what_was_planted(demo: Demo, twin: Shop) -> None:
    refused = [row for run in demo.published for row in quarantined_rows(demo.warehouse, run_id=run.run_id, limit=999)]

    found = Counter((row.stage, *row.reasons) for row in refused)

    planted = twin.planted
    assert found == {
        ("payments", "amount column_values_to_not_be_null"): planted.null_amounts,
        ("payments", "amount column_values_to_be_between (min_value=0, max_value=1000000)"): planted.negative_amounts,
        ("model", f"`country`: unseen category '{NO_COUNTRY}'"): planted.unknown_countries,
        ("features", "amount_eur column_values_to_not_be_null"): planted.unknown_currencies,
    }


def test_demo_keeps_the_log_lines_that_cannot_be_read(demo: Demo, twin: Shop) -> None:
    with demo.warehouse.reading() as connection:
        kept = connection.execute(sa.select(sa.func.count()).select_from(log_lines)).scalar_one()
        landed = connection.execute(sa.select(sa.func.count()).select_from(sa.table("card_risk__visits"))).scalar_one()

    assert kept == twin.planted.broken_lines
    assert kept + landed == twin.log_lines
    assert f"{kept} lines cannot be read" in demo.result.stdout


def test_halted_run_names_the_gate_and_leaves_the_view_untouched(demo: Demo) -> None:
    halted = next(run for run in demo.runs if run.state == "halted")
    gates = [v.expectation for v in validations_of(demo.warehouse, halted.run_id) if v.outcome == "halted"]
    digests = re.findall(r"(?:before|after): +([\d,]+) rows, sha256 ([0-9a-f]{32})", demo.result.stdout)

    assert gates == ["amount_eur column_mean_to_be_between (min_value=15, max_value=150)"]
    assert len(digests) == 2
    assert digests[0] == digests[1]


def test_demo_ends_with_history_ten_scores_and_a_command_that_works(demo: Demo) -> None:
    scores = re.findall(r"^ +\d+ +0\.\d{4} .*card-risk/1", demo.result.stdout, re.MULTILINE)

    runs = penstock("runs", cwd=demo.folder)

    assert len(scores) == 10
    assert "nothing to do: 3 intervals are published already" in demo.result.stdout
    assert "cd penstock-demo" in demo.result.stdout
    assert runs.returncode == 0, runs.stderr
    assert demo.runs[-1].run_id[:8] in runs.stdout


def test_demo_leaves_the_warehouse_of_the_environment_alone(demo: Demo) -> None:
    assert not (demo.folder.parent / "elsewhere.db").exists()
    assert "Your environment sets PENSTOCK_CONNECTIONS__WAREHOUSE" in demo.result.stdout


def test_demo_refuses_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    from penstock.cli.demo.context import make_folder

    (tmp_path / "letters.txt").write_text("mine", encoding="utf-8")

    with pytest.raises(SettingsError, match="no demo has made"):
        make_folder(tmp_path)

    assert (tmp_path / "letters.txt").read_text(encoding="utf-8") == "mine"


def test_demo_that_cannot_run_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.cli.demo import context
    from penstock.cli.demo.command import demo as play

    monkeypatch.setattr(context, "NEEDED", ("prefect", "no_such_package"))

    with pytest.raises(SettingsError, match="no_such_package cannot be imported"):
        play(tmp_path / "shop", None, SEED, None)

    assert not (tmp_path / "shop").exists()


def test_demo_cut_short_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.cli.demo import command

    def fail(*_: object) -> None:
        raise ImportError("xgboost")

    monkeypatch.setattr(command, "play", fail)
    for _ in range(2):
        with pytest.raises(ImportError, match="xgboost"):
            command.demo(tmp_path / "shop", None, SEED, None)


def test_demo_makes_its_own_folder_anew(tmp_path: Path) -> None:
    from penstock.cli.demo.context import make_folder

    make_folder(tmp_path / "shop")
    (tmp_path / "shop" / "shop.db").write_text("old", encoding="utf-8")

    make_folder(tmp_path / "shop")

    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == [".env", ".gitignore", ".penstock-demo"]


def test_same_seed_makes_the_same_shop(tmp_path: Path) -> None:
    until = datetime(2026, 3, 1, tzinfo=UTC)
    shops = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = make_shop(tmp_path / name, shop_database(tmp_path / name), until, 2_000, SEED)
        tables = [read(shop_database(tmp_path / name), sa.select(t)) for t in (payments, customers, outcomes)]
        files = [(p.name, p.read_bytes()) for p in sorted(tmp_path.joinpath(name).rglob("*.*")) if p.suffix != ".db"]
        shops.append((made, tables, files))

    assert shops[0] == shops[1]


def test_shipped_pipeline_loads() -> None:
    root = Path(__file__).parents[2]

    pipeline = load_pipeline(root / "deployments" / "pipelines" / "card-risk.yaml")

    assert {source.kind for source in pipeline.sources.values()} == {"sql", "log", "files"}
    assert set(pipeline.expectations) == {"payments", "visits", "rates", "features", "scores"}
