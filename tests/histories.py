"""A shop whose rows come, change and go while runs work, crash and overlap; and a plain model of what readers see.

The model is told of every committed change, and of each run when it has counted its rows and when it has published.
What a run shows is what the shop held when it counted, where all its partitions are read at that moment (Postgres), or
where nothing changed until it published (elsewhere; else the next run must find it late).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice, product
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database
from penstock.errors import AcceptRefused, PublishRefused
from penstock.interval import DataInterval
from penstock.ledger import writer
from penstock.ledger.reader import RunRecord, list_runs
from penstock.models.registry import Registry
from penstock.run.audit import AuditResult
from penstock.run_types import ScoringRun
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from penstock.upkeep.acceptance import accept_run
from penstock.upkeep.live_changes import publish_with_rows
from penstock.upkeep.verify import verify_ledger
from tests.driver import Driver, lapse_leases
from tests.shop import COUNTRIES, SPEC, START, payments_table

DAY = timedelta(days=1)
LOOKBACK = 2
UNSEEN = "XX"
"""A country that the model has not seen: it refuses such rows."""
GOODS = tuple(product((1.0, 12.5, 30.0, 200.0), (1, 6, 9), (*COUNTRIES, UNSEEN), (True, False)))
"""Amount, items, country and first of all payments that there can be."""


@dataclass(frozen=True)
class Payment:
    created: datetime
    goods: int
    version: int


GATE = {"type": "expect_column_sum_to_be_between", "column": "amount", "max_value": 45}
"""The audit halts a day with a payment of the largest amount, or with several of the middle ones."""


def history_pipeline(*gates: Any, **interval: Any) -> Pipeline:
    """The shop's pipeline in tiny partitions, with these expectations only; an empty day is published."""
    data = parse_pipeline(SPEC.encode(), "x").model_dump(mode="json", by_alias=True)
    data |= {
        "expectations": {"payments": list(gates)} if gates else {},
        "partition_rows": 3,
        "empty": "publish",
        "quarantine_limit": 1.0,
    }
    data["interval"] |= {"lookback": LOOKBACK} | interval
    return Pipeline.model_validate(data)


def score_goods(registry: Registry) -> dict[int, float]:
    """XGBoost's own scores of all goods that the model takes."""
    taken = [number for number, goods in enumerate(GOODS) if goods[2] != UNSEEN]
    return dict(zip(taken, predict(registry, [GOODS[n] for n in taken]), strict=True))


def predict(registry: Registry, rows: Sequence[tuple[Any, ...]], version: str = "1") -> list[float]:
    """XGBoost's own scores of amounts, items, countries and firsts, past everything of ours."""
    import pandas as pd
    import xgboost as xgb

    manifest = registry.manifest("card-risk", version)
    booster = xgb.Booster()
    booster.load_model(Path(registry.folder) / "card-risk" / version / manifest.file)
    frame = pd.DataFrame(rows, columns=["amount", "items", "country", "first"])
    frame = frame[list(manifest.feature_names)]
    for feature in manifest.features:
        if feature.dtype == "category":
            frame[feature.name] = pd.Categorical(frame[feature.name], list(feature.categories))
        elif frame[feature.name].dtype == object:  # a NULL among booleans or whole numbers
            frame[feature.name] = frame[feature.name].astype("float64")
    last = manifest.best_iteration
    matrix = xgb.DMatrix(frame, enable_categorical=True)
    scores = booster.predict(matrix, iteration_range=(0, last + 1) if last is not None else (0, 0))
    return [float(score) for score in scores]


@dataclass(frozen=True, kw_only=True)
class WatchedDriver(Driver):
    """A driver that tells of each step of each run."""

    saw: Callable[[ScoringRun, str], None]

    def _held(self, run: ScoringRun, audited: list[AuditResult]) -> Iterator[str]:
        for step in super()._held(run, audited):
            self.saw(run, step)
            yield step


@dataclass
class Late:
    """A transaction of the shop that is still open."""

    connection: sa.Connection
    changes: dict[int, Payment]


