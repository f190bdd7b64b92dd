"""Seals of rows: what was altered, removed or added since a run is found, and what Penstock itself removed is not."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from penstock.database.connections import Connector
from penstock.errors import SealKeyUnknown, SettingsError
from penstock.explain.scores import read_key
from penstock.ledger.reader import RunRecord, list_runs
from penstock.ledger.writer import withdraw
from penstock.privacy.masking import NO_MASKING
from penstock.privacy.row_key import RowKey
from penstock.seals.keys import read_seal_keys
from penstock.seals.stored import read_roots
from penstock.settings import Settings
from penstock.spec.sandbox import as_sandbox
from penstock.spec.yaml_file import load_pipeline, parse_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.check_seals import SealCheck, SealReport
from penstock.upkeep.erasure import ErasureRequest, erase
from penstock.upkeep.exported_roots import compare_roots, find_exported, read_sealed_runs
from penstock.upkeep.lost_keys import list_candidates
from penstock.upkeep.prune import prune
from penstock.upkeep.prune_plan import plan_prune
from penstock.upkeep.sealed_rows import sealer_for
from penstock.upkeep.verify import verify_ledger
from tests.conftest import DIALECTS, view_rows
from tests.driver import SETTINGS, Driver
from tests.integration.test_challengers import CHALLENGER, register
from tests.shop import SPEC, START, Place

KEY, OTHER = SecretStr("the first key of the seals"), SecretStr("the second key of the seals")
SEALED = SPEC.replace("partition_rows: 150", "partition_rows: 40") + "seal: true\n"
END = START + timedelta(days=2)


WITH_KEY = SETTINGS.model_copy(update={"seal_key": KEY})


@dataclass
class Sealed:
    """A place whose rows are sealed."""

    place: Place
    settings: Settings = WITH_KEY

    def run(self, days: int = 2, *asked: Any) -> list[str]:
        driver = Driver(load_pipeline(self.place.spec), connect, self.place.registry, settings=self.settings)
        return driver.run(START + timedelta(days=days), *asked)

    def check(self, run_prefix: str = "") -> SealReport:
        pipeline, warehouse = load_pipeline(self.place.spec), self.place.warehouse
        candidates = partial(
            list_candidates, warehouse, pipeline, Connector(connect, (), self.place.folder), NO_MASKING
        )
        keys = read_seal_keys(self.settings, "the test checks seals")
        return SealCheck(warehouse, pipeline, keys, NO_MASKING, candidates).check(run_prefix)

    def runs(self, variant: str = "live") -> list[RunRecord]:
        found = [run for run in list_runs(self.place.warehouse) if run.variant.startswith(variant)]
        return sorted(found, key=lambda run: (run.interval_key, run.started_at))

    def write(self, *statements: str, **values: Any) -> None:
        with self.place.warehouse.writing() as connection:
            for statement in statements:
                connection.execute(sa.text(statement), values)

    def erase(self, key: str) -> dict[str, int]:
        request = ErasureRequest(load_pipeline(self.place.spec), RowKey({"payment_id": key}))
        open_keys = partial(read_seal_keys, self.settings, "rows are sealed")
        return erase(self.place.warehouse, request, NO_MASKING, b"s" * 16, open_keys)


@pytest.fixture
def sealed(make_place: Callable[..., Place], request: pytest.FixtureRequest) -> Sealed:
    dialect = getattr(request, "param", "sqlite")
    return Sealed(make_place(dialect, dialect, SEALED, days=2, a_day=60))


def found(report: SealReport) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(each.fault, each.rows, each.keys) for each in report.findings]


def key(number: int) -> str:
    return f'{{"payment_id": "{number}"}}'


ADDED = (
    "insert into card_risk_scores__history (run_id, partition, payment_id, score, amount, country, penstock_seal) "
    "select run_id, partition, 9999, score, amount, country, penstock_seal from card_risk_scores__history "
    "where payment_id = 7"
)


@pytest.mark.parametrize("sealed", DIALECTS, indirect=True)
def test_altered_added_and_removed_rows_are_found_by_key(sealed: Sealed) -> None:
    sealed.run()
    sound = sealed.check()
    assert (sound.runs, sound.findings) == (2, [])
    assert sound.rows == len(view_rows(sealed.place.warehouse)) == 120
    assert verify_ledger(sealed.place.warehouse) == ()

    sealed.write(
        "update card_risk_scores__history set score = 0.001 where payment_id = 2",
        "update card_risk_scores__history set country = 'XX' where payment_id = 3",
        "update card_risk_scores__history set amount = null where payment_id = 4",
        "update card_risk_scores__history set penstock_seal = null where payment_id = 5",
        "update card_risk_scores__history set partition = 1 - partition where payment_id = 6",
        ADDED,
        "delete from card_risk_scores__history where payment_id = 100",
        "update card_risk_scores__history set payment_id = 9998 where payment_id = 101",
    )

    keys: dict[str, set[str]] = defaultdict(set)
    for each in sealed.check().findings:
        keys[each.fault].update(each.keys)
        assert each.rows == len(each.keys)
    assert keys == {
        "altered": set(map(key, (2, 3, 4, 5))),
        "added": set(map(key, (6, 9998, 9999))),
        "removed": set(map(key, (6, 100, 101))),
    }


LEDGER: dict[str, tuple[str, list[tuple[str, int]]]] = {
    "rows": ("update penstock_seals set rows = 39 where partition = 0", [("seals changed", 0)] * 4),
    "tags": (
        "update penstock_seals set tags = substr(tags, 17) where partition = 1 and run_id = (select min(run_id) from "
        "penstock_seals)",
        [("added", 1)],
    ),
    "root": (
        "update penstock_runs set seal_root = substr(seal_root, 1, 70) || '000' where seal_root is not null",
        [("seals changed", 0)] * 2,
    ),
    "model": ("update penstock_runs set model_version = '9'", [("seals changed", 0)] * 2 + [("altered", 40)] * 2),
    "no root": (
        "update penstock_runs set seal_root = null where interval_start >= '2026-01-02'",
        [("not sealed", 60)],
    ),
    "another pipeline": (
        "update penstock_runs set pipeline = 'other', seal_root = null where interval_start >= '2026-01-02'",
        [("not sealed", 60)],
    ),
    "another table": (
        "update penstock_runs set destination_table = 'copy' where interval_start >= '2026-01-02'",
        [("added", 60), ("rows gone", 60), ("seals changed", 0)],
    ),
    "no rows": (
        "update penstock_runs set seal_root = null, rows_scored = 0 where interval_start >= '2026-01-02'",
        [("not sealed", 60)],
    ),
    "the interval": (
        "update penstock_runs set interval_end = '2026-02-01' where interval_start >= '2026-01-02'",
        [("seals changed", 0)],
    ),
    "a partition": (
        "delete from penstock_seals where partition = 1 and run_id = (select min(run_id) from penstock_seals)",
        [("seals changed", 0), ("added", 20)],
    ),
}


@pytest.mark.parametrize("forged", LEDGER)
def test_changes_of_the_ledger_do_not_hide_changes_of_rows(sealed: Sealed, forged: str) -> None:
    sealed.run()
    statement, wanted = LEDGER[forged]

    sealed.write(statement)

    seen = [(each.fault, each.rows) for each in sealed.check().findings]
    assert seen == wanted or set(wanted) <= set(seen)
    assert forged == "model" or len(seen) == len(wanted)


def test_rows_that_penstock_removed_are_no_forgery(sealed: Sealed) -> None:
    sealed.run()
    sealed.run(2, "restate", START, END)
    assert sealed.erase("7")["card_risk_scores__history"] == 2

    erased = sealed.check()
    assert (erased.runs, erased.erased, erased.findings) == (4, 2, [])
    assert verify_ledger(sealed.place.warehouse) == ()

    spec = sealed.place.spec.read_text() + "retention: {keep_runs: 0}\n"
    sealed.place.spec.write_text(spec)
    pipeline = load_pipeline(sealed.place.spec)
    prune(sealed.place.warehouse, plan_prune(sealed.place.warehouse, pipeline, END))

    pruned = sealed.check()
    assert (pruned.runs, pruned.pruned, pruned.erased, pruned.findings) == (2, 2, 1, [])
    assert verify_ledger(sealed.place.warehouse) == ()


def test_rows_of_a_killed_prune_are_no_forgery(sealed: Sealed) -> None:
    sealed.run()
    sealed.run(2, "restate", START, END)
    sealed.place.spec.write_text(sealed.place.spec.read_text() + "retention: {keep_runs: 0}\n")
    plan = plan_prune(sealed.place.warehouse, load_pipeline(sealed.place.spec), END)
    deletes = 0

    def stop(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal deletes
        deletes += statement.startswith("DELETE FROM main.card_risk_scores__history")
        if deletes == 3:
            raise KeyboardInterrupt

    sa.event.listen(sa.Engine, "before_cursor_execute", stop)
    with pytest.raises(KeyboardInterrupt):
        prune(sealed.place.warehouse, plan, batch_rows=10)
    sa.event.remove(sa.Engine, "before_cursor_execute", stop)

    assert count_rows(sealed) == 220
    assert sealed.check().findings == []
    prune(sealed.place.warehouse, plan)
    assert (count_rows(sealed), sealed.check().pruned, sealed.check().findings) == (120, 2, [])


def count_rows(sealed: Sealed) -> int:
    with sealed.place.warehouse.reading() as connection:
        return int(connection.execute(sa.text("select count(*) from card_risk_scores__history")).scalar_one())


def test_a_removed_row_cannot_be_passed_off_as_forgotten(sealed: Sealed) -> None:
    sealed.run()
    sealed.erase("7")
    sealed.write(
        "insert into penstock_erased_seals (run_id, seal, partition, tag, proof) "
        "select run_id, substr(penstock_seal, 43), partition, '0123456789abcdef', "
        "(select min(proof) from penstock_erased_seals) from card_risk_scores__history where payment_id = 8",
        "delete from card_risk_scores__history where payment_id = 8",
    )

    assert found(sealed.check()) == [("erasure forged", 1, ()), ("removed", 1, (key(8),))]


def test_a_forgotten_row_that_is_back_is_found(sealed: Sealed) -> None:
    sealed.run()
    sealed.write("create table kept as select * from card_risk_scores__history where payment_id = 7")
    sealed.erase("7")
    sealed.write("insert into card_risk_scores__history select * from kept")

    assert found(sealed.check()) == [("restored", 1, (key(7),))]


def test_forgetting_sealed_rows_needs_their_key(sealed: Sealed) -> None:
    sealed.run()
    keyless = replace(sealed, settings=SETTINGS)
    stranger = replace(sealed, settings=SETTINGS.model_copy(update={"seal_key": OTHER}))

    with pytest.raises(SettingsError, match="rows are sealed, and PENSTOCK_SEAL_KEY is not set"):
        keyless.erase("7")
    with pytest.raises(SealKeyUnknown):
        stranger.erase("7")

    assert sealed.check().findings == []
    assert len(view_rows(sealed.place.warehouse)) == 120


def test_a_missing_a_short_and_a_wrong_key_stop_before_rows_are_read(sealed: Sealed) -> None:
    def run(seal_key: SecretStr | None, **more: Any) -> str:
        other = replace(sealed, settings=SETTINGS.model_copy(update={"seal_key": seal_key, **more}))
        steps = other.run(2, "restate", START, END)
        assert not any(step.startswith("extract") for step in steps)
        return next(step for step in steps if step.startswith("failed"))

    assert "PENSTOCK_SEAL_KEY is not set" in run(None)
    assert "PENSTOCK_SEAL_KEY has fewer than 16 characters" in run(SecretStr("short"))
    assert "PENSTOCK_SEAL_KEY_OLD has fewer than 16 characters" in run(KEY, seal_key_old=SecretStr("short"))
    sealed.run()
    assert "rows are sealed under the key" in run(OTHER)
    stranger = replace(sealed, settings=SETTINGS.model_copy(update={"seal_key": OTHER}))
    with pytest.raises(SealKeyUnknown, match="No row was read"):
        stranger.check(next(run.run_id for run in sealed.runs() if run.seal_root))


def test_a_run_under_an_unknown_key_does_not_keep_others_from_their_check(sealed: Sealed) -> None:
    sealed.run(1)
    first = sealed.runs()[0]
    rotated = replace(sealed, settings=SETTINGS.model_copy(update={"seal_key": OTHER, "seal_key_old": KEY}))
    rotated.run(2)
    rotated.write("update card_risk_scores__history set score = 0.001 where payment_id in (7, 70)")
    later = replace(sealed, settings=SETTINGS.model_copy(update={"seal_key": OTHER}))

    report = later.check()

    assert report.runs == 1
    [unknown, altered] = report.findings
    assert (unknown.run_id, unknown.fault, unknown.rows) == (first.run_id, "key not set", 60)
    assert unknown.key_ids == (str(first.seal_root).partition(".")[0],)
    assert (altered.fault, altered.keys) == ("altered", (key(70),))

    rotated.run(2, "restate", START, START + timedelta(days=1))
    rotated.place.spec.write_text(rotated.place.spec.read_text() + "retention: {keep_runs: 0}\n")
    prune(sealed.place.warehouse, plan_prune(sealed.place.warehouse, load_pipeline(sealed.place.spec), END))
    assert (later.check().pruned, found(later.check())) == (1, [("altered", 1, (key(70),))])


def test_a_root_of_the_first_version_still_holds(sealed: Sealed) -> None:
    """It does not cover the table, so a run that points elsewhere shows by its rows in the spec's table."""
    sealed.run(1)
    [run] = sealed.runs()
    keys = read_seal_keys(sealed.settings, "the test checks seals")
    with sealed.place.warehouse.reading() as connection:
        root = sealer_for(run, keys, keys.current.id).seal_run(read_roots(connection, run.run_id), None)

    sealed.write("update penstock_runs set seal_root = :root", root=root)

    assert (sealed.check().runs, sealed.check().findings) == (1, [])
    sealed.write(
        "create table copy__history as select * from card_risk_scores__history",
        "update penstock_runs set destination = 'main.copy', destination_table = 'copy'",
    )
    assert ("added", 60, ()) in found(sealed.check())


