"""What a holder of the warehouse alone can do with SQL, and what `check-seals` says of it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import PenstockError
from penstock.ledger.reader import RunRecord
from penstock.spec.sandbox import as_sandbox
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connect
from penstock.upkeep.check_seals import SealReport
from tests.conftest import DIALECTS
from tests.driver import Driver
from tests.integration.test_challengers import CHALLENGER, register
from tests.integration.test_seals import SEALED, Sealed
from tests.shop import START, Place

HISTORY, SANDBOX = "card_risk_scores__history", "card_risk_scores__sandbox_lower__history"
TABLES = (HISTORY, SANDBOX, "penstock_runs", "penstock_seals", "penstock_erased_seals")
SMALL = SEALED.replace("partition_rows: 40", "partition_rows: 10")
COLUMNS = "partition, payment_id, score, amount, country, penstock_seal"


@dataclass(frozen=True)
class Forged:
    """A warehouse with every kind of sealed run, and a copy of its tables."""

    sealed: Sealed
    runs: dict[str, RunRecord]

    @property
    def names(self) -> dict[str, str]:
        """What the statements of a forgery name."""
        schema = str(self.runs["first"].destination).rpartition(".")[0]
        as_id = "::uuid" if self.sealed.place.warehouse.dialect == "postgresql" else ""
        return {name: run.run_id for name, run in self.runs.items()} | {"schema": schema, "as_id": as_id}

    @contextmanager
    def forge(self, *statements: str) -> Iterator[SealReport]:
        """Execute statements, each in a transaction of its own. Yield what the check says, and undo them."""
        for statement in statements:
            self.sealed.write(statement.format(**self.names))
        yield self.sealed.check()
        self.restore()

    def restore(self) -> None:
        self.sealed.write("drop table if exists shadow__history", "drop table if exists planted")
        for table in TABLES:
            self.sealed.write(f"delete from {table}", f"insert into {table} select * from kept_{table}")


@pytest.fixture
def forged(make_place: Callable[..., Place], request: pytest.FixtureRequest) -> Forged:
    dialect = getattr(request, "param", "sqlite")
    place = make_place(dialect, dialect, SMALL.replace("seal: true\n", ""), days=3, a_day=20)
    sealed = Sealed(place)
    sealed.run(1)
    place.spec.write_text(SMALL + CHALLENGER)
    register(place.registry)
    sealed.run(3)
    again = START + timedelta(days=1), START + timedelta(days=2)
    sealed.run(3, "restate", *again)
    pipeline = as_sandbox(load_pipeline(place.spec), "lower")
    Driver(pipeline, connect, place.registry, settings=sealed.settings).run(again[1], "backfill", *again)
    for table in TABLES:
        sealed.write(f"create table kept_{table} as select * from {table}")
    older, superseded, first, second = sealed.runs()
    assert (superseded.state, first.state) == ("superseded", "published")
    named = {"older": older, "superseded": superseded, "first": first, "second": second}
    return Forged(sealed, named | {"shadow": sealed.runs("shadow")[1], "sandbox": sealed.runs("sandbox")[0]})


SHADOW_TABLE = f"create table shadow__history as select * from {HISTORY}"
FORGE = f"update {HISTORY} set score = 0.001 where run_id = '{{first}}' and payment_id = 25"
POINT = "update penstock_runs set {} where run_id = '{{first}}'"
ELSEWHERE = POINT.format("destination = '{schema}.shadow', destination_table = 'shadow'")
NO_SEALS = ("delete from penstock_seals where run_id = '{first}'", POINT.format("seal_root = null"))
PLANTED = (
    "create table planted as select * from penstock_runs where run_id = '{superseded}'",
    "update planted set run_id = upper(run_id), interval_key = 'other', state = 'published', seal_root = null",
    "insert into penstock_runs select * from planted",
    f"update {HISTORY} set run_id = upper('{{superseded}}'){{as_id}} where run_id = '{{superseded}}'",
)
STEPS = """'{{"score": {{"name": "card-risk", "version": "1", "digest": "' || model_digest || '"}}}}'"""
OTHER_NAME = POINT.format("pipeline = 'other'")
RETIRED = POINT.format("state = 'superseded'")
NO_ID, PLANTED_ID = "0" * 32, "1" * 32
ROOT_OF_OTHER = POINT.format("seal_root = (select r.seal_root from penstock_runs r where r.run_id = '{second}')")
LATER = "interval_start = '2026-01-09', interval_end = '2026-01-10'"
LATER_KEY = "interval_key = '2026-01-09T00:00:00Z/2026-01-10T00:00:00Z'"
FOUND: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "alter rows": ((FORGE,), {"altered"}),
    "copy a row to another run": (
        (
            f"insert into {HISTORY} (run_id, {COLUMNS}) select '{{second}}', {COLUMNS} from {HISTORY} "
            "where run_id = '{first}' and payment_id = 25",
        ),
        {"added"},
    ),
    "take the rows of another run": (
        (
            f"delete from {HISTORY} where run_id = '{{first}}'",
            f"update {HISTORY} set run_id = '{{first}}' where run_id = '{{shadow}}'",
        ),
        {"altered", "removed"},
    ),
    "swap two runs in their table": (
        (
            f"update {HISTORY} set run_id = '{NO_ID}' where run_id = '{{first}}'",
            f"update {HISTORY} set run_id = '{{first}}' where run_id = '{{second}}'",
            f"update {HISTORY} set run_id = '{{second}}' where run_id = '{NO_ID}'",
        ),
        {"added", "removed"},
    ),
    "swap two runs in the ledger": (
        (
            f"update penstock_runs set run_id = '{NO_ID}' where run_id = '{{first}}'",
            "update penstock_runs set run_id = '{first}' where run_id = '{superseded}'",
            f"update penstock_runs set run_id = '{{superseded}}' where run_id = '{NO_ID}'",
        ),
        {"seals changed"},
    ),
    "give a run the root of another": ((ROOT_OF_OTHER,), {"seals changed"}),
    "delete a run's seals": (("delete from penstock_seals where run_id = '{first}'",), {"seals changed", "added"}),
    "hide that a run is not sealed": ((*NO_SEALS, POINT.format("rows_scored = 0")), {"not sealed"}),
    "delete a run and leave its rows": (("delete from penstock_runs where run_id = '{first}'",), {"run unknown"}),
    "point to a copy": ((SHADOW_TABLE, FORGE, ELSEWHERE), {"added", "seals changed"}),
    "point to a copy by the table alone": (
        (SHADOW_TABLE, FORGE, POINT.format("destination_table = 'shadow'")),
        {"added", "seals changed"},
    ),
    "name another pipeline": ((FORGE, OTHER_NAME), {"altered"}),
    "name another pipeline and a copy": ((SHADOW_TABLE, FORGE, ELSEWHERE, OTHER_NAME), {"added"}),
    "name another pipeline and take the seals off": ((*NO_SEALS, FORGE, OTHER_NAME), {"not sealed"}),
    "name another variant": ((FORGE, POINT.format("variant = 'shadow:card-risk/9'")), {"altered"}),
    "show another interval": ((POINT.format("interval_end = '2027-01-01'"),), {"seals changed"}),
    "show another interval with its key": ((POINT.format(f"{LATER}, {LATER_KEY}"),), {"seals changed"}),
    "show no interval": ((POINT.format("interval_start = null"),), {"seals changed"}),
    "show another model": ((POINT.format("model_version = '9'"),), {"seals changed", "altered"}),
    "show another model beside the steps": (
        (POINT.format(f"model_version = '9', step_models = {STEPS}"),),
        {"seals changed"},
    ),
    "move a run of a sandbox": (
        (
            f"delete from {HISTORY} where run_id = '{{first}}'",
            f"insert into {HISTORY} (run_id, {COLUMNS}) select run_id, {COLUMNS} from {SANDBOX}",
            RETIRED,
            "update penstock_runs set variant = 'live' where run_id = '{sandbox}'",
        ),
        {"added"},
    ),
    "alter rows of a sandbox": ((f"update {SANDBOX} set score = 0.001 where payment_id = 25",), {"altered"}),
    "plant a run of other rows": (
        (
            f"insert into {HISTORY} (run_id, {COLUMNS}) select '{PLANTED_ID}', {COLUMNS} from {HISTORY} "
            "where run_id = '{first}'",
            f"update penstock_runs set run_id = '{PLANTED_ID}' where run_id = '{{shadow}}'",
        ),
        {"seals changed", "added", "run unknown"},
    ),
    "plant a run of rows that another one has": (PLANTED, {"not sealed"}),
}
"""Statements, and some of what the check must say."""
HIDDEN: dict[str, tuple[str, ...]] = {
    "show the older scores": (RETIRED, "update penstock_runs set state = 'published' where run_id = '{superseded}'"),
    "show a challenger": (RETIRED, "update penstock_runs set variant = 'live' where run_id = '{shadow}'"),
    "change a time": (POINT.format("published_at = '2020-01-01'"),),
    "remove a run": tuple(
        f"delete from {table} where run_id = '{{first}}'" for table in (HISTORY, "penstock_seals", "penstock_runs")
    ),
    "pass off a run as pruned": tuple(
        f"delete from {table} where run_id = '{{superseded}}'" for table in (HISTORY, "penstock_seals")
    ),
}
"""What `docs/seals.md` names under what seals do not prove."""
ON_DUCKDB = ("alter rows", "delete a run's seals", "point to a copy", "move a run of a sandbox")
"""DuckDB takes several seconds for each forgery."""


@pytest.mark.slow
@pytest.mark.parametrize("forged", DIALECTS, indirect=True)
def test_a_holder_of_the_warehouse_alone_is_found(forged: Forged) -> None:
    sound, wrong = forged.sealed.check(), {}
    assert (sound.runs, sound.findings, len(sound.older)) == (7, [], 1)
    some = ON_DUCKDB if forged.sealed.place.warehouse.dialect == "duckdb" else tuple(FOUND)

    for name in some:
        statements, wanted = FOUND[name]
        with forged.forge(*statements) as report:
            if not wanted <= {each.fault for each in report.findings}:
                wrong[name] = [each.fault for each in report.findings]

    assert wrong == {}
    assert forged.sealed.check() == sound


@pytest.mark.slow
def test_what_seals_do_not_prove_is_no_finding(forged: Forged) -> None:
    for statements in HIDDEN.values():
        with forged.forge(*statements) as report:
            assert report.findings == []


def test_a_run_that_is_dated_back_is_named(forged: Forged) -> None:
    with forged.forge(*NO_SEALS, FORGE, POINT.format("started_at = '2020-01-01'")) as report:
        assert report.findings == []
        assert [run.run_id for run in report.older] == [forged.runs["first"].run_id, forged.runs["older"].run_id]


CHANGES = (
    "pipeline = 'other'",
    "variant = 'live'",
    "variant = 'sandbox:lower'",
    "state = 'published'",
    "state = 'superseded'",
    "destination_table = 'shadow'",
    "destination = 'main.shadow', destination_table = 'shadow'",
    "interval_start = '2026-01-01 12:00:00'",
    "interval_end = null",
    "interval_key = 'snapshot', interval_start = null, interval_end = null",
    "model_version = '9'",
    "model_digest = 'x'",
    "seal_root = null",
    "seal_root = (select max(seal_root) from kept_penstock_runs)",
    "started_at = '2020-01-01 00:00:00'",
    "rows_scored = 0",
    "rows_pruned_at = '2026-02-01 00:00:00'",
    "published_at = '2027-01-01 00:00:00'",
    f"run_id = '{PLANTED_ID}'",
)


def forgeries(run_ids: Sequence[str]) -> st.SearchStrategy[str]:
    """Draw a statement that changes rows, seals or the ledger of a SQLite warehouse."""
    run, table = st.sampled_from(run_ids), st.sampled_from((HISTORY, SANDBOX))
    key, part = st.integers(1, 60), st.sampled_from((HISTORY, "penstock_seals"))
    return st.one_of(
        st.builds("update penstock_runs set {} where run_id = '{}'".format, st.sampled_from(CHANGES), run),
        st.builds("update {} set score = 0.5 where run_id = '{}' and payment_id = {}".format, table, run, key),
        st.builds("update or replace {} set run_id = '{}' where run_id = '{}'".format, part, run, run),
        st.builds("delete from {} where payment_id = {}".format, table, key),
        st.builds("delete from {} where run_id = '{}'".format, st.sampled_from(TABLES), run),
        st.builds(
            f"insert or replace into {{}} (run_id, {COLUMNS}) select '{{}}', {COLUMNS} from kept_{{}} "
            "where run_id = '{}' and payment_id <= {}".format,
            *(table, run, table, run, key),
        ),
    )


@pytest.mark.slow
def test_what_readers_see_is_what_was_sealed_or_is_named(forged: Forged) -> None:
    """Whatever is forged without a finding: a run that a view shows has all its rows, with its interval and model."""
    run_ids = [run.run_id for run in forged.runs.values()]
    scored = {run_id: rows for table in (HISTORY, SANDBOX) for run_id, rows in read_rows(forged, table).items()}

    @settings(max_examples=60)
    @given(st.lists(forgeries(run_ids), min_size=1, max_size=4))
    def check(statements: list[str]) -> None:
        forged.restore()
        for statement in statements:
            with suppress(PenstockError):  # an index of the ledger refuses some
                forged.sealed.write(statement)
        report = forged.sealed.check()
        if not report.findings:
            named = {run.run_id for run in report.older}
            for view in (HISTORY, SANDBOX):
                for run_id, rows in read_rows(forged, view.removesuffix("__history")).items():
                    assert run_id in named or rows == scored[run_id]

    check()


def read_rows(forged: Forged, name: str) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of each run as a view shows them, or would show them of a history table."""
    columns = "r.run_id, payment_id, score, amount, country, r.interval_start, r.interval_end, r.model_version"
    source = f"{name} h join penstock_runs r on r.run_id = h.run_id"
    rows = defaultdict(list)
    with forged.sealed.place.warehouse.reading() as connection:
        for run_id, *row in connection.execute(sa.text(f"select {columns}, r.model_digest from {source}")):
            rows[run_id].append(tuple(row))
    return {run_id: sorted(found, key=str) for run_id, found in rows.items()}
