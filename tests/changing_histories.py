"""Histories in which people change the pipeline while it works: its grain, start, name, table, key and model."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from penstock.errors import DestinationTaken, OverlappingRuns, PublishRefused, RenameRefused
from penstock.interval import DataInterval, is_covered, merge
from penstock.ledger import writer
from penstock.ledger.reader import RunRecord, list_runs
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.run.planning import Mode
from penstock.spec.pipeline import Pipeline
from penstock.upkeep.rename import rename_pipeline
from penstock.upkeep.verify import verify_ledger
from tests.histories import GOODS, History, Payment, WatchedDriver, predict
from tests.shop import START, payments, train_model

GRAINS = ("6h", "12h", "1d", "2d", "3d")
STARTS = (-12, -6, 0, 6, 24)
"""Hours by which the start moves."""
GRIDS = (
    {"grain": "1d", "timezone": "Europe/Berlin", "start": "2026-01-01T00:00:00"},
    {"grain": "1d", "timezone": "America/Los_Angeles", "start": "2025-12-31T00:00:00"},
    {"grain": "week", "timezone": "UTC", "start": "2025-12-29T00:00:00"},
    {"grain": "week", "timezone": "Europe/Berlin", "first_day": "thursday", "start": "2026-01-01T00:00:00"},
    {"grain": "month", "timezone": "UTC", "start": "2026-01-01T00:00:00"},
)
"""Calendar grids, with their zone and their start."""
PLAIN = {"timezone": "UTC", "first_day": "monday", "start": START.isoformat()}
TABLES = ("card_risk_scores", "Other_scores")
NAMES = ("card-risk", "payment-risk")
KEYS = (("payment_id",), ("payment_id", "country"))
MODELS = ("card-risk@1", "card-risk@2")


def two_models(store: Any) -> Registry:
    """Register two versions whose scores differ."""
    registry = train_model(store)
    rows = payments(days=2, a_day=400, seed=7)
    label = (rows["items"].to_numpy() > 4).astype(int)
    frame = rows.select(["amount", "items", "country", "first"]).append_column("label", pa.array(label))
    train(frame, "label", rounds=3).register(registry, "card-risk")
    return registry


def score_all(registry: Registry, version: str) -> dict[int, float]:
    """XGBoost's own scores of all goods that a version takes."""
    taken = [number for number, goods in enumerate(GOODS) if goods[2] != "XX"]
    return dict(zip(taken, predict(registry, [GOODS[n] for n in taken], version), strict=True))