def test_a_planted_root_is_named_and_hides_nothing(sealed: Sealed) -> None:
    sealed.run()
    sealed.write(
        "update penstock_runs set seal_root = 'x.y' where interval_start >= '2026-01-02'",
        "update card_risk_scores__history set score = 0.001 where payment_id = 7",
    )

    seen = [(each.fault, each.key_ids) for each in sealed.check().findings]
    assert seen == [("altered", ()), ("key not set", ("x",))]


def test_a_former_key_stays_valid_beside_the_current_one(sealed: Sealed) -> None:
    sealed.run(1)
    rotated = SETTINGS.model_copy(update={"seal_key": OTHER, "seal_key_old": KEY})
    later = replace(sealed, settings=rotated)
    later.run(2)

    first, second = (str(run.seal_root).partition(".")[0] for run in later.runs())
    assert first != second
    assert later.check().findings == []
    later.erase("7")
    later.erase("70")
    assert (later.check().erased, later.check().findings) == (2, [])
    later.write("update card_risk_scores__history set score = 0.001 where payment_id in (8, 71)")
    assert found(later.check()) == [("altered", 1, (key(8),)), ("altered", 1, (key(71),))]


def test_rows_of_challengers_are_sealed(sealed: Sealed) -> None:
    sealed.place.spec.write_text(SEALED + CHALLENGER)
    register(sealed.place.registry)
    sealed.run()
    assert (sealed.check().runs, sealed.check().findings) == (4, [])
    [shadow, _] = sealed.runs("shadow")

    sealed.write("delete from card_risk_scores__history where payment_id = 7 and run_id = :run", run=shadow.run_id)

    [finding] = sealed.check().findings
    assert (finding.variant, finding.fault, finding.keys) == (shadow.variant, "removed", (key(7),))
    assert sealed.check(shadow.run_id[:8]).runs == 1


