"""A scene: a shop, a model and a spec that many trials share. A trial has a warehouse of its own, and runs on it."""

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database, close_engines, open_database
from penstock.ledger.profiles import read_profiles
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import RunRecord, list_runs
from penstock.models.registry import Registry
from penstock.privacy.masking import NO_MASKING
from penstock.privacy.secret_keys import KeyRing, SecretKey
from penstock.run_types import BinCounts
from penstock.settings import Settings
from penstock.spec.yaml_file import load_pipeline
from penstock.upkeep.check_seals import SealCheck
from penstock.upkeep.verify import verify_ledger
from tests.driver import lapse_leases
from tests.faults.harness.child import Fault, How, Order
from tests.faults.harness.running import Ending, Running, start_child
from tests.shop import START, payments, train_model, write_payments

SPEC = """
name: card-risk
interval: {{column: created_at, grain: 1d, start: 2026-01-01T00:00:00Z, lookback: 3}}
sources:
  payments: {{kind: sql, connection: shop, table: payments, key: [payment_id], updated_column: updated_at}}
  visits:
    kind: log
    path: "{folder}/visits.log*"
    format: {{regex: '(?P<time>\\S+) (?P<payment_id>\\d+)'}}
    columns: {{payment_id: int}}
features: |
  select p.payment_id, p.amount, p.items, p.country, p.first, count(v.time) as visits
  from payments p left join visits v on v.payment_id = p.payment_id
  where p.items < 8
  group by all
expectations:
  payments:
    - {{type: expect_column_values_to_not_be_null, column: amount, severity: warning}}
    - {{type: expect_table_row_count_to_be_between, min_value: 10}}
  scores:
    - {{type: expect_column_mean_to_be_between, column: score, min_value: 0.0001, max_value: 0.9999}}
quarantine_limit: 0.5
model: card-risk@champion
drift: {{against: model, watch: {{amount: warning, "*": info}}, slices: [country], least_rows: 10}}
destination: {{connection: warehouse, table: card_risk_scores, keep: [amount, country, visits]}}
partition_rows: {partition_rows}
"""
DIRTY_EVERY = 9
"""Each payment so many apart has no amount and is quarantined; those of eight items are excluded by the features."""
LATER = ("run_id", "scored_at")
"""What differs between a run and its twin, and may."""

SEAL_KEY = "the key of the seals of every trial"
"""Used by a spec with `seal: true`."""

MakeUrl = Callable[[str, str], str]
"""Makes an empty database: from a dialect and a name to its URL."""


@dataclass(frozen=True)
class Found:
    """What a warehouse shows at the end: live rows, what was refused from them, their reasons and their counts."""

    rows: list[tuple[Any, ...]]
    refused: list[tuple[str, tuple[str, ...], str]]
    reasons: list[tuple[Any, ...]]
    profiles: list[tuple[str, BinCounts]]
    """The counts of each column of the live runs."""