@dataclass
class History:
    """The shop, its pipeline's runs, and the model."""

    pipeline: Pipeline
    shop: Database
    connect: Callable[[str], Database]
    registry: Registry
    scores: dict[int, float]
    now: datetime = START
    rows: dict[int, Payment] = field(default_factory=dict)
    open: list[Late] = field(default_factory=list)
    paused: Iterator[str] | None = None
    changes: int = 0
    counted: dict[str, dict[int, Payment]] = field(default_factory=dict)
    shown: dict[str, dict[int, Payment] | None] = field(default_factory=dict)
    """By run that has published: the rows that it must show; None where they changed under its hands."""
    halted: dict[str, dict[int, Payment] | None] = field(default_factory=dict)
    """By run that the audit has halted: the rows that it must show once it is accepted."""
    withdrawn: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.table = payments_table()
        self.table.metadata.create_all(self.shop.engine)
        self.driver = WatchedDriver(self.pipeline, self.connect, self.registry, saw=self._saw)

    # --- the shop

    def insert(self, created: datetime, goods: int) -> None:
        key, values = self._new(created, goods)
        with self.shop.writing() as connection:
            connection.execute(self.table.insert().values(payment_id=key, **values))
        self.rows[key] = Payment(created, goods, self.changes)

    def update(self, key: int, created: datetime, goods: int) -> None:
        with self.shop.writing() as connection:
            values = self._values(created, goods)
            connection.execute(sa.update(self.table).where(self.table.c.payment_id == key).values(**values))
        self.rows[key] = Payment(created, goods, self.changes)

    def delete(self, key: int) -> None:
        with self.shop.writing() as connection:
            connection.execute(sa.delete(self.table).where(self.table.c.payment_id == key))
        del self.rows[key]

    def begin(self, created: datetime, goods: int, key: int | None = None) -> None:
        """Change a row, or add one, in a transaction that stays open."""
        connection = self.shop.engine.connect()
        if key is None:
            key, values = self._new(created, goods)
            connection.execute(self.table.insert().values(payment_id=key, **values))
        else:
            values = self._values(created, goods)
            connection.execute(sa.update(self.table).where(self.table.c.payment_id == key).values(**values))
        self.open.append(Late(connection, {key: Payment(created, goods, self.changes)}))

    def end(self, index: int, *, commit: bool = True) -> None:
        late = self.open.pop(index)
        if commit:
            late.connection.commit()
            self.rows |= late.changes
        late.connection.close()

    def free_keys(self) -> list[int]:
        """Return the rows that no open transaction has locked."""
        return sorted(set(self.rows) - {key for late in self.open for key in late.changes})

    def _new(self, created: datetime, goods: int) -> tuple[int, dict[str, Any]]:
        return self.changes + 1, self._values(created, goods)

    def _values(self, created: datetime, goods: int) -> dict[str, Any]:
        self.changes += 1
        moments = {"created_at": created, "updated_at": START + timedelta(seconds=self.changes)}
        if self.shop.dialect != "postgresql":
            moments = {name: moment.replace(tzinfo=None) for name, moment in moments.items()}
        return moments | dict(zip(("amount", "items", "country", "first"), GOODS[goods], strict=True))

    # --- the runs

    def run(self) -> None:
        """Score what is due; afterwards nothing that is due may be missing or stale, but what another run holds."""
        self.driver.run(self.now)
        self.check_complete()

    def kill(self, after: int) -> None:
        self.driver.kill(self.now, after)

    def lapse(self) -> None:
        lapse_leases(self.driver.warehouse)

    def pause(self) -> None:
        self.paused = self.driver.steps(self.now)

    def proceed(self, steps: int) -> None:
        """Let the paused run do so many steps; it is gone when it has none left."""
        if self.paused is not None and len(list(islice(self.paused, steps))) < steps:
            self.paused = None

    def restate(self, day: int) -> None:
        self.driver.run(self.now, "restate", START + day * DAY, START + (day + 1) * DAY)

    def withdraw(self, number: int) -> None:
        published = self.published()
        if published:
            run = published[number % len(published)]
            writer.withdraw(self.driver.warehouse, run.run_id)
            self.withdrawn.add(run.interval_key)

    def publish_again(self, number: int) -> None:
        found = list_runs(self.driver.warehouse, limit=1000, states=("superseded", "withdrawn", "published"))
        ended = [run for run in found if run.state != "published" or run.variant != "live"]
        if ended:
            run = sorted(ended, key=lambda run: run.started_at)[number % len(ended)]
            publish_with_rows(self.driver.warehouse, [run.run_id], "a person", "it was right")
            self.withdrawn.discard(run.interval_key)

    def accept(self, number: int) -> None:
        """Accept a halted run; a refusal must change nothing that readers see."""
        halted = list_runs(self.driver.warehouse, limit=1000, states=("halted",))
        if not halted:
            return
        run, before = sorted(halted, key=lambda run: run.started_at)[number % len(halted)], self._view()
        try:
            accept_run(self.driver.warehouse, run.run_id, "a person", "it was right")
        except (AcceptRefused, PublishRefused):
            assert self._view() == before, "a refused acceptance changed what readers see"
            return
        self.shown[run.run_id] = self.halted[run.run_id]
        self.withdrawn.discard(run.interval_key)

    def _saw(self, run: ScoringRun, step: str) -> None:
        if step == "plan partitions":
            self.counted[run.run_id] = self.rows_of(run.interval)
        if step in ("audit", "publish"):
            rows = self.counted[run.run_id]
            still = self.shop.dialect == "postgresql" or rows == self.rows_of(run.interval)
            if step == "audit":
                self.halted[run.run_id] = rows if still else None
            for run_id in run.claimed_ids if step == "publish" else ():  # a challenger sees the same rows
                self.shown[run_id] = rows if still else None
        if step == "publish":
            self.withdrawn.discard(run.interval_key)

    # --- the model

    def rows_of(self, interval: DataInterval | None) -> dict[int, Payment]:
        assert interval is not None
        return {key: row for key, row in self.rows.items() if interval.start <= row.created < interval.end}

    def published(self) -> list[RunRecord]:
        found = list_runs(self.driver.warehouse, limit=1000, states=("published",))
        return sorted((run for run in found if run.variant == "live"), key=lambda run: run.interval_key)

    def check(self) -> None:
        """Readers see exactly the rows of published runs, one run an interval, each as it was counted and scored."""
        published = self.published()
        keys = [run.interval_key for run in published]
        assert len(keys) == len(set(keys)), f"an interval is published twice: {keys}"
        seen = self._view()
        assert set(seen) <= {run.run_id for run in published}, "rows are seen of a run that is not published"
        for run in published:
            told = (run.rows_scored or 0) + (run.rows_quarantined or 0) + (run.rows_excluded or 0)
            assert run.rows_extracted == told, f"{run.interval_key} does not add up"
            rows = self.shown[run.run_id]
            if rows is not None:
                assert run.rows_extracted == len(rows), f"{run.interval_key} has not seen all rows"
                assert seen.get(run.run_id, {}) == self._scored(rows), f"{run.interval_key} does not show what it read"
        assert verify_ledger(self.driver.warehouse) == ()

    def check_complete(self) -> None:
        """What is due and free is published, and inside the lookback it is what the shop holds now.

        Or the audit has halted what the shop holds now.
        """
        interval = self.pipeline.interval
        assert interval is not None
        by_key = {run.interval_key: run for run in self.published()}
        running = list_runs(self.driver.warehouse, limit=1000, states=("running",))
        held = {run.interval_key for run in running if run.variant == "live"}
        due = interval.grid.split(self.now)
        for each in due:
            if each.key in held or each.key in self.withdrawn:
                continue
            if self._is_halted(each.key, self.rows_of(each)):
                continue
            assert each.key in by_key, f"{each.key} is not published"
            if each in due[-interval.lookback :]:
                assert self.shown[by_key[each.key].run_id] == self.rows_of(each), f"{each.key} is stale"

    def _is_halted(self, key: str, rows: dict[int, Payment]) -> bool:
        """Whether the audit has halted the interval's last run, on these rows."""
        ended = [run for run in list_runs(self.driver.warehouse, limit=1000) if run.interval_key == key]
        return bool(ended) and ended[0].state == "halted" and self.counted[ended[0].run_id] == rows

    def finish(self) -> None:
        """All that works dies, transactions end, leases run out: the next run heals, the one after does nothing."""
        self.paused = None
        while self.open:
            self.end(0)
        self.lapse()
        self.run()
        self.check()
        again = [step.partition(":")[0] for step in self.driver.run(self.now)]
        assert again[:3] == ["resolve", "collect logs", "plan"]
        assert again.count("claim") == again.count("halted"), "a run scores what is done"

    def close(self) -> None:
        self.paused = None
        while self.open:
            with suppress(sa.exc.DBAPIError):
                self.end(0, commit=False)

    def _scored(self, rows: dict[int, Payment]) -> dict[int, tuple[Any, ...]]:
        taken = {key: row.goods for key, row in rows.items() if row.goods in self.scores}
        return {key: (self.scores[what], GOODS[what][0], GOODS[what][2]) for key, what in taken.items()}

    def _view(self) -> dict[str, dict[int, tuple[Any, ...]]]:
        with self.driver.warehouse.reading() as connection:
            if not sa.inspect(connection).has_table("card_risk_scores"):
                return {}
            columns = "run_id, payment_id, score, amount, country"
            found = connection.execute(sa.text(f"select {columns} from card_risk_scores"))
            seen: dict[str, dict[int, tuple[Any, ...]]] = {}
            for run_id, key, score, amount, country in found:
                assert key not in seen.setdefault(run_id, {}), "a row is seen twice"
                seen[run_id][key] = score, amount, country
            return seen