def test_runs_from_before_the_first_seal_are_counted(sealed: Sealed) -> None:
    sealed.place.spec.write_text(SPEC)
    sealed.run(1)
    sealed.place.spec.write_text(SEALED)
    sealed.run(2)

    report = sealed.check()

    assert (report.runs, report.findings) == (1, [])
    assert [run.run_id for run in report.older] == [sealed.runs()[0].run_id]
    assert "penstock_seal" not in columns_of(sealed, "card_risk_scores")
    withdraw(sealed.place.warehouse, sealed.runs()[1].run_id)
    assert sealed.check().findings == []


def test_seals_of_a_sandbox_are_kept_apart_from_those_of_production(sealed: Sealed) -> None:
    """Production is not sealed because a sandbox is, and it may be sealed under another key."""
    sealed.place.spec.write_text(SPEC)
    settings = SETTINGS.model_copy(update={"seal_key": OTHER})
    sandbox = as_sandbox(parse_pipeline(SEALED.encode(), "draft.yaml"), "lower")
    Driver(sandbox, connect, sealed.place.registry, settings=settings).run(END, "backfill", START, END)
    sealed.run(1)

    beside = replace(sealed, settings=settings).check()
    sealed.place.spec.write_text(SEALED)
    sealed.run(2)
    both = replace(sealed, settings=WITH_KEY.model_copy(update={"seal_key_old": OTHER})).check()

    assert (beside.runs, beside.findings, len(beside.older)) == (2, [], 1)
    assert (both.runs, both.findings, len(both.older)) == (3, [], 1)
    [unsealed, second] = sealed.runs()
    assert (unsealed.seal_root, second.state) == (None, "published")


