"""One table scored by real runs, whatever stands in it; what came of it, row by row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from penstock.database.connections import Database, close_engines, open_database
from penstock.ledger.quarantine import quarantined_rows
from penstock.ledger.reader import RunRecord, list_runs
from penstock.models.registry import Registry
from penstock.run.planning import Mode
from penstock.settings import Settings
from penstock.spec.pipeline import Pipeline
from tests.driver import Driver
from tests.shop import START

GOOD = {"amount": 12.5, "items": 2, "country": "DE", "first": True}
FEATURES = tuple(GOOD)


@dataclass(frozen=True)
class Outcome:
    """What a run left: the last thing that it said, live rows and reasons of refused ones by key, and its record."""

    said: str
    live: dict[Any, dict[str, Any]]
    refused: dict[str, tuple[str, ...]]
    kept: dict[str, str]
    """The refused rows as the quarantine has them, by key."""
    record: RunRecord

    def check_accounted(self, rows: int) -> None:
        told = self.record.rows_scored, self.record.rows_quarantined, self.record.rows_excluded
        assert self.record.state == "published", self.said
        assert self.record.rows_extracted == rows == sum(n or 0 for n in told)
        assert (len(self.live), len(self.refused)) == told[:2]


class OneTable:
    """A shop and a warehouse, each in a dialect."""

    def __init__(self, make_url: Callable[..., str], registry: Registry, shop: str, warehouse: str) -> None:
        self.settings = Settings(
            connections={"shop": make_url(shop, "shop"), "warehouse": make_url(warehouse, "warehouse")}
        )
        self.registry, self.aware = registry, shop == "postgresql"
        self.time = {"sqlite": "timestamp", "postgresql": "timestamptz", "duckdb": "timestamptz"}[shop]

    def connect(self, name: str) -> Database:
        return open_database(self.settings, name)

    @property
    def shop(self) -> Database:
        return self.connect("shop")

    @property
    def warehouse(self) -> Database:
        return self.connect("warehouse")

    def create(self, columns: str, name: str = "payments") -> None:
        """Create a table with what every row needs, and some columns more."""
        needed = f'created_at {self.time}, amount double precision, items bigint, country text, "first" boolean'
        self.say(f"create table {name} ({needed}, {columns})")

    def say(self, *statements: str) -> None:
        with self.shop.writing() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def insert(self, *rows: dict[str, Any], name: str = "payments") -> None:
        """Insert rows with bound values; all of them at one in the morning of the first day."""
        moment = START + timedelta(hours=1)
        moment = moment if self.aware else moment.replace(tzinfo=None)
        with self.shop.writing() as connection:
            for row in rows:
                whole = {"created_at": moment, **GOOD, **row}
                table = sa.table(name, *(sa.column(sa.quoted_name(c, quote=True)) for c in whole))
                connection.execute(sa.insert(table).values(whole))

    def pipeline(self, key: str = "id", keep: Sequence[str] = (), **changed: Any) -> Pipeline:
        body: dict[str, Any] = {
            "name": "one-table",
            "interval": {"column": "created_at", "grain": "1d", "start": START},
            "sources": {"payments": {"kind": "sql", "connection": "shop", "table": "payments", "key": [key]}},
            "model": "card-risk@champion",
            "destination": {"connection": "warehouse", "table": "scores", "keep": list(keep)},
            "quarantine_limit": 1.0,
            "partition_rows": 2,
        }
        source = changed.pop("source", None)
        if source:
            body["sources"]["payments"] = {"kind": "sql", "connection": "shop", "key": [key], **source}
        body["sources"] |= changed.pop("more_sources", {})
        return Pipeline.model_validate(body | changed)

    def score(self, key: str = "id", keep: Sequence[str] = (), **changed: Any) -> Outcome:
        """Score the first day."""
        mode: Mode = changed.pop("mode", "due")
        span = (START, START + timedelta(days=1)) if mode == "restate" else (None, None)
        driver = Driver(self.pipeline(key, keep, **changed), self.connect, self.registry)
        said = driver.run(START + timedelta(days=1), mode, *span)[-1]
        return self.outcome(said, key)

    def outcome(self, said: str, key: str = "id") -> Outcome:
        record = list_runs(self.warehouse)[0]
        live: dict[Any, dict[str, Any]] = {}
        with self.warehouse.reading() as connection:
            if sa.inspect(connection).has_table("scores"):
                live = {row[key]: dict(row) for row in connection.execute(sa.text("select * from scores")).mappings()}
        refused = [row for row in quarantined_rows(self.warehouse, limit=1000) if row.run_id == record.run_id]
        told = Outcome(said, live, {r.key: r.reasons for r in refused}, {r.key: r.row for r in refused}, record)
        close_engines()
        return told