@dataclass
class ChangingHistory(History):
    """The shop and its pipeline, which people change. `scores_of` has each model version's scores of all goods."""

    scores_of: dict[str, dict[int, float]] = field(default_factory=dict)
    taken_out: list[tuple[str, DataInterval]] = field(default_factory=list)
    """Table and interval of every withdrawn run."""
    refusals: list[str] = field(default_factory=list)

    # --- changes

    def change(self, **changes: Any) -> None:
        data = self.pipeline.model_dump(mode="json", by_alias=True)
        data["interval"] |= changes.pop("interval", {})
        data["destination"] |= changes.pop("destination", {})
        data["sources"]["payments"] |= changes.pop("source", {})
        self._use(Pipeline.model_validate(data | changes))

    def _use(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.driver = WatchedDriver(pipeline, self.connect, self.registry, saw=self._saw)

    def change_grain(self, grain: str) -> None:
        plain = PLAIN if self._is_calendar() else {}
        self.change(interval=plain | {"grain": grain})

    def change_grid(self, grid: dict[str, str]) -> None:
        self.change(interval=PLAIN | grid)

    def move_start(self, hours: int) -> None:
        plain = PLAIN | {"grain": "1d"} if self._is_calendar() else {}
        self.change(interval=plain | {"start": (START + timedelta(hours=hours)).isoformat()})

    def _is_calendar(self) -> bool:
        interval = self.pipeline.interval
        assert interval is not None
        return interval.timezone != "UTC" or isinstance(interval.grain, str)

    def change_table(self, table: str, key: Sequence[str]) -> None:
        """Move to a table; each key has tables of its own."""
        self.change(destination={"table": f"{table}_{len(key)}"}, source={"key": list(key)})

    def change_model(self, ref: str) -> None:
        self.change(model=ref)

    def rename(self, name: str) -> None:
        """Rename the pipeline, in the spec and then in the ledger. If that is refused, the old name comes back."""
        old = self.pipeline
        if name == old.name:
            return
        self.change(name=name)
        self.now += timedelta(days=1)
        self.run_if_allowed()  # the schedule comes before the command
        self.check()
        try:
            rename_pipeline(self.driver.warehouse, old.name, self.pipeline)
        except RenameRefused:
            self._use(old)

    # --- runs

    def run_if_allowed(self, mode: Mode = "due", start: Any = None, end: Any = None) -> bool:
        """Run; a refusal must change nothing that readers see."""
        before = self._views()
        try:
            self.driver.run(self.now, mode, start, end)
        except (OverlappingRuns, DestinationTaken) as error:
            self.refusals.append(type(error).__name__)
            if mode == "restate":  # earlier intervals of the same restate may have been published
                return False
            assert self._views() == before or self.published_since(before), "a refused run changed what readers see"
            return False
        return True

    def published_since(self, before: dict[str, Any]) -> bool:
        """Whether each change of the views is a published run: a run may be refused after others were published."""
        return all(set(self._views().get(table, {})) >= set(rows) for table, rows in before.items())

    def run(self) -> None:
        if self.run_if_allowed():
            self.check_complete()

    def resolve(self) -> None:
        """Take a way out: restate a range that covers the live runs of this table, or withdraw them."""
        interval = self.pipeline.interval
        assert interval is not None
        for run in self._live_here():
            assert run.interval is not None
            grid = interval.grid.covering(run.interval.start, run.interval.end)
            if run.interval in grid or (grid and len(grid) == 1 and grid[0].covers(run.interval)):
                continue
            span = DataInterval(grid[0].start, grid[-1].end) if grid else None
            if span and self.run_if_allowed("restate", span.start, span.end) and self._is_gone(run):
                continue
            if not self._is_gone(run):
                self._withdraw(run)

    def withdraw(self, number: int) -> None:
        live = self._live_here()
        if live:
            self._withdraw(live[number % len(live)])

    def _withdraw(self, run: RunRecord) -> None:
        writer.withdraw(self.driver.warehouse, run.run_id)
        assert run.interval is not None
        self.taken_out.append((run.destination_table, run.interval))

    def publish_again(self, number: int) -> None:
        """Publish a run that has ended; a refusal must change nothing that readers see."""
        before = self._views()
        try:
            super().publish_again(number)
        except PublishRefused as error:
            self.refusals.append(type(error).__name__)
            assert self._views() == before, "a refused move changed what readers see"

    def _is_gone(self, run: RunRecord) -> bool:
        return run.run_id not in {live.run_id for live in self._live_here()}

    def restate(self, day: int) -> None:
        self.run_if_allowed("restate", START + day * timedelta(days=1), START + (day + 1) * timedelta(days=1))

    def restate_hours(self, first: int, length: int) -> None:
        start = START + timedelta(hours=first)
        self.run_if_allowed("restate", start, start + timedelta(hours=length))

    def kill(self, after: int) -> None:
        with suppress(OverlappingRuns, DestinationTaken):
            self.driver.kill(self.now, after)

    def proceed(self, steps: int) -> None:
        try:
            super().proceed(steps)
        except (OverlappingRuns, DestinationTaken):
            self.paused = None

    # --- the model

    def _live_here(self) -> list[RunRecord]:
        return [run for run in self.published() if run.destination_table == self.pipeline.destination.table]

    def check(self) -> None:
        """Each view shows the rows of its published runs, as they were counted and scored, and no two overlap."""
        published = self.published()
        views = self._views()
        for table in {run.destination_table for run in published} | set(views):
            live = [run for run in published if run.destination_table == table]
            spans = [run.interval for run in live if run.interval]
            length = sum((span.end - span.start for span in spans), timedelta())
            assert length == sum((s.end - s.start for s in merge(spans)), timedelta()), f"{table}: live runs overlap"
            assert len({run.pipeline for run in live}) <= 1, f"{table} has several owners"
            seen = views.get(table, {})
            assert set(seen) <= {run.run_id for run in live}, f"{table} shows rows of a run that is not published"
            for run in live:
                rows = self.shown[run.run_id]
                if rows is not None:
                    assert run.rows_extracted == len(rows), f"{run.interval_key} has not seen all rows"
                    assert seen.get(run.run_id, {}) == self._scored_by(run, rows), (
                        f"{run.interval_key} shows other rows"
                    )
        assert verify_ledger(self.driver.warehouse) == ()

    def check_complete(self) -> None:
        """What is due and free is covered, and inside the lookback live runs show what the shop holds now."""
        interval = self.pipeline.interval
        assert interval is not None
        live = self._live_here()
        working = list_runs(self.driver.warehouse, limit=1000, states=("running",))
        held = [run.interval for run in working if run.interval]
        done = [run.interval for run in live if run.interval]
        done += [span for table, span in self.taken_out if table == self.pipeline.destination.table]
        due = interval.grid.split(self.now)
        for each in due:
            if not any(each.overlaps(other) for other in held):
                assert is_covered(each, done), f"{each.key} is not published"
        watched = due[-interval.lookback :]
        for run in live:
            assert run.interval is not None
            if watched and run.interval.overlaps(DataInterval(watched[0].start, watched[-1].end)):
                covering = [each for each in (run.interval, *due) if each.overlaps(run.interval)]
                if any(each.overlaps(other) for each in covering for other in held):
                    continue  # a run that died has it until its lease ends
                assert self.shown[run.run_id] == self.rows_of(run.interval), f"{run.interval_key} is stale"

    def finish(self) -> None:
        """All that works dies, and a person resolves refusals: then one run heals, and the next does nothing."""
        self.paused = None
        while self.open:
            self.end(0)
        self.lapse()
        if not self.run_if_allowed():
            self.resolve()
            assert self.run_if_allowed(), f"still refused: {self.refusals}"
        self.check_complete()
        self.check()
        assert self.driver.run(self.now) == ["resolve", "collect logs", "plan"]

    def _scored_by(self, run: RunRecord, rows: dict[int, Payment]) -> dict[int, tuple[Any, ...]]:
        scores = self.scores_of[run.model_version]
        taken = {key: row.goods for key, row in rows.items() if row.goods in scores}
        return {key: (scores[what], GOODS[what][0], GOODS[what][2]) for key, what in taken.items()}

    def _views(self) -> dict[str, dict[str, dict[int, tuple[Any, ...]]]]:
        """Return by table, run and key what readers see."""
        found: dict[str, dict[str, dict[int, tuple[Any, ...]]]] = {}
        with self.driver.warehouse.reading() as connection:
            names = sa.inspect(connection).get_view_names()
            for table in [name for name in names if not name.endswith("_latest")]:
                view = sa.table(table, *map(sa.column, ("run_id", "payment_id", "score", "amount", "country")))
                for run_id, key, score, amount, country in connection.execute(sa.select(view)):
                    rows = found.setdefault(table, {}).setdefault(run_id, {})
                    assert key not in rows, "a row is seen twice"
                    rows[key] = score, amount, country
        return found