def test_a_table_that_was_handed_over_is_checked_for_its_own_runs_alone(sealed: Sealed) -> None:
    """The former owner checks its runs there. The new one was never sealed, so nothing of it is missing a seal."""
    sealed.run(1)
    former, name = sealed.place.spec, "table: card_risk_scores"
    former.write_text(SEALED.replace(name, "table: card_risk_sealed"))
    sealed.run(2)
    sealed.write("update penstock_destinations set pipeline = 'unsealed' where destination like '%card_risk_scores'")
    sealed.write("update penstock_runs set state = 'superseded' where destination_table = 'card_risk_scores'")
    spec = former.with_name("unsealed.yaml")
    spec.write_text(SPEC.replace("name: card-risk", "name: unsealed"))
    other = replace(sealed, place=replace(sealed.place, spec=spec))
    other.run(2)

    assert (sealed.check().runs, sealed.check().findings) == (3, [])
    assert (other.check().runs, other.check().findings) == (1, [])
    sealed.write("update card_risk_scores__history set score = 0 where payment_id = 7")
    [mine] = [each for each in sealed.check().findings if each.fault == "altered"]
    [others] = [each for each in other.check().findings if each.fault == "altered"]
    assert (mine.keys, others.keys) == ((key(7),), ())


@pytest.mark.parametrize("sealed", DIALECTS, indirect=True)
def test_planted_tables_and_places_do_not_end_the_check(sealed: Sealed) -> None:
    sealed.run()
    sealed.write("create table card_risk_scores__sandbox_x__history (payment_id integer)")
    sealed.write("update penstock_runs set destination = 'no_such.x' where interval_key like '2026-01-01%'")
    sealed.write("update card_risk_scores__history set score = 0 where payment_id = 100")

    report = sealed.check()
    sealed.write("update penstock_runs set step_models = '{' where interval_key like '2026-01-01%'")
    unreadable = sealed.check()

    wanted = {("other form", "card_risk_scores__sandbox_x__history", ()), ("altered", "", (key(100),))}
    assert {(each.fault, each.table, each.keys) for each in report.findings} >= wanted
    assert {(each.fault, each.table, each.keys) for each in unreadable.findings} == {
        *wanted,
        ("run unreadable", "", ()),
    }


