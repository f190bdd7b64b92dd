"""The ledger on real databases: one run holds an interval, one run is live, and nobody publishes what is not theirs."""

import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, open_database
from penstock.database.dialects.base import BUSY_SECONDS
from penstock.errors import IntervalBusy, RunNotFound, SettingsError, TakenOver, TransientError, WrongState
from penstock.interval import DataInterval
from penstock.ledger import migration_fills, migrations
from penstock.ledger.claims import ClaimRequest, claim
from penstock.ledger.coverage import read_coverage
from penstock.ledger.lineage import replaced_by
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import find_run, list_runs, partitions_of, validations_of
from penstock.ledger.releases import pending_releases
from penstock.ledger.run_lease import CANCELLED, run_lease
from penstock.ledger.tables import metadata, partitions, quarantine, runs, schema, since, validations
from penstock.ledger.writer import Publication, Totals, end_run, publish, record_validations, renew, withdraw
from penstock.resources.usage import Usage
from penstock.run_types import ModelPin, ScoringRun, Validation
from penstock.spec.expectation_types import Outcome
from penstock.spec.yaml_file import parse_pipeline
from tests.conftest import DIALECTS
from tests.shop import SPEC

PIPELINE = parse_pipeline(SPEC.encode(), "x")
DAY = DataInterval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
MODEL = ModelPin("card-risk", "1", "d" * 64)
TOTALS = Totals(10, 9, 1, 0)


@pytest.fixture(params=DIALECTS)
def warehouse(request: Any, use_settings: Callable[..., Any], database_url: Callable[[str, str], str]) -> Database:
    return open_database(use_settings(warehouse=database_url(request.param, "warehouse")), "warehouse")


def take(database: Database, *, again: bool = False, lease: float = 60.0) -> ScoringRun | None:
    return claim(database, ClaimRequest(PIPELINE, DAY, MODEL, "due", lease, again=again))


def taken(database: Database, **options: Any) -> ScoringRun:
    run = take(database, **options)
    assert run is not None
    return run


def test_a_held_interval_is_busy_and_a_published_one_is_left_alone(warehouse: Database) -> None:
    run = taken(warehouse)
    with pytest.raises(IntervalBusy, match=run.run_id):
        take(warehouse)

    assert publish(warehouse, run, TOTALS, [0.1, 0.2]) == Publication()
    assert take(warehouse) is None
    record = find_run(warehouse, run.run_id[:6])
    assert (record.state, record.rows_extracted, record.score_quantiles) == ("published", 10, (0.1, 0.2))
    assert read_coverage(warehouse, PIPELINE).published == (DAY,)


def test_publishing_twice_changes_nothing_as_after_a_lost_answer(warehouse: Database) -> None:
    run = taken(warehouse)
    publish(warehouse, run, TOTALS, [])
    before = find_run(warehouse, run.run_id)

    publish(warehouse, run, TOTALS, [])

    assert find_run(warehouse, run.run_id) == before


def test_a_newer_run_supersedes_and_a_withdrawn_one_cannot_be_withdrawn_again(warehouse: Database) -> None:
    first = taken(warehouse)
    publish(warehouse, first, TOTALS, [])
    second = taken(warehouse, again=True)
    assert publish(warehouse, second, TOTALS, []).superseded == (first.run_id,)
    assert [r.state for r in list_runs(warehouse)] == ["published", "superseded"]

    withdraw(warehouse, second.run_id)

    with pytest.raises(WrongState, match="withdrawn"):
        withdraw(warehouse, second.run_id)
    assert read_coverage(warehouse, PIPELINE).published == ()
    assert read_coverage(warehouse, PIPELINE).withdrawn == (DAY,)
    with pytest.raises(RunNotFound):
        withdraw(warehouse, "no-such-run")


def test_a_run_whose_lease_ended_is_taken_over_and_can_no_longer_publish(warehouse: Database) -> None:
    zombie = taken(warehouse, lease=0.2)
    time.sleep(0.4)
    successor = taken(warehouse)

    with pytest.raises(TakenOver, match="abandoned"):
        publish(warehouse, zombie, TOTALS, [])
    with pytest.raises(TakenOver):
        renew(warehouse, zombie, 60)
    publish(warehouse, successor, TOTALS, [])
    assert sorted(r.state for r in list_runs(warehouse)) == ["abandoned", "published"]