class Scene:
    """Payments of some days and a log of visits, in one dialect; nothing in it changes unless a test changes it."""

    def __init__(self, folder: Path, dialect: str, make_url: MakeUrl, days: int = 1, a_day: int = 30) -> None:
        self.folder, self.dialect, self.make_url, self.days, self.a_day = folder, dialect, make_url, days, a_day
        self.shop_url = make_url(dialect, "shop")
        self.registry: Registry = train_model(folder / "models")
        self.spec = folder / "card-risk.yaml"
        self.write_spec()
        rows = payments(days=days, a_day=a_day)
        amounts = [None if i % DIRTY_EVERY == 0 else v for i, v in enumerate(rows["amount"].to_pylist())]
        write_payments(self.shop, rows.set_column(rows.schema.get_field_index("amount"), "amount", [amounts]))
        self._write_log()
        close_engines()
        self._trials = count(1)
        self._twin: Found | None = None

    @property
    def shop(self) -> Database:
        return open_database(Settings(connections={"shop": self.shop_url}), "shop")

    @property
    def now(self) -> datetime:
        """The moment at which the last day is over."""
        return START + timedelta(days=self.days)

    def write_spec(self, partition_rows: int = 15, *lines: str) -> None:
        self.spec.write_text("\n".join([SPEC.format(folder=self.folder, partition_rows=partition_rows), *lines]))

    def trial(self, url: str | None = None, **environment: str) -> "Trial":
        """Begin with an empty warehouse: one of the scene's dialect and place, or the one of this URL."""
        folder = self.folder / f"trial-{next(self._trials)}"
        folder.mkdir()
        url = url or self.make_url(self.dialect, f"warehouse_{uuid.uuid4().hex[:10]}")
        return Trial(self, folder, url, environment)

    @property
    def twin(self) -> Found:
        """What an undisturbed run leaves."""
        if self._twin is None:
            trial = self.trial()
            ending = trial.run()
            assert "publish" in ending.message, ending
            self._twin = trial.found()
            assert self._twin.rows
            assert self._twin.refused
            assert self._twin.profiles
        return self._twin

    def add_challenger(self, *lines: str) -> None:
        """Have a second version of the model score beside the first one from now on, with more lines of the spec."""
        train_model(self.folder / "models", alias="challenger", rounds=3)
        self.write_spec(15, "challengers: [{model: card-risk@challenger}]", *lines)

    def forget_twin(self) -> None:
        """Have the next twin run on what the scene holds by then."""
        self._twin = None

    def _write_log(self) -> None:
        moments = (START + timedelta(hours=1 + i % 20, days=i // 20) for i in range(20 * self.days))
        lines = [f"{moment.isoformat()} {1 + i % 12}" for i, moment in enumerate(moments)]
        (self.folder / "visits.log").write_text("\n".join([*lines, ""]))


def _read(connection: sa.Connection, view: str, order: str) -> list[tuple[Any, ...]]:
    """Return the rows of a view, without what differs between a run and its twin."""
    rows = connection.execute(sa.text(f"select * from {view} order by {order}")).mappings()  # ours
    return [tuple(value for name, value in row.items() if name not in LATER) for row in rows]


class Trial:
    """One warehouse, and the runs on it."""

    def __init__(self, scene: Scene, folder: Path, url: str, environment: dict[str, str]) -> None:
        self.scene, self.folder, self.url = scene, folder, url
        self.environment = {
            "PENSTOCK_HOME": str(folder / ".penstock"),
            "PENSTOCK_MODEL_STORE": str(scene.folder / "models"),
            "PENSTOCK_CONNECTIONS__SHOP": scene.shop_url,
            "PENSTOCK_CONNECTIONS__WAREHOUSE": self.url,
            "PENSTOCK_RUNNER": "threads:1",
            "PENSTOCK_SEAL_KEY": SEAL_KEY,
        } | environment
        self._runs = count(1)

    def reach(self, **addresses: str) -> None:
        """Have the runs from now on reach a connection at another address; the test looks at it past that."""
        self.environment |= {f"PENSTOCK_CONNECTIONS__{name.upper()}": url for name, url in addresses.items()}

    @property
    def warehouse(self) -> Database:
        """The warehouse in this process; on DuckDB no run can be started before `close_engines`, which `start` does."""
        return open_database(Settings(connections={"warehouse": self.url}), "warehouse")

    def start(self, fault: Fault | None = None, how: How = "steps", **parameters: str) -> Running:
        """Start a run in a process of its own; `parameters` are the flow's."""
        close_engines()
        folder = self.folder / f"run-{next(self._runs)}"
        folder.mkdir()
        prefect = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}
        given = {"end": self.scene.now.date().isoformat()} | parameters
        order = Order(folder, self.scene.spec, prefect | self.environment, self.scene.now, how, fault, given)
        return start_child(order)

    def run(self, fault: Fault | None = None, how: How = "steps", **parameters: str) -> Ending:
        """Do a run and wait for its end, whatever that is."""
        return self.start(fault, how, **parameters).wait()

    def lapse(self) -> None:
        """Let the leases of all runs end, as time would."""
        if self.ledger():
            lapse_leases(self.warehouse)

    def ledger(self) -> list[RunRecord]:
        """Return all runs, oldest first."""
        return list_runs(self.warehouse, limit=1000)[::-1]

    def live_scores(self) -> dict[int, Any]:
        """Return the scores that readers see, by key."""
        with self.warehouse.reading() as connection:
            rows = connection.execute(sa.text("select payment_id, score from card_risk_scores")).tuples()
            return {int(key): score for key, score in rows}

    def found(self) -> Found:
        with self.warehouse.reading() as connection:
            rows = _read(connection, "card_risk_scores", "payment_id")
            explained = sa.inspect(connection).has_table("card_risk_scores__reasons")
            reasons = _read(connection, "card_risk_scores_reasons", "payment_id, rank") if explained else []
        live = {run.run_id for run in self.ledger() if (run.state, run.variant) == ("published", "live")}
        refused = [r for r in quarantined_rows(self.warehouse, limit=10_000) if r.run_id in live]
        profiles = [(c, p.counts) for run_id in live for c, p in read_profiles(self.warehouse, run_id).items()]
        refusals = sorted((r.key, r.reasons, r.row) for r in refused)
        return Found(rows, refusals, reasons, sorted(profiles, key=str))

    def check_healed(self) -> None:
        """Assert that nothing is lost, nothing is there twice, and every row is accounted for: as the twin has it.

        A challenger's run is published whole, or not at all.
        """
        records, found, twin = self.ledger(), self.found(), self.scene.twin
        assert found.rows == twin.rows
        assert found.refused == twin.refused
        assert found.reasons == twin.reasons
        assert found.profiles == twin.profiles
        assert len({row[0] for row in found.rows}) == len(found.rows)
        assert not [run for run in records if run.state == "running"]
        live = [run for run in records if (run.state, run.variant) == ("published", "live")]
        assert len({run.interval_key for run in live}) == len(live) == self.scene.days
        for run in live:
            assert run.rows_extracted == run.rows_scored + run.rows_quarantined + run.rows_excluded == self.scene.a_day
        assert sum(run.rows_scored for run in live) == len(found.rows)
        assert verify_ledger(self.warehouse) == ()
        if any(run.seal_root for run in records):
            self._check_seals()

    def _check_seals(self) -> None:
        key = KeyRing(SecretKey(SEAL_KEY.encode()))
        pipeline = load_pipeline(self.scene.spec)
        report = SealCheck(self.warehouse, pipeline, key, NO_MASKING, lambda run: iter(())).check()
        assert report.findings == []
        assert report.runs
