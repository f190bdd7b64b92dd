"""`penstock ledger verify` finds what breaks each invariant, and `penstock rename` moves all that a name has."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.errors import DestinationTaken, RenameRefused
from penstock.interval import DataInterval
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.coverage import read_coverage
from penstock.ledger.destinations import refuse_others
from penstock.ledger.reader import list_runs
from penstock.ledger.tables import destinations, partitions, runs
from penstock.ledger.writer import Totals, publish, withdraw
from penstock.run.load import load_partition
from penstock.run_types import Features, ModelPin, Partition, ScoredRows, ScoringRun
from penstock.sources.logs.landed import landed_table
from penstock.sources.logs.landing import land_lines
from penstock.spec.pipeline import Pipeline
from penstock.spec.sources import LogSource
from penstock.spec.yaml_file import parse_pipeline
from penstock.upkeep.rename import rename_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS
from tests.shop import SPEC

PIPELINE = parse_pipeline(SPEC.replace(", keep: [amount, country]", "").encode(), "x")
MODEL = ModelPin("card-risk", "1", "d" * 64)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def day(number: int) -> DataInterval:
    return DataInterval(FIRST + timedelta(days=number), FIRST + timedelta(days=number + 1))


def renamed(name: str, **changes: Any) -> Pipeline:
    return Pipeline.model_validate(PIPELINE.model_dump(mode="json", by_alias=True) | {"name": name} | changes)


def score(database: Database, number: int, pipeline: Pipeline = PIPELINE) -> ScoringRun:
    """Publish a day of three rows."""
    run = claim(database, ClaimRequest(pipeline, day(number), MODEL, "due", 60.0))
    assert run is not None
    keys = [number * 10 + n for n in range(3)]
    rows = pa.table({"payment_id": pa.array(keys, pa.int64()), "score": pa.array([0.5] * 3, pa.float64())})
    scored = ScoredRows(rows, Features(rows, 3, 0, (), ()), (), (), ())
    load_partition(database, run, Partition(0, 1, None, None, 3), scored, {}, 1)
    publish(database, run, Totals(3, 3, 0, 0), [])
    return run


def invariants(database: Database) -> list[str]:
    return [violation.invariant for violation in verify_ledger(database)]


def change(database: Database, statement: Any) -> None:
    with database.writing() as connection:
        connection.execute(statement)


def test_a_ledger_that_only_penstock_wrote_breaks_nothing(warehouse: Database) -> None:
    assert verify_ledger(warehouse) == ()
    first = score(warehouse, 0)
    score(warehouse, 1)
    withdraw(warehouse, first.run_id)
    assert verify_ledger(warehouse) == ()


def test_each_broken_invariant_is_found_with_its_rows(warehouse: Database) -> None:
    run, other = score(warehouse, 0), score(warehouse, 1)
    history = sa.table("card_risk_scores__history", sa.column("payment_id"), sa.column("run_id"))
    mine = runs.c.run_id == run.run_id

    def broken_by(statement: Any, undo: Any) -> list[str]:
        change(warehouse, statement)
        found = verify_ledger(warehouse)
        change(warehouse, undo)
        assert verify_ledger(warehouse) == ()
        assert all(violation.rows and violation.remedy for violation in found)
        return [violation.invariant for violation in found]

    later = sa.update(runs).where(mine)
    assert broken_by(later.values(interval_end=FIRST + timedelta(hours=30)), later.values(interval_end=day(0).end)) == [
        "live runs do not overlap"
    ]
    assert broken_by(later.values(rows_excluded=4), later.values(rows_excluded=0)) == [
        "extracted = scored + quarantined + excluded"
    ]
    part = sa.update(partitions).where(partitions.c.run_id == run.run_id)
    assert broken_by(part.values(rows_scored=2), part.values(rows_scored=3)) == ["partitions add up to their run"]
    assert broken_by(later.values(replaced_by_run_id="gone"), later.values(replaced_by_run_id=None)) == [
        "a replaced run names a run"
    ]
    assert broken_by(later.values(published_at=None), later.values(published_at=FIRST)) == [
        "a published run has its time"
    ]
    owner = sa.update(destinations)
    assert broken_by(owner.values(pipeline="fraud"), owner.values(pipeline="card-risk")) == [
        "a destination belongs to one pipeline"
    ]
    change(warehouse, sa.delete(history).where(history.c.payment_id == 1))
    [violation] = verify_ledger(warehouse)
    assert violation.invariant == "a published run has its rows"
    assert violation.rows == (f"{run.run_id}: 2 rows, 3 scored",)
    change(warehouse, sa.delete(runs).where(runs.c.run_id == other.run_id))
    assert {"every part belongs to a run", "every row belongs to a run"} <= set(invariants(warehouse))


def test_rename_moves_runs_and_the_destination(warehouse: Database) -> None:
    score(warehouse, 0)
    new = renamed("payment-risk")
    with pytest.raises(DestinationTaken, match="penstock rename card-risk payment-risk"):
        refuse_others(warehouse, new)

    moved = rename_pipeline(warehouse, "card-risk", new)

    assert moved.rows["penstock_runs"] == 1
    assert read_coverage(warehouse, new).published == (day(0),)
    score(warehouse, 1, new)
    assert {run.pipeline for run in list_runs(warehouse)} == {"payment-risk"}
    with pytest.raises(DestinationTaken):
        refuse_others(warehouse, PIPELINE)
    with pytest.raises(RenameRefused, match="has no runs of `card-risk`"):
        rename_pipeline(warehouse, "card-risk", new)
    assert verify_ledger(warehouse) == ()


def test_rename_waits_for_a_run_that_works_and_ends_a_dead_one(warehouse: Database) -> None:
    run = claim(warehouse, ClaimRequest(PIPELINE, day(0), MODEL, "due", 60.0))
    assert run is not None
    with pytest.raises(RenameRefused, match=f"run {run.run_id[:8]} works"):
        rename_pipeline(warehouse, "card-risk", renamed("payment-risk"))
    change(warehouse, sa.update(runs).values(lease_until=FIRST))

    rename_pipeline(warehouse, "card-risk", renamed("payment-risk"))

    assert [r.state for r in list_runs(warehouse)] == ["abandoned"]


def test_rename_takes_landed_log_lines_along(warehouse: Database, tmp_path: Path) -> None:
    score(warehouse, 0)
    logs = LogSource(kind="log", path=str(tmp_path / "access.log"), format="json", columns={"user": "string"})
    line = '{"time": "2026-01-01T10:00:00Z", "user": "ann"}\n'
    (tmp_path / "access.log").write_text(line * 40)
    land_lines("card-risk", "visits", logs, warehouse, ())
    new = renamed("payment-risk", sources=PIPELINE.model_dump(mode="json", by_alias=True)["sources"] | {"visits": logs})

    moved = rename_pipeline(warehouse, "card-risk", new)

    assert moved.log_tables == ("payment_risk__visits",)
    (tmp_path / "access.log").write_text(line * 60)
    land_lines("payment-risk", "visits", logs, warehouse, ())
    table = landed_table("payment-risk", "visits")
    with warehouse.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 60
        assert not sa.inspect(connection).has_table(landed_table("card-risk", "visits").name)
    land_lines("card-risk", "visits", logs, warehouse, ())  # another pipeline may have the old name
