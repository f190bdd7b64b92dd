"""A pipeline that has scored some days of a tiny shop, and that people then change."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from penstock.cli import plan as planning
from penstock.cli.app import app
from penstock.database.connections import Database
from penstock.errors import PenstockError
from penstock.ledger.reader import list_runs
from penstock.models.registry import Registry
from penstock.models.training import train
from penstock.privacy.masking import make_masking
from penstock.run.planning import Mode
from penstock.run_types import interval_label
from penstock.settings import Settings, load_settings
from penstock.spec.yaml_file import load_pipeline
from penstock.tasks.process_resources import connector
from penstock.upkeep.verify import verify_ledger
from tests.driver import Driver
from tests.shop import COUNTRIES, START, train_model, write_payments

SPEC = """
name: card-risk
interval: {column: created_at, grain: 1d, start: 2026-01-01T00:00:00Z, lookback: 1}
sources:
  payments: {kind: sql, connection: shop, table: payments, key: [payment_id], updated_column: updated_at}
model: card-risk@champion
destination: {connection: warehouse, table: card_risk_scores, keep: [amount, country]}
"""
HOURS = (3, 9, 15, 21)
"""When the payments of a day are made. The payments of day 2 have the keys 21 to 24."""
DAYS = 6


def payments() -> pa.Table:
    """Return four payments a day, whose keys begin with the day."""
    numbers = [(day, n) for day in range(1, DAYS + 1) for n in range(1, len(HOURS) + 1)]
    created = [START + timedelta(days=day - 1, hours=HOURS[n - 1]) for day, n in numbers]
    return pa.table(
        {
            "payment_id": pa.array([day * 10 + n for day, n in numbers], pa.int64()),
            "created_at": pa.array(created, pa.timestamp("us", "UTC")),
            "updated_at": pa.array(created, pa.timestamp("us", "UTC")),
            "amount": pa.array([day * 8.5 + n for day, n in numbers], pa.float64()),
            "items": pa.array([n * 2 for _, n in numbers], pa.int64()),
            "country": pa.array([COUNTRIES[n - 1] for _, n in numbers], pa.string()),
            "first": pa.array([n == 1 for _, n in numbers], pa.bool_()),
        }
    )


def train_models(store: Path) -> Registry:
    """Register two versions of a model, one that takes an `amount` only, and one with three classes."""
    registry = train_model(store)
    rows = payments()
    amounts, number = rows.select(["amount"]), rows["items"].to_numpy()
    whole = rows.select(["amount", "items", "country", "first"])
    label = pa.array((number > 4).astype(int))
    train(whole.append_column("label", label), "label", rounds=3).register(registry, "card-risk")
    train(amounts.append_column("label", label), "label", rounds=3).register(registry, "small-risk", alias="champion")
    names = pa.array(["low" if n < 4 else "middle" if n < 7 else "high" for n in number])
    classes = train(whole.append_column("label", names), "label", objective="multi:softprob", rounds=3)
    classes.register(registry, "class-risk", alias="champion")
    return registry


@dataclass
class ChangingPlace:
    """The pipeline's spec, its databases and what its commands answer at a given day."""

    folder: Path
    settings: Settings
    shop: Database
    registry: Registry
    monkeypatch: pytest.MonkeyPatch
    use_settings: Callable[..., Settings]
    database_url: Callable[[str, str], str]
    connections: dict[str, str]
    spec: Path = field(init=False)

    def __post_init__(self) -> None:
        self.spec = self.folder / "card-risk.yaml"
        self.spec.write_text(SPEC)

    # --- changes

    def edit(self, old: str, new: str) -> None:
        """Replace a text of the spec."""
        text = self.spec.read_text()
        assert old in text
        self.spec.write_text(text.replace(old, new))

    def add(self, line: str) -> None:
        """Add a line to the spec."""
        self.spec.write_text(f"{self.spec.read_text()}{line}\n")

    @property
    def interval_line(self) -> str:
        return next(line for line in self.spec.read_text().splitlines(keepends=True) if line.startswith("interval:"))

    def move(self, name: str, dialect: str) -> None:
        """Point a connection at an empty database."""
        self.connections[name] = self.database_url(dialect, f"new_{name}")
        self.settings = self.use_settings(**self.connections)

    def change(self, *statements: str) -> None:
        """Change the shop."""
        with self.shop.writing() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    # --- commands

    @property
    def driver(self) -> Driver:
        pipeline = load_pipeline(self.spec)
        return Driver(pipeline, connector(), self.registry, make_masking(pipeline, load_settings()))

    @property
    def warehouse(self) -> Database:
        return self.driver.warehouse

    def command(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the output of a command."""
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout + result.stderr

    def plan(self, day: float, *options: str) -> list[tuple[str, str]]:
        """Return the intervals and reasons that `penstock plan` lists at the end of a day."""
        code, text = self.command_on(day, "plan", str(self.spec), "--json", *options)
        assert code == 0, text
        return [(each["interval"], each["reason"]) for each in json.loads(text)["intervals"]]

    def refused_plan(self, day: float, *options: str) -> str:
        """Return the error of `penstock plan`."""
        code, text = self.command_on(day, "plan", str(self.spec), *options)
        assert code != 0, text
        return " ".join(text.split())

    @staticmethod
    def read_commands(text: str) -> list[str]:
        """Return the arguments of the commands that a message names."""
        return re.findall(r"`penstock ([^`]+)`", text)

    def command_on(self, day: float, *arguments: str) -> tuple[int, str]:
        now = end_of(day)

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override] # the clock stands
                return now

        with self.monkeypatch.context() as patch:
            patch.setattr(planning, "datetime", Clock)
            return self.command(*arguments)

    def run(self, day: float, mode: Mode = "due", start: str | None = None, end: str | None = None) -> list[str]:
        """Run at the end of a day. Return how each run ended, the oldest first: state, interval and error."""
        known = {run.run_id for run in list_runs(self.warehouse, limit=1000)}
        bounds = [datetime.fromisoformat(moment) if moment else None for moment in (start, end)]
        self.driver.run(end_of(day), mode, *bounds)
        new = [run for run in list_runs(self.warehouse, limit=1000) if run.run_id not in known]
        return [
            f"{run.state} {interval_label(run.interval)}" + (f": {run.error}" if run.error else "")
            for run in sorted(new, key=lambda run: (run.started_at, run.interval and run.interval.start))
        ]

    def refused_run(self, day: float, error: type[PenstockError]) -> str:
        """Return the message of a run that is refused, and which may change nothing that readers see."""
        before = self.states()
        with pytest.raises(error) as refused:
            self.driver.run(end_of(day))
        assert self.states() == before
        return str(refused.value)

    def states(self) -> list[str]:
        """Return state and interval of each run, the newest first."""
        return [f"{run.state} {interval_label(run.interval)}" for run in list_runs(self.warehouse, limit=1000)]

    # --- readers

    def view(self, *columns: str, table: str = "card_risk_scores", key: str = "payment_id") -> list[Any]:
        """Return the key and some columns of every row of the view, in the order of the keys."""
        with self.warehouse.reading() as connection:
            chosen = ", ".join((key, *columns))
            query = sa.text(f"select {chosen} from {table} order by {key}, run_id")
            rows = [tuple(row) for row in connection.execute(query)]
        return rows if columns else [key for (key,) in rows]

    def columns(self, table: str = "card_risk_scores") -> list[str]:
        """Return the view's columns, in order, without those of the run."""
        with self.warehouse.reading() as connection:
            found = list(connection.execute(sa.text(f"select * from {table} limit 0")).keys())
        return [name for name in found if name not in RUN_COLUMNS]

    def scores(self, *days: int, version: str = "1", name: str = "card-risk") -> dict[int, Any]:
        """Return the model's scores of the payments of some days, without a run."""
        rows = payments()
        scored = self.registry.load(self.registry.resolve(f"{name}@{version}")).score(rows)
        pairs = zip(rows["payment_id"].to_pylist(), scored["score"].to_pylist(), strict=True)
        wanted = set(keys(*days))
        return {key: score for key, score in pairs if key in wanted}

    def seen_scores(self, table: str = "card_risk_scores") -> dict[int, Any]:
        return dict(self.view("score", table=table))

    def verify(self) -> None:
        assert verify_ledger(self.warehouse) == ()


RUN_COLUMNS = ("interval_start", "interval_end", "model_name", "model_version", "model_digest", "scored_at", "run_id")


def end_of(day: float) -> datetime:
    return START + timedelta(days=day)


def keys(*days: int) -> list[int]:
    """Return the keys of the payments of some days."""
    return [day * 10 + n for day in days for n in range(1, len(HOURS) + 1)]


def fill_shop(database: Database) -> None:
    write_payments(database, payments())