def test_a_kept_lease_outlives_its_length(warehouse: Database) -> None:
    run = taken(warehouse, lease=1.0)
    with run_lease(warehouse, run, 1.0) as active:
        time.sleep(2.0)
        active.check()
        with pytest.raises(IntervalBusy):
            take(warehouse)
        publish(warehouse, run, TOTALS, [])


def test_an_error_that_leaves_the_hold_ends_the_run_and_frees_the_interval(warehouse: Database) -> None:
    run = taken(warehouse)
    with pytest.raises(ZeroDivisionError), run_lease(warehouse, run, 60.0):
        _ = 1 / 0
    record = find_run(warehouse, run.run_id)
    assert (record.state, record.error) == ("failed", "ZeroDivisionError: division by zero")

    interrupted = taken(warehouse)
    with pytest.raises(KeyboardInterrupt), run_lease(warehouse, interrupted, 60.0):
        raise KeyboardInterrupt
    assert find_run(warehouse, interrupted.run_id).error == CANCELLED


def test_of_ten_claims_at_once_one_wins(warehouse: Database) -> None:
    migrations.migrate(warehouse)
    barrier, won, lost = threading.Barrier(10), [], []

    def try_it() -> None:
        barrier.wait()
        try:
            won.append(taken(warehouse))
        except (IntervalBusy, TransientError) as error:
            lost.append(error)

    threads = [threading.Thread(target=try_it) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(won), len(lost)) == (1, 9)
    assert len(list_runs(warehouse)) == 1


