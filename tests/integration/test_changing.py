"""Changes to a pipeline that runs. Each row of docs/changing.md is a test here: the plan, the run, and the view."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pyarrow import parquet

from penstock.errors import DestinationMismatch, DestinationTaken, Halted, OverlappingRuns, SpecError
from penstock.ledger.reader import list_runs
from penstock.ledger.schema_contracts import EVENT_TIME
from penstock.ledger.tables import source_columns
from tests.changing_place import ChangingPlace, keys, payments
from tests.conftest import DIALECTS

PAGE = Path("docs/changing.md")
ROW = re.compile(r"^\|.*\| `(test_\w+)` \|$", re.MULTILINE)
NO_ROWS = {
    "test_each_row_of_the_page_is_a_test",
    "test_the_event_time_of_each_table_is_kept",
    "test_an_older_ledger_learns",
}
"""Tests that are no change of a pipeline."""
EVERYWHERE = pytest.mark.parametrize("changing_place", DIALECTS, indirect=True)
"""For changes that touch types, schemas or views."""
D1, D2, D3 = "2026-01-01 → 01-02", "2026-01-02 → 01-03", "2026-01-03 → 01-04"
D4, D5 = "2026-01-04 → 01-05", "2026-01-05 → 01-06"
"""The days, which are the intervals before a change."""


@pytest.fixture
def place(changing_place: ChangingPlace) -> Iterator[ChangingPlace]:
    """A pipeline that has scored three days. Its ledger must be whole after the test."""
    yield changing_place
    changing_place.verify()


def due(*labels: str) -> list[tuple[str, str]]:
    return [(label, "due") for label in labels]


def published(*labels: str) -> list[str]:
    return [f"published {label}" for label in labels]


def halted(place: ChangingPlace, day: float, reason: str) -> None:
    """Run a day that halts, and check that readers see what they saw."""
    before = place.view("score", "run_id")
    [ended] = place.run(day)
    assert ended.startswith("halted"), ended
    assert reason in ended
    assert place.view("score", "run_id") == before


def failed(place: ChangingPlace, day: float, reason: str) -> None:
    """Run a day that fails, and check that readers see what they saw."""
    before = place.view("score", "run_id")
    [ended] = place.run(day)
    assert ended.startswith("failed"), ended
    assert reason in ended
    assert place.view("score", "run_id") == before


# --- the page -----------------------------------------------------------------------------------


def test_each_row_of_the_page_is_a_test() -> None:
    shown = ROW.findall(PAGE.read_text(encoding="utf-8"))
    tests = {name for name in globals() if name.startswith("test_")} - NO_ROWS

    assert len(shown) >= 20
    assert sorted(shown) == sorted(tests)


# --- intervals ----------------------------------------------------------------------------------


def test_finer_grain(place: ChangingPlace) -> None:
    before = place.view("score", "run_id")
    place.edit("grain: 1d", "grain: 12h")
    halves = ("2026-01-04 00:00 → 12:00", "2026-01-04 12:00 → 01-05 00:00")

    assert place.plan(4) == due(*halves)
    assert place.run(4) == published(*halves)
    assert place.view("score", "run_id")[:12] == before
    assert place.view() == keys(1, 2, 3, 4)

    half = ("--start", "2026-01-01", "--end", "2026-01-01T12:00", "--restate")
    refused = place.refused_plan(4, *half)
    assert "2026-01-01 00:00 → 12:00 overlaps live runs that it does not cover" in refused
    assert "--restate --start 2026-01-01T00:00:00Z --end 2026-01-02T00:00:00Z" in refused
    assert place.run(4, "restate", "2026-01-01T00:00", "2026-01-02T00:00") == published(
        "2026-01-01 00:00 → 12:00", "2026-01-01 12:00 → 01-02 00:00"
    )
    assert place.view() == keys(1, 2, 3, 4)


def test_coarser_grain(place: ChangingPlace) -> None:
    place.edit("grain: 1d", "grain: 2d")

    assert place.plan(3) == []
    assert place.plan(4) == due("2026-01-03 → 01-05")
    assert place.run(4) == published("2026-01-03 → 01-05")
    assert place.states() == ["published 2026-01-03 → 01-05", f"superseded {D3}", f"published {D2}", f"published {D1}"]
    assert place.view() == keys(1, 2, 3, 4)


def test_week(place: ChangingPlace) -> None:
    place.edit("grain: 1d, start: 2026-01-01T00:00:00Z", "grain: week, start: 2025-12-29")

    assert place.plan(3) == []
    assert place.plan(4) == due("2025-12-29 → 2026-01-05")
    assert place.run(4) == published("2025-12-29 → 2026-01-05")
    assert place.states() == [
        "published 2025-12-29 → 2026-01-05",
        *(f"superseded {day}" for day in (D3, D2, D1)),
    ]
    assert place.view() == keys(1, 2, 3, 4)


def test_time_zone(place: ChangingPlace) -> None:
    before = place.view("score", "run_id")
    place.edit("grain: 1d, start: 2026-01-01T00:00:00Z", "grain: 1d, timezone: Europe/Berlin, start: 2026-01-01")

    refused = place.refused_plan(4)
    assert "overlaps live runs that it does not cover" in refused
    assert "--start 2025-12-31T23:00:00Z --end 2026-01-04T23:00:00Z" in refused
    assert "penstock withdraw" in refused
    assert "overlaps live runs" in place.refused_run(4, OverlappingRuns)
    assert place.view("score", "run_id") == before

    assert place.run(4, "restate", "2026-01-01", "2026-01-05") == published(D1, D2, D3, D4)
    assert place.view() == keys(1, 2, 3, 4)
    assert place.states().count(f"superseded {D1}") == 1


def test_start_earlier(place: ChangingPlace) -> None:
    place.edit("start: 2026-01-01", "start: 2025-12-31")
    place.change("update payments set created_at = '2025-12-31 03:00:00.000000' where payment_id = 61")

    assert place.plan(3) == due("2025-12-31 → 2026-01-01")
    assert place.run(3) == published("2025-12-31 → 2026-01-01")
    assert place.view() == [*keys(1, 2, 3), 61]


def test_start_later(place: ChangingPlace) -> None:
    place.edit("start: 2026-01-01", "start: 2026-01-03")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.view() == keys(1, 2, 3, 4)

    code, text = place.command("withdraw", "--pipeline", str(place.spec), "--end", "2026-01-03", "--yes")
    assert code == 0, text
    assert place.view() == keys(3, 4)
    assert place.plan(4) == []


def test_start_inside_an_interval(place: ChangingPlace) -> None:
    place.edit("start: 2026-01-01T00", "start: 2025-12-31T18")

    refused = place.refused_plan(4)
    assert "2025-12-31 18:00 → 2026-01-01 18:00 overlaps live runs that it does not cover" in refused
    assert "--restate --start 2025-12-31T18:00:00Z --end 2026-01-04T18:00:00Z" in refused
    assert "overlaps live runs" in place.refused_run(4, OverlappingRuns)
    assert place.view() == keys(1, 2, 3)

    ended = place.run(4.75, "restate", "2025-12-31T18:00", "2026-01-04T18:00")
    assert [each.split()[0] for each in ended] == ["published"] * 4
    assert place.view() == [*keys(1, 2, 3), 41, 42, 43]  # the row of 21:00 lies in the next interval


def test_start_inside_an_interval_by_withdrawal(place: ChangingPlace) -> None:
    """The second way out shows every row again, too."""
    place.edit("start: 2026-01-01T00", "start: 2025-12-31T18")
    withdraw, restate = place.read_commands(place.refused_plan(4))[1:]

    assert withdraw == (
        "withdraw --pipeline card-risk --table card_risk_scores --start 2026-01-01T00:00:00Z --end 2026-01-04T00:00:00Z"
    )
    assert restate == "run card-risk --restate --start 2026-01-01T00:00:00Z --end 2026-01-04T00:00:00Z"
    place.command(*withdraw.replace("card-risk ", f"{place.spec} ").split(), "--yes")
    assert place.view() == []
    place.run(4.75, "restate", "2026-01-01T00:00", "2026-01-04T00:00")
    assert place.view() == [*keys(1, 2, 3), 41, 42, 43]
    assert place.plan(4.5) == []


def test_start_later_inside_an_interval(place: ChangingPlace) -> None:
    """No range of the new intervals covers the old ones, so only the second way out is left."""
    place.edit("start: 2026-01-01T00", "start: 2026-01-01T12")

    refused = place.refused_plan(4)
    assert "change `interval` back, so that the intervals cover them; or" in refused
    withdraw, restate = place.read_commands(refused)
    place.command(*withdraw.replace("card-risk ", f"{place.spec} ").split(), "--yes")
    assert "--restate --start 2026-01-01T00:00:00Z --end 2026-01-04T00:00:00Z" in restate
    place.run(4.5, "restate", "2026-01-01T00:00", "2026-01-04T00:00")
    assert place.view() == [13, 14, *keys(2, 3), 41, 42]
    assert place.run(5) == published("2026-01-04 12:00 → 01-05 12:00")
    assert place.view() == [13, 14, *keys(2, 3, 4), 51, 52]


def test_delay(place: ChangingPlace) -> None:
    place.edit("lookback: 1", "lookback: 1, delay: 12h")

    assert place.plan(4) == []
    assert place.plan(4.5) == due(D4)
    assert place.run(4) == []
    assert place.run(4.5) == published(D4)
    assert place.view() == keys(1, 2, 3, 4)


def test_lookback(place: ChangingPlace) -> None:
    place.change("update payments set amount = 99, updated_at = '2026-01-04 10:00:00.000000' where payment_id = 21")
    assert place.plan(3) == []
    place.edit("lookback: 1", "lookback: 3")

    assert place.plan(3) == [(D2, "late rows")]
    assert place.run(3) == published(D2)
    assert dict(place.view("amount"))[21] == 99
    assert place.view() == keys(1, 2, 3)


def test_event_time_column(place: ChangingPlace) -> None:
    """A row whose two times lie in different intervals would be shown twice, or never."""
    place.change("update payments set updated_at = '2026-01-04 10:00:00.000000' where payment_id = 12")
    place.edit("column: created_at", "column: updated_at")

    assert place.plan(4) == due(D4)
    halted(place, 4, "spec: `interval.column` was created_at and is updated_at now; set it back")
    assert "`interval.column` was created_at and is updated_at now" in place.command("check", str(place.spec))[1]
    assert place.view() == keys(1, 2, 3)

    place.command("check", str(place.spec), "--accept")
    assert place.run(4, "restate", "2026-01-01T00:00", "2026-01-05T00:00") == published(D1, D2, D3, D4)
    assert place.view() == keys(1, 2, 3, 4)
    assert place.run(5) == published(D5)


def test_grain_of_files_by_interval(place: ChangingPlace) -> None:
    """Of a path with the interval in it, a longer interval would read the first file only."""
    rows = payments()
    for day in (1, 2, 3, 4, 5, 6):
        parquet.write_table(rows.slice((day - 1) * 4, 4), place.folder / f"2026-01-0{day}.parquet")
    files = '{kind: files, path: "{interval_start:%Y-%m-%d}.parquet", format: parquet, key: [payment_id]}'
    place.edit("{kind: sql, connection: shop, table: payments, key: [payment_id], updated_column: updated_at}", files)
    assert place.run(4) == published(D4)
    place.edit("grain: 1d", "grain: 2d")

    assert place.plan(6) == due("2026-01-05 → 01-07")
    halted(place, 6, "spec: `interval.grain` was 1d and is 2d now; set it back")
    assert place.view() == keys(1, 2, 3, 4)

    place.edit("format: parquet", "format: parquet, every: 1d")
    assert place.run(6) == published("2026-01-05 → 01-07")
    assert place.seen_scores() == place.scores(1, 2, 3, 4, 5, 6)


def test_the_event_time_of_each_table_is_kept(place: ChangingPlace) -> None:
    place.edit("column: created_at", "column: updated_at")
    place.edit("table: card_risk_scores", "table: other_scores")
    assert place.run(3) == published(D1, D2, D3)
    place.edit("table: other_scores", "table: card_risk_scores")

    halted(place, 4, "`interval.column` was created_at and is updated_at now")


def test_an_older_ledger_learns(place: ChangingPlace) -> None:
    """A ledger of 0.1 does not have the column of the event time. The next published run records it."""
    with place.warehouse.writing() as connection:
        connection.execute(sa.delete(source_columns).where(source_columns.c.source == EVENT_TIME))
    assert place.run(4) == published(D4)
    place.edit("column: created_at", "column: updated_at")
    halted(place, 5, "`interval.column` was created_at and is updated_at now")


def test_snapshot_instead_of_intervals(place: ChangingPlace) -> None:
    place.edit(place.interval_line, "")

    assert place.plan(4) == [("snapshot", "snapshot")]
    assert place.run(4) == ["published snapshot"]
    assert place.states() == ["published snapshot", *(f"superseded {day}" for day in (D3, D2, D1))]
    assert place.view() == keys(1, 2, 3, 4, 5, 6)


def test_intervals_instead_of_a_snapshot(place: ChangingPlace) -> None:
    line = place.interval_line
    place.edit(line, "")
    place.run(4)
    place.edit("name: card-risk\n", f"name: card-risk\n{line}")

    assert "overlaps live runs that it does not cover" in place.refused_plan(4)
    assert "penstock withdraw" in place.refused_run(4, OverlappingRuns)
    assert place.view() == keys(1, 2, 3, 4, 5, 6)

    place.command("withdraw", "--pipeline", str(place.spec), "--yes")
    assert place.view() == []
    assert place.run(4) == published(D1, D2, D3, D4)
    assert place.view() == keys(1, 2, 3, 4)


# --- the destination ----------------------------------------------------------------------------


@EVERYWHERE
def test_key(place: ChangingPlace) -> None:
    place.edit("key: [payment_id]", "key: [payment_id, country]")
    place.edit("keep: [amount, country]", "keep: [amount]")

    assert place.plan(4) == due(D4)
    failed(place, 4, "its key is `payment_id`, and the pipeline's is `country`, `payment_id`")
    place.edit("table: card_risk_scores", "table: by_country")
    assert place.run(4) == published(D1, D2, D3, D4)
    assert place.view("country", table="by_country")[:2] == [(11, "DE"), (12, "FR")]
    assert place.view() == keys(1, 2, 3)


@EVERYWHERE
def test_keep_more(place: ChangingPlace) -> None:
    place.edit("keep: [amount, country]", "keep: [amount, country, items]")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.columns() == ["payment_id", "score", "amount", "country", "items"]
    assert place.view("items") == [*((key, None) for key in keys(1, 2, 3)), (41, 2), (42, 4), (43, 6), (44, 8)]


@EVERYWHERE
def test_keep_less(place: ChangingPlace) -> None:
    place.edit("keep: [amount, country]", "keep: [amount]")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.columns() == ["payment_id", "score", "amount", "country"]
    assert place.view("country")[-5:] == [(34, "PL"), *((key, None) for key in keys(4))]


@EVERYWHERE
def test_table(place: ChangingPlace) -> None:
    place.edit("table: card_risk_scores", "table: other_scores")

    assert place.plan(4) == due(D1, D2, D3, D4)
    assert place.run(4) == published(D1, D2, D3, D4)
    assert place.view() == keys(1, 2, 3)
    assert place.view(table="other_scores") == keys(1, 2, 3, 4)
    assert place.run(4, "restate", "2026-01-01T00:00", "2026-01-02T00:00") == published(D1)
    assert place.view() == keys(1, 2, 3)


@pytest.mark.parametrize("changing_place", ["sqlite", "duckdb"], indirect=True)
def test_table_in_other_case(place: ChangingPlace) -> None:
    place.edit("table: card_risk_scores", "table: Card_Risk_scores")

    assert "Write `table: card_risk_scores`" in place.refused_plan(4)
    assert "makes no difference between upper and lower case" in place.refused_run(4, DestinationMismatch)


@EVERYWHERE
def test_schema(place: ChangingPlace) -> None:
    place.edit("{connection: warehouse, table", "{connection: warehouse, schema: risk, table")

    assert "the database has no schema `risk`" in place.refused_plan(4)
    assert "the database has no schema `risk`" in place.refused_run(4, DestinationMismatch)
    if place.warehouse.dialect == "sqlite":
        place.edit("schema: risk", "schema: main")
        assert place.plan(4) == due(D4)
        return
    with place.warehouse.writing() as connection:
        connection.execute(sa.text("create schema risk"))
    assert place.plan(4) == due(D1, D2, D3, D4)
    assert place.run(4) == published(D1, D2, D3, D4)
    assert place.view() == keys(1, 2, 3)
    assert place.view(table="risk.card_risk_scores") == keys(1, 2, 3, 4)


@EVERYWHERE
def test_connection(place: ChangingPlace) -> None:
    old = place.warehouse
    place.move("lake", old.dialect)
    place.edit("connection: warehouse", "connection: lake")

    assert place.plan(4) == due(D1, D2, D3, D4)
    assert place.run(4) == published(D1, D2, D3, D4)
    assert place.view() == keys(1, 2, 3, 4)
    with old.reading() as connection:
        assert connection.execute(sa.text("select count(*) from card_risk_scores")).scalar_one() == 12


def test_name(place: ChangingPlace) -> None:
    before = place.view("score", "run_id")
    place.edit("name: card-risk", "name: payment-risk")

    assert "penstock rename card-risk payment-risk" in place.refused_plan(4)
    assert "belongs to pipeline `card-risk`" in place.refused_run(4, DestinationTaken)
    assert place.view("score", "run_id") == before

    code, text = place.command("rename", "card-risk", str(place.spec))
    assert code == 0, text
    assert place.run(4) == published(D4)
    assert place.view("score", "run_id")[:12] == before
    assert {run.pipeline for run in list_runs(place.warehouse)} == {"payment-risk"}


# --- the model ----------------------------------------------------------------------------------


def test_model_version(place: ChangingPlace) -> None:
    place.registry.promote("card-risk", "2", "champion")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.seen_scores() == place.scores(1, 2, 3) | place.scores(4, version="2")
    assert place.view("model_version")[-5:] == [(34, "1"), *((key, "2") for key in keys(4))]

    place.run(4, "restate", "2026-01-01T00:00", "2026-01-04T00:00")
    assert place.seen_scores() == place.scores(1, 2, 3, 4, version="2")


def test_model_name(place: ChangingPlace) -> None:
    place.edit("card-risk@champion", "small-risk@champion")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.seen_scores() == place.scores(1, 2, 3) | place.scores(4, name="small-risk", version="1")
    assert place.view("model_name")[-5:] == [(34, "card-risk"), *((key, "small-risk") for key in keys(4))]


@EVERYWHERE
def test_model_outputs(place: ChangingPlace) -> None:
    place.edit("card-risk@champion", "class-risk@champion")

    assert place.plan(4) == due(D4)
    halted(place, 4, "outputs: `score` was float and is gone")

    place.command("check", str(place.spec), "--accept")
    assert place.run(4) == published(D4)
    added = ["score_high", "score_low", "score_middle", "predicted_class"]
    assert place.columns() == ["payment_id", "score", "amount", "country", *added]
    assert place.view("score")[-5:] == [(34, place.scores(3)[34]), *((key, None) for key in keys(4))]
    assert {name for _, name in place.view("predicted_class")[:12]} == {None}


@EVERYWHERE
def test_decide(place: ChangingPlace) -> None:
    place.add("decide: {verdict: \"case when score > 0.5 then 'block' else 'pass' end\"}")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.columns() == ["payment_id", "score", "amount", "country", "verdict"]
    verdicts = [(key, "block" if score > 0.5 else "pass") for key, score in place.scores(4).items()]
    assert place.view("verdict") == [*((key, None) for key in keys(1, 2, 3)), *verdicts]

    place.edit("'block' else 'pass'", "1 else 0")
    failed(place, 5, "`verdict` is string there, and int64 now")


# --- sources and features -----------------------------------------------------------------------


def test_features(place: ChangingPlace) -> None:
    before = place.view("score", "run_id")
    place.add("features: select * replace (amount * 2 as amount) from payments")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.view("score", "run_id")[:12] == before
    assert place.view("amount")[-4:] == [(41, 70.0), (42, 72.0), (43, 74.0), (44, 76.0)]


@EVERYWHERE
def test_source_type(place: ChangingPlace) -> None:
    parquet.write_table(payments(), place.folder / "payments.parquet")
    place.edit(
        "{kind: sql, connection: shop, table: payments, key: [payment_id], updated_column: updated_at}",
        "{kind: files, path: payments.parquet, format: parquet, key: [payment_id]}",
    )

    assert place.plan(3) == [(D3, "late rows")]
    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.seen_scores() == place.scores(1, 2, 3, 4)


@EVERYWHERE
def test_source_table(place: ChangingPlace) -> None:
    place.change("create table payments2 as select * from payments where payment_id not in (11, 32)")
    place.edit("table: payments,", "table: payments2,")

    assert place.plan(3) == [(D3, "late rows")]
    assert place.run(3) == published(D3)
    assert place.view() == [*keys(1, 2), 31, 33, 34]
    assert place.run(4) == published(D4)
    assert place.view() == [*keys(1, 2), 31, 33, 34, *keys(4)]


def test_source_query(place: ChangingPlace) -> None:
    place.edit("table: payments,", "query: select * from payments where country <> 'IT',")

    assert place.plan(3) == [(D3, "late rows")]
    assert place.run(3) == published(D3)
    assert place.run(4) == published(D4)
    assert place.view() == [*keys(1, 2), 31, 32, 34, 41, 42, 44]
    place.run(4, "restate", "2026-01-01T00:00", "2026-01-03T00:00")
    assert place.view() == [11, 12, 14, 21, 22, 24, 31, 32, 34, 41, 42, 44]


@EVERYWHERE
def test_column_added(place: ChangingPlace) -> None:
    place.change("alter table payments add column note text")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.columns() == ["payment_id", "score", "amount", "country"]
    assert place.seen_scores() == place.scores(1, 2, 3, 4)


@EVERYWHERE
def test_column_renamed(place: ChangingPlace) -> None:
    place.change("alter table payments rename column items to pieces")

    assert place.plan(4) == due(D4)
    halted(place, 4, "source `payments`: `items` was int and is gone")
    place.command("check", str(place.spec), "--accept")
    failed(place, 4, "model `card-risk/1` needs columns that the batch does not have: `items`")

    place.add("features: select *, pieces as items from payments")
    assert place.run(4) == published(D4)
    assert place.seen_scores() == place.scores(1, 2, 3, 4)


@EVERYWHERE
def test_used_column_dropped(place: ChangingPlace) -> None:
    place.change('alter table payments drop column "first"')

    assert place.plan(4) == due(D4)
    halted(place, 4, "source `payments`: `first` was bool and is gone")
    assert place.states()[0] == f"halted {D4}"


@EVERYWHERE
def test_column_of_the_spec_dropped(place: ChangingPlace) -> None:
    place.change("alter table payments drop column updated_at")

    assert "`updated_at` was timestamp and is gone" in place.refused_plan(3)
    assert "`updated_at` was timestamp and is gone" in place.refused_run(3, Halted)
    assert place.view() == keys(1, 2, 3)
    place.edit(", updated_column: updated_at", "")
    assert place.run(4) == published(D4)


@EVERYWHERE
def test_unused_column_dropped(place: ChangingPlace) -> None:
    place.change("alter table payments add column note text")
    assert place.run(4) == published(D4)
    place.change("alter table payments drop column note")

    assert place.plan(5) == due(D5)
    assert place.run(5) == published(D5)
    assert place.seen_scores() == place.scores(1, 2, 3, 4, 5)


@EVERYWHERE
def test_column_type(place: ChangingPlace) -> None:
    place.change(
        "alter table payments add column other text",
        "update payments set other = cast(amount as text)",
        "alter table payments drop column amount",
        "alter table payments rename column other to amount",
    )

    assert place.plan(4) == due(D4)
    halted(place, 4, "source `payments`: `amount` was float and is text now")
    code, text = place.command("check", str(place.spec), "--accept")
    assert code == 1
    assert "`amount` was float and is text now; accepted" in text
    halted(place, 4, "4 of 4 rows, 100.0% were refused")

    place.add("features: select * replace (cast(amount as double) as amount) from payments")
    assert place.run(4) == published(D4)
    assert place.seen_scores() == place.scores(1, 2, 3, 4)


@EVERYWHERE
def test_contract_accepted(place: ChangingPlace) -> None:
    place.edit("updated_column: updated_at}", "updated_column: updated_at, contract: freeze}")
    place.change("alter table payments add column note text")

    assert place.plan(4) == due(D4)
    halted(place, 4, "source `payments`: `note` (text) was added")
    _, text = place.command("check", str(place.spec), "--accept")
    assert "`note` (text) was added; accepted" in text
    assert place.run(4) == published(D4)
    assert place.seen_scores() == place.scores(1, 2, 3, 4)


# --- gates and the rest -------------------------------------------------------------------------


def test_partition_rows(place: ChangingPlace) -> None:
    before = place.view("score", "run_id")
    place.add("partition_rows: 2")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.view("score", "run_id")[:12] == before
    assert place.seen_scores() == place.scores(1, 2, 3, 4)


def test_expectation(place: ChangingPlace) -> None:
    place.change("update payments set amount = -1 where payment_id in (11, 41)")
    place.add(
        "expectations: {payments: [{type: expect_column_values_to_be_between, column: amount, min_value: 0, "
        "severity: warning}]}"
    )

    assert place.plan(4) == due(D4)
    halted(place, 4, "quarantine_limit (1 of 4 rows, 25.0% were refused, the limit is 5.0%; the first: ")
    assert place.view() == keys(1, 2, 3)  # published rows are not judged again


def test_quarantine_limit(place: ChangingPlace) -> None:
    place.change("update payments set country = 'XX' where payment_id = 41")
    halted(place, 4, "quarantine_limit (1 of 4 rows, 25.0% were refused, the limit is 5.0%; the first: ")
    place.add("quarantine_limit: 0.5")

    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.view() == [*keys(1, 2, 3), 42, 43, 44]


@EVERYWHERE
@pytest.mark.parametrize("grain", ["3d", "12h"])
def test_grain_after_a_release(place: ChangingPlace, grain: str) -> None:
    """A row that a person released stays released in intervals of another length."""
    place.change("update payments set amount = -1 where payment_id = 41")
    place.add(
        "expectations: {payments: [{type: expect_column_values_to_be_between, column: amount, min_value: 0, "
        "severity: warning}]}"
    )
    place.add("quarantine_limit: 0.5")
    assert place.run(4) == published(D4)
    assert place.view() == [*keys(1, 2, 3), 42, 43, 44]
    code, text = place.command(
        "quarantine", "release", str(place.spec), "--key", "41", "--reason", "checked", "--yes", "--no-run"
    )
    assert code == 0, text
    assert place.plan(4) == [(D4, "release")]

    place.edit("grain: 1d", f"grain: {grain}")
    place.run(6)
    assert place.view() == keys(1, 2, 3, 4, 5, 6)
    place.run(6, "restate", "2026-01-04T00:00", "2026-01-07T00:00")
    assert place.view() == keys(1, 2, 3, 4, 5, 6)
    assert place.plan(6) == []


def test_private_column(place: ChangingPlace) -> None:
    place.monkeypatch.setenv("PENSTOCK_PRIVATE_KEY", "k" * 40)
    before = place.view("score", "run_id")
    place.edit("updated_column: updated_at}", "updated_column: updated_at, private: {country: hash}}")

    assert "`keep` carries `country` along, which is private" in place.refused_plan(4)
    with pytest.raises(SpecError):
        place.run(4)
    place.edit("keep: [amount, country]", "keep: [amount]")
    assert place.plan(4) == due(D4)
    assert place.run(4) == published(D4)
    assert place.view("score", "run_id")[:12] == before
    assert place.view("country")[-5:] == [(34, "PL"), *((key, None) for key in keys(4))]
    place.run(4, "restate", "2026-01-01T00:00", "2026-01-04T00:00")
    assert {country for _, country in place.view("country")} == {None}