@pytest.mark.parametrize("sealed", ["duckdb"], indirect=True)  # the other tables have a unique key
def test_explain_finds_a_doubled_row_of_a_sealed_run(sealed: Sealed) -> None:
    sealed.run()
    copied = "insert into card_risk_scores__history select * from card_risk_scores__history where payment_id = 7"
    sealed.write(copied)

    keys = read_seal_keys(sealed.settings, "the test checks seals")
    doubled, single = (
        read_key(
            sealed.place.warehouse,
            load_pipeline(sealed.place.spec),
            RowKey({"payment_id": number}),
            NO_MASKING,
            None,
            seal_keys=keys,
        )
        for number in ("7", "8")
    )

    assert (doubled.seal, single.seal) == ("does not hold: the run has the row more than once", "holds")
    assert found(sealed.check()) == [("added", 1, (key(7),))]


def test_explain_checks_the_row_that_readers_see(sealed: Sealed) -> None:
    """Not the row of a copy to which somebody has pointed the run."""
    sealed.run()
    sealed.write(
        "create table copy__history as select * from card_risk_scores__history",
        "update penstock_runs set destination = 'main.copy', destination_table = 'copy'",
        "update card_risk_scores__history set score = 0.001 where payment_id = 7",
    )

    keys = read_seal_keys(sealed.settings, "the test checks seals")
    pipeline, row_key = load_pipeline(sealed.place.spec), RowKey({"payment_id": "7"})
    record = read_key(sealed.place.warehouse, pipeline, row_key, NO_MASKING, None, seal_keys=keys)

    assert record.seal == "does not hold: the row was changed after it was scored"


def columns_of(sealed: Sealed, view: str) -> list[str]:
    return [column["name"] for column in sa.inspect(sealed.place.warehouse.engine).get_columns(view)]


def test_an_export_shows_a_run_that_the_ledger_has_lost(sealed: Sealed) -> None:
    sealed.run()
    exported, [first, second] = read_sealed_runs(sealed.place.warehouse, "card-risk"), sealed.runs()
    assert list(compare_roots(find_exported(sealed.place.warehouse, "card-risk", exported))) == []
    sealed.write(
        *(f"delete from {table} where run_id = :run" for table in ("penstock_seals", "penstock_runs")), run=first.run_id
    )
    sealed.write("update penstock_runs set seal_root = 'x.y'")

    lost = list(compare_roots(find_exported(sealed.place.warehouse, "card-risk", exported)))

    assert [(each.run_id, each.fault) for each in lost] == [(first.run_id, "run gone"), (second.run_id, "other root")]