def test_of_two_publishes_of_rival_runs_at_once_the_owner_wins(warehouse: Database) -> None:
    old = taken(warehouse, lease=0.1)
    time.sleep(0.3)
    new = taken(warehouse)
    outcomes: dict[str, str] = {}

    def try_it(name: str, run: ScoringRun) -> None:
        for _ in range(20):
            try:
                publish(warehouse, run, TOTALS, [])
                outcomes[name] = "published"
                return
            except TakenOver:
                outcomes[name] = "taken over"
                return
            except TransientError:
                time.sleep(0.05)

    threads = [threading.Thread(target=try_it, args=pair) for pair in (("old", old), ("new", new))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes == {"old": "taken over", "new": "published"}


def test_a_run_that_has_ended_is_not_ended_again(warehouse: Database) -> None:
    run = taken(warehouse)
    end_run(warehouse, run, "failed", "first")
    end_run(warehouse, run, "failed", "second")
    assert find_run(warehouse, run.run_id).error == "first"


def test_migrating_twice_changes_nothing_and_a_newer_ledger_is_refused(warehouse: Database) -> None:
    migrations._migrate(warehouse)
    migrations._migrate(warehouse)
    names = set(sa.inspect(warehouse.engine).get_table_names())
    assert names == {table.name for table in metadata.sorted_tables}

    with warehouse.writing() as connection:
        connection.execute(schema.insert().values(version=99, applied_at=datetime.now(UTC)))
    with pytest.raises(SettingsError, match="version 99"):
        migrations._migrate(warehouse)


def test_a_new_ledger_is_made_without_a_look_at_its_own_tables(
    warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the columns took most of the time on DuckDB."""
    looked_at: list[str] = []
    read = sa.Inspector.get_columns

    def note(self: sa.Inspector, table: str, *more: Any, **named: Any) -> Any:
        looked_at.append(table)
        return read(self, table, *more, **named)

    monkeypatch.setattr(sa.Inspector, "get_columns", note)
    migrations._migrate(warehouse)

    assert looked_at == []
    monkeypatch.undo()
    for table in metadata.sorted_tables:
        there = {column["name"] for column in sa.inspect(warehouse.engine).get_columns(table.name)}
        assert there == set(table.columns.keys())


def test_a_new_ledger_in_a_file_that_another_process_writes_to_waits_for_it(
    tmp_path: Path, use_settings: Callable[..., Any]
) -> None:
    warehouse = open_database(use_settings(warehouse=f"sqlite:///{tmp_path}/new.sqlite"), "warehouse")
    other = sqlite3.connect(tmp_path / "new.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    threading.Timer(0.5, other.commit).start()

    migrations.migrate(warehouse)

    assert migrations.read_version(warehouse) == migrations.LATEST
    other.close()


def test_who_reads_a_ledger_in_a_new_process_does_not_wait_for_who_writes(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = open_database(use_settings(warehouse=database_url("sqlite", "warehouse")), "warehouse")
    taken(warehouse)
    monkeypatch.setattr(migrations, "_done", set())
    begun = time.monotonic()

    with warehouse.writing():
        assert len(list_runs(warehouse)) == 1

    assert time.monotonic() - begun < BUSY_SECONDS


def test_an_upgrade_adds_a_later_column_and_keeps_the_rows(
    warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = taken(warehouse)
    later = sa.Column("added_later", sa.Text, info={"since": migrations.LATEST + 1})
    runs.append_column(later)
    try:
        monkeypatch.setattr(migrations, "LATEST", migrations.LATEST + 1)
        migrations._migrate(warehouse, migrations.LATEST)
        with warehouse.reading() as connection:
            assert connection.execute(sa.select(runs.c.run_id, later)).all() == [(run.run_id, None)]
    finally:
        runs._columns.remove(later)  # type: ignore[attr-defined] # SQLAlchemy has no public way back


def test_an_upgrade_of_the_first_ledger_brings_releases_and_keeps_the_quarantine(warehouse: Database) -> None:
    run = taken(warehouse)
    kept = {"run_id": run.run_id, "partition": 0, "number": 0, "pipeline": "card-risk", "stage": "payments"}
    kept |= {"source": "payments", "key": '{"payment_id": 3}', "reasons": '["a"]', "row": "{}", "state": "held"}
    with warehouse.writing() as connection:
        quarantine.drop(connection)
        first = [c._copy() for c in quarantine.columns if since(c) == 1]
        sa.Table("penstock_quarantine", sa.MetaData(), *first).create(connection)
        connection.execute(sa.insert(sa.table("penstock_quarantine", *(sa.column(name) for name in kept))), kept)
        forget_later(connection, 1)

    migrations._migrate(warehouse)

    [row] = quarantined_rows(warehouse, run_id=run.run_id)
    assert (row.key, row.state, len(row.digest)) == ('{"payment_id": 3}', "held", 64)
    assert pending_releases(warehouse, "card-risk") == {}


def forget_later(connection: sa.Connection, version: int) -> None:
    """Drop the tables of later versions, and the steps that led to them."""
    for table in (t for t in metadata.sorted_tables if since(t) > version):
        table.drop(connection, checkfirst=True)
    connection.execute(sa.delete(schema).where(schema.c.version > version))


def as_of(version: int, table: sa.Table) -> sa.Table:
    return sa.Table(table.name, sa.MetaData(), *(c._copy() for c in table.columns if since(c) <= version))


def test_an_upgrade_brings_costs_and_leaves_those_of_older_runs_unknown(warehouse: Database) -> None:
    migrations.migrate(warehouse)
    old = {name: as_of(4, table) for name, table in (("runs", runs), ("partitions", partitions))}
    with warehouse.writing() as connection:
        for table in old.values():
            table.drop(connection)
            table.create(connection)
        forget_later(connection, 4)
        now = datetime(2026, 1, 3, tzinfo=UTC)
        words = {c.name: "x" for c in old["runs"].columns if not c.nullable and isinstance(c.type, sa.Text)}
        kept = words | {"run_id": "r", "state": "published", "lease_until": now, "started_at": now}
        connection.execute(old["runs"].insert().values(**kept))
        counts = {c.name: 1 for c in old["partitions"].columns if c.name.startswith("rows_")}
        connection.execute(
            old["partitions"].insert().values(run_id="r", partition=0, attempts=1, seconds="{}", **counts)
        )

    migrations._migrate(warehouse)

    record = find_run(warehouse, "r")
    assert (record.state, record.cpu_seconds, record.bytes_read, record.peak_bytes, record.cost) == (
        ("published",) + (None,) * 4
    )
    assert [(p.rows_scored, p.cpu_seconds, p.process) for p in partitions_of(warehouse, "r")] == [(1, None, None)]


def test_what_a_run_cost_is_kept_however_it_ends(warehouse: Database) -> None:
    usage = Usage(12.5, 2**40, 2**33, 2**31, 3, 0.25)
    published, failed = taken(warehouse), None
    publish(warehouse, published, TOTALS, [], usage)
    failed = taken(warehouse, again=True)
    end_run(warehouse, failed, "failed", "the disk is full", TOTALS, usage)

    for run in (published, failed):
        record = find_run(warehouse, run.run_id)
        assert (record.cpu_seconds, record.bytes_read, record.bytes_written) == (12.5, 2**40, 2**33)
        assert (record.peak_bytes, record.processes, record.cost, record.cost_per_million) == (2**31, 3, 0.25, 25_000.0)


def test_an_upgrade_from_before_the_steps_keeps_runs_of_one_model_and_takes_runs_of_several(
    warehouse: Database,
) -> None:
    old = taken(warehouse)
    publish(warehouse, old, TOTALS, [])
    with warehouse.writing() as connection:
        rows = connection.execute(sa.select(*(c for c in runs.columns if since(c) < 6))).mappings().all()
        guarded = [dict(row) for row in rows]
        runs.drop(connection)
        before = as_of(5, runs)
        before.create(connection)
        connection.execute(before.insert(), guarded)
        forget_later(connection, 5)

    migrations._migrate(warehouse)

    kept = find_run(warehouse, old.run_id)
    assert (kept.step_models, kept.models) == ({}, "card-risk/1")
    steps = {"screen": ModelPin("screen", "2", "e" * 64), "deep": MODEL}
    new = claim(warehouse, ClaimRequest(PIPELINE, DAY, MODEL, "due", 60.0, again=True, steps=steps))
    assert new is not None
    record = find_run(warehouse, new.run_id)
    assert (list(record.step_models.items()), record.models) == (list(steps.items()), "screen/2, card-risk/1")


def downgrade(database: Database, version: int, *tables: sa.Table) -> None:
    """Bring tables that hold rows back to an older version of the ledger."""
    with database.writing() as connection:
        for table in tables:
            old = as_of(version, table)
            rows = connection.execute(sa.select(*(table.c[column.name] for column in old.columns))).mappings().all()
            kept = [dict(row) for row in rows]
            table.drop(connection)
            old.create(connection)
            if kept:
                connection.execute(old.insert(), kept)
        forget_later(connection, version)


def test_an_upgrade_links_runs_to_the_runs_that_replaced_them(warehouse: Database) -> None:
    first = taken(warehouse)
    publish(warehouse, first, TOTALS, [])
    dead = taken(warehouse, again=True, lease=0.1)
    time.sleep(0.3)
    second = taken(warehouse, again=True)
    publish(warehouse, second, TOTALS, [])
    third = taken(warehouse, again=True)
    publish(warehouse, third, TOTALS, [])
    withdraw(warehouse, third.run_id)
    links = {run.run_id: run.replaced_by_run_id for run in list_runs(warehouse)}
    assert links == {
        first.run_id: second.run_id,
        dead.run_id: second.run_id,
        second.run_id: third.run_id,
        third.run_id: None,
    }

    downgrade(warehouse, 6, runs)
    migrations._migrate(warehouse)

    assert {run.run_id: run.replaced_by_run_id for run in list_runs(warehouse)} == links


def test_an_upgrade_of_many_runs_of_one_snapshot_takes_steps_in_proportion(
    use_settings: Callable[..., Any], database_url: Callable[[str, str], str]
) -> None:
    warehouse = open_database(use_settings(warehouse=database_url("sqlite", "warehouse")), "warehouse")
    migrations._migrate(warehouse)
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    common = {c.name: "x" for c in runs.columns if not c.nullable} | {"state": "superseded", "lease_until": begin}

    def steps_to_link(first: int, end: int) -> int:
        """Add runs that superseded one another, link all, and return the thousands of steps that SQLite took."""
        times = [begin + timedelta(seconds=second) for second in range(end + 1)]
        rows = [
            common | {"run_id": str(n), "started_at": times[n], "published_at": times[n], "retired_at": times[n + 1]}
            for n in range(first, end)
        ]
        counted: list[None] = []
        with warehouse.writing() as connection:
            connection.execute(runs.insert(), rows)
            raw: Any = connection.connection.driver_connection
            raw.set_progress_handler(lambda: counted.append(None), 1_000)
            migration_fills._fill_replaced_by_run_id(connection)
            raw.set_progress_handler(None, 0)
        return len(counted)

    few, many = steps_to_link(0, 500), steps_to_link(500, 2_000)

    assert many < 8 * few
    links = {run.run_id: run.replaced_by_run_id for run in list_runs(warehouse, limit=2_000)}
    assert links == {str(n): str(n + 1) for n in range(1_999)} | {"1999": None}


def test_a_command_that_only_reads_upgrades_a_ledger_of_the_version_before(
    warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = taken(warehouse)
    downgrade(warehouse, 6, runs, validations)
    monkeypatch.setattr(migrations, "_done", set())

    assert find_run(warehouse, run.run_id).replaced_by_run_id is None
    assert validations_of(warehouse, run.run_id) == []


def test_a_run_that_a_process_of_the_version_before_retired_has_no_successor(warehouse: Database) -> None:
    run = taken(warehouse)
    with warehouse.writing() as connection:
        connection.execute(sa.update(runs).values(state="abandoned", retired_at=datetime.now(UTC)))

    assert replaced_by(warehouse, find_run(warehouse, run.run_id)) is None


def test_a_validation_that_a_process_of_the_version_before_wrote_shows_its_counts_once(warehouse: Database) -> None:
    run = taken(warehouse)
    record_validations(warehouse, run, [Validation("payments", "amount", "warning", 6, 5, "quarantined")])
    old = {"unit": None, "observed": None, "released": None, "detail": "5 of 6 rows, e.g. 'b'"}
    with warehouse.writing() as connection:
        connection.execute(sa.update(validations).values(**old))

    [shown] = validations_of(warehouse, run.run_id)

    assert shown.detail == "5 of 6 rows, e.g. 'b'"


OLD_DETAILS: dict[str, tuple[Outcome, str]] = {
    "1,234 of 56,789 rows, e.g. 'b'": ("quarantined", "e.g. 'b'"),
    "1,234 of 56,789 rows": ("quarantined", ""),
    "1,234 of 56,789 rows; 4 of them released before": ("quarantined", "4 of them released before"),
    "1,234 of 56,789 rows unexpected": ("halted", ""),
    "1,234 of 56,789 rows (2.2%) were refused, the limit is 1.0%": ("halted", "2.2% were refused, the limit is 1.0%"),
    "observed 0.41": ("halted", "observed 0.41"),
    "unexpected 'b', missing 'c'": ("noted", "unexpected 'b', missing 'c'"),
    "": ("passed", ""),
}
"""Details as version 6 wrote them: the outcome, and what was observed beyond the counts."""


def test_an_upgrade_splits_the_counts_off_what_was_observed(warehouse: Database) -> None:
    run = taken(warehouse)
    found = [
        Validation("payments", f"e{number}", "critical", 56_789, 1_234, outcome)
        for number, (outcome, _) in enumerate(OLD_DETAILS.values())
    ]
    record_validations(warehouse, run, [*found, Validation("visits", "max_malformed", "critical", 100, 2, "noted")])
    details = [*OLD_DETAILS, "2 of 100 lines (2.00%) cannot be read, the limit is 1.00%"]
    downgrade(warehouse, 6, validations)
    with warehouse.writing() as connection:
        for number, detail in enumerate(details):
            connection.execute(sa.update(validations).where(validations.c.number == number).values(detail=detail))

    migrations._migrate(warehouse)

    shown = {v.expectation: v for v in validations_of(warehouse, run.run_id)}
    for number, (_, observed) in enumerate(OLD_DETAILS.values()):
        unit = "values" if "missing" in observed else "rows"
        assert (shown[f"e{number}"].observed, shown[f"e{number}"].unit) == (observed, unit)
    assert shown["max_malformed"].detail == "2 of 100 lines, 2.00% cannot be read, the limit is 1.00%"


def test_validations_of_partitions_are_added_up_with_their_counts_and_releases(warehouse: Database) -> None:
    run = taken(warehouse)
    parts = [
        Validation("payments", "amount", "warning", 4, 0, "passed", partition=0),
        Validation("payments", "amount", "warning", 5, 2, "quarantined", "e.g. -1.0", 1, released=1),
        Validation("payments", "amount", "warning", 6, 3, "noted", "e.g. -2.0", 2, released=3),
    ]
    record_validations(warehouse, run, parts)

    [added] = validations_of(warehouse, run.run_id)

    assert added.detail == "5 of 15 rows, e.g. -1.0; 4 of them released before"
    assert (added.outcome, added.partition) == ("quarantined", 0)
    with warehouse.reading() as connection:
        stored = connection.execute(sa.select(validations.c.detail).order_by(validations.c.number)).scalars().all()
    assert stored == ["", "2 of 5 rows, e.g. -1.0; 1 of them released before", parts[2].detail]
